//! The machine here, and the programs on it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use criu_archive::record::{
    CgroupVersion, Container, Host, Program, Record, State, Tool, ToolKind,
};
use criu_lab::scratch;

fn said(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn the_machine_here_is_as_its_programs_say() {
    let host = Host::here();
    assert_eq!(host.name, said("uname", &["-n"]));
    assert_eq!(host.kernel, said("uname", &["-r"]));
    assert_eq!(host.architecture, said("uname", &["-m"]));
    assert_eq!(host.page_size.to_string(), said("getconf", &["PAGE_SIZE"]));
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap();
    assert!(!host.cpu.features.is_empty() && cpuinfo.contains(&host.cpu.name));
    for feature in &host.cpu.features {
        assert!(cpuinfo.contains(&**feature), "{feature}");
    }
    assert!(!matches!(host.cgroups.version, CgroupVersion::Other(_)), "{:?}", host.cgroups);
    assert!(host.lsm.modules.iter().any(|module| module == "capability"), "{:?}", host.lsm);
    assert_eq!(host.features["net_namespaces"], Path::new("/proc/self/ns/net").exists());
    assert_eq!(host.features["kvm"], Path::new("/dev/kvm").exists());
    assert_eq!(host.gpus.is_some(), Path::new("/proc/driver/nvidia/gpus").exists());
    assert_eq!(host.programs, None);
}

#[test]
fn a_program_tells_its_version() {
    for (suite, line) in [("trixie", "4.1.1"), ("experimental", "4.3")] {
        let path = criu_lab::place::criu(suite);
        let criu = Program::ask(&ToolKind::Criu, &path).unwrap();
        assert_eq!((&*criu.version, Path::new(&criu.path)), (line, &*path));
        // It is no other tool.
        let error = Program::ask(&ToolKind::Runsc, &path).unwrap_err().to_string();
        assert!(error.ends_with("tells no version of runsc"), "{error}");
    }
    let runsc = Program::ask(&ToolKind::Runsc, &criu_lab::place::runsc()).unwrap();
    let expected = format!("runsc version {}", runsc.version);
    assert!(said(&runsc.path, &["--version"]).starts_with(&expected), "{runsc:?}");
    // QEMU is installed for the tests.
    let mut record = Record::new("test 1");
    record.state = State::Complete;
    record.containers.push(Container::new("a", "1", Tool::new(ToolKind::Qemu, "7.0")));
    record.containers.push(Container::new("b", "2", Tool::new(ToolKind::Firecracker, "1.7")));
    let host = Host::default().with_programs(&record);
    let programs = host.programs.as_deref().unwrap();
    let [qemu] = programs else { panic!("{programs:?}") };
    assert!(said(&qemu.path, &["--version"]).contains(&qemu.version), "{qemu:?}");
    let [finding, unknown] = &record.verify_host(&host)[..] else { panic!() };
    let expected = "error: container b: firecracker made the checkpoint, and is not found here";
    assert_eq!(finding.to_string(), expected);
    let expected = "note: the record says nothing of the machine of the checkpoint: processor, \
                    kernel and cgroups were not compared";
    assert_eq!(unknown.to_string(), expected);
    record.host = Some(Host::default());
    assert_eq!(record.verify_host(&host)[1].to_string(), expected);
}

#[test]
fn a_program_that_does_not_answer_is_an_error() {
    let directory = scratch("record-programs");
    let program = |name: &str, script: &str| {
        let path = directory.join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Program::ask(&ToolKind::Runsc, &path)
    };
    assert!(program("silent", "exit 0").is_err());
    assert!(program("endless", "exec yes 'Version: none'").is_err());
    assert!(program("other", "echo runsc version none").is_err());
    assert!(Program::ask(&ToolKind::Criu, &directory.join("none")).is_err());
}

#[test]
fn a_program_that_leaves_a_child_with_its_output_is_not_waited_for() {
    let directory = scratch("record-wrapper");
    let path = directory.join("wrapper");
    // The child lives until the directory is gone, longer than any patience of a test.
    let child = format!("while test -d {}; do sleep 0.1; done", directory.display());
    let script = format!("#!/bin/sh\n( {child} ) &\necho runsc version 7.1\n");
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let (sender, answer) = mpsc::channel();
    thread::spawn(move || sender.send(Program::ask(&ToolKind::Runsc, &path)));
    let answer = answer.recv_timeout(Duration::from_secs(60));
    fs::remove_dir_all(&directory).unwrap();
    assert_eq!(answer.unwrap().unwrap().version, "7.1");
}
