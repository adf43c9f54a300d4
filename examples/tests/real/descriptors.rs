//! Descriptors that a caller has left open, and the programs that this program starts or becomes.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use criu_lab::soon;
use criu_rs::Pid;
use nix::unistd::dup;

use crate::lab::{Lab, TestFn, run};

pub const TESTS: &[(&str, TestFn)] = &[
    ("the_criu_that_the_program_becomes_gets_the_named_descriptors", become_criu),
    ("descriptors_named_by_path_are_those_of_the_caller", by_path),
    ("a_runtime_gets_no_descriptor_of_the_caller", runtime),
    ("a_daemon_keeps_no_descriptor_of_the_caller", daemon),
    ("a_command_after_a_restore_gets_the_descriptors_of_the_caller", exec_cmd),
];

/// Both ends of a pipe, neither of them close-on-exec, and the pipe's name.
fn leak() -> ((OwnedFd, OwnedFd), String) {
    let ends = nix::unistd::pipe().unwrap();
    let name = fs::read_link(format!("/proc/self/fd/{}", ends.0.as_raw_fd())).unwrap();
    (ends, name.to_str().unwrap().into())
}

/// A program that writes down what is open in it, and the file for that.
fn recorder(lab: &Lab) -> (PathBuf, PathBuf) {
    let (record, program) = (lab.dir.join("record"), lab.dir.join("recorder"));
    let text = format!(
        "#!/bin/sh
exec > {}
exec ls -l /proc/self/fd
",
        record.display()
    );
    fs::write(&program, text).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    (program, record)
}

fn become_criu(lab: &Lab) {
    let (program, record) = recorder(lab);
    let (left, name) = leak();
    let (given, wanted) = leak();
    let (left, given) = (left.0.as_raw_fd(), given.0.as_raw_fd().to_string());
    let seen = |words: &[&str]| {
        run(lab.command(words).env("CRIU", &program));
        let seen = fs::read_to_string(&record).unwrap();
        fs::remove_file(&record).unwrap();
        seen
    };
    let status = format!("--status-fd={given}");
    let inherit = format!("fd[{given}]:pipe:[7]");
    fs::write(lab.dir.join("file.conf"), format!("status-fd {given}\n")).unwrap();
    let config = lab.path("file.conf");
    for words in [
        &["service", "--status-fd", &given][..],
        &["service", &status],
        &["service", "--ps-socket", &given],
        &["restore", "-d", "--restore-sibling", "--inherit-fd", &inherit],
        &["cpuinfo", "dump", "--config", &config],
        &["service", "-o", &format!("/dev/fd/{given}")],
        &["service", &format!("-o/proc/self/fd/{given}")],
        &["service", &format!("--images-dir=/proc/self/fd/{given}/img")],
        &["cpuinfo", "dump", "--config", &format!("/dev/fd/{given}")],
    ] {
        let seen = seen(words);
        assert!(seen.contains(&wanted) && !seen.contains(&name), "{left}: {words:?}: {seen}");
    }
    for words in [&["service"][..], &["cpuinfo", "dump"], &["check", "--feature", "list"]] {
        let seen = seen(words);
        assert!(!seen.contains(&wanted) && !seen.contains(&name), "{words:?}: {seen}");
    }
    // Requests name the descriptors of a worker.
    let seen = seen(&["swrk", &given]);
    assert!(seen.contains(&wanted) && seen.contains(&name), "{seen}");
}

/// A log, a directory and a process id that go where the caller has opened a file.
fn by_path(lab: &Lab) {
    let images = lab.dir("img");
    let log = lab.dir.join("log");
    fs::write(&log, "before\n").unwrap();
    let open = fs::File::options().append(true).open(&log).unwrap();
    let (open, directory) = (dup(open).unwrap(), dup(fs::File::open(&images).unwrap()).unwrap());
    let (to, at) = (open.as_raw_fd(), format!("/proc/self/fd/{}", directory.as_raw_fd()));
    let mut target = lab.start(&["count"]);
    let said = || fs::read_to_string(&log).unwrap();
    let dump = ["dump", "-t", &target.pid(), "-v4", "-o", &format!("/dev/fd/{to}")];
    lab.done(&[&dump[..], &["-D", &at, "-R"]].concat());
    assert!(said().starts_with("before\n") && said().contains("Dumping finished"), "{}", said());
    let failed = lab.run(&[&dump[..], &["-D", &images, "--action-script", "/bin/false"]].concat());
    failed.fails(1, &[&format!("/dev/fd/{to}")]);
    lab.done(&[&dump[..], &["-D", &images]].concat());
    target.is_gone();
    let before = said().len();
    lab.done(&["restore", "-D", &at, "-d", "-v4", "-o", &format!("/proc/self/fd/{to}")]);
    target.restored_as(target.pid);
    target.goes_on();
    assert!(said()[before..].contains("Restore finished"), "{}", &said()[before..]);
    // Another descriptor is not made up.
    let ran = lab.run(&["check", "-o", "/dev/fd/987"]);
    ran.fails(1, &["--log-file /dev/fd/987", "cannot use the descriptor"]);
}

fn runtime(lab: &Lab) {
    let (program, record) = recorder(lab);
    let (_left, name) = leak();
    let program = program.to_str().unwrap();
    let images = lab.path("images");
    let ran = lab.run(&["container", "checkpoint", "--runtime", program, "-D", &images, "it"]);
    assert_ne!(ran.code, Some(0), "{ran:?}");
    let seen = fs::read_to_string(&record).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
    assert!(!seen.contains(&name), "{seen}");
}

fn daemon(lab: &Lab) {
    let (_left, name) = leak();
    let images = lab.dir("images");
    let (status, status_name) = leak();
    let number = status.1.as_raw_fd().to_string();
    lab.done(&[
        "page-server",
        "-D",
        &images,
        "--address",
        "127.0.0.1",
        "--daemon",
        "--pidfile",
        "pid",
        "--status-fd",
        &number,
    ]);
    drop(status.1);
    // The daemon says that it is ready, and closes the descriptor.
    let mut ready = [0; 2];
    assert_eq!(nix::unistd::read(&status.0, &mut ready), Ok(1));
    let pid = fs::read_to_string(Path::new(&images).join("pid")).unwrap();
    let open = |pid: &str| {
        let all = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
        all.filter_map(|fd| fs::read_link(fd.path()).ok()).collect::<Vec<_>>()
    };
    assert!(soon(|| !open(&pid).contains(&status_name.clone().into())));
    let seen = open(&pid);
    criu_lab::process::send(pid.parse::<Pid>().unwrap(), nix::sys::signal::Signal::SIGTERM);
    assert!(!seen.contains(&name.into()), "{seen:?}");
}

fn exec_cmd(lab: &Lab) {
    let images = lab.dir("images");
    let mut target = lab.start(&["count"]);
    lab.done(&["dump", "-t", &target.pid(), "-D", &images]);
    target.is_gone();
    let (_left, name) = leak();
    let ran =
        lab.done(&["restore", "-D", &images, "--exec-cmd", "--", "ls", "-l", "/proc/self/fd"]);
    assert!(ran.out.contains(&name), "{ran:?}");
    let path = PathBuf::from(&name);
    let pid: Pid = target.pid().parse().unwrap();
    target.restored_as(pid);
    let all = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let held: Vec<PathBuf> = all.filter_map(|fd| fs::read_link(fd.path()).ok()).collect();
    assert!(!held.contains(&path), "{held:?}");
    target.goes_on();
}
