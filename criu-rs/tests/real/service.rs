//! A `criu service`, as root and as nobody, and a socket that somebody else has connected.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use criu_rs::{AfterDump, Cause, Criu, Dump, Error, InheritFd, Pid, Restore, Version};

use crate::lab::{Lab, TestFn};

pub const TESTS: &[(&str, TestFn)] = &[
    ("service_as_root", as_root),
    ("service_as_nobody", as_nobody),
    ("service_refuses_what_needs_a_child", needs_a_child),
    ("service_cannot_be_reached", cannot_be_reached),
    ("one_connection_serves_questions_and_a_dump", one_connection),
    ("a_hook_refuses_over_a_service_too", refused_over_service),
];

/// A running service of a lab's criu.
pub struct Service(criu_lab::Service);

impl Service {
    pub fn start(lab: &Lab) -> Self {
        let answers = |socket: &Path| Criu::service(socket).version().is_ok();
        Self(criu_lab::Service::start(&lab.program, &lab.dir, answers))
    }

    pub fn criu(&self) -> Criu {
        Criu::service(self.0.socket())
    }
}

fn as_root(lab: &Lab) {
    let service = Service::start(lab);
    let criu = service.criu();
    assert_eq!(criu.version().unwrap(), lab.version);
    assert_eq!(criu.features().unwrap(), lab.criu.features().unwrap());
    criu.check().unwrap();
    assert_eq!(criu.program().unwrap(), None);

    let images = lab.dir("images");
    let mut target = lab.start(&["count"]);
    let dumped = Dump::new(target.pid, &images).run(&criu).unwrap();
    assert!(dumped.stats.is_ok());
    target.is_gone();
    let restored = Restore::new(&images).run(&criu).unwrap();
    assert_eq!(restored.pid, target.pid);
    target.restored_as(restored.pid);
    target.goes_on();

    // What went wrong is told as with a child, from the log in our directory.
    let error = Restore::new(&images).run(&criu).unwrap_err();
    assert_eq!(error.cause(), Some(Cause::PidInUse), "{error}");
    target.goes_on();
}

fn as_nobody(lab: &Lab) {
    let service = Service::start(lab);
    // CRIU 4.3 keeps others out, 4.1 does not.
    let mode = fs::metadata(service.0.socket()).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, if lab.version < Version::new(4, 2, 0) { 0o666 } else { 0o600 }, "{mode:o}");
    fs::set_permissions(service.0.socket(), fs::Permissions::from_mode(0o666)).unwrap();
    let images = lab.dir("images");
    let target = lab.start(&["user"]);
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--payload", "client"])
        .args([service.0.socket(), &images])
        .arg(target.pid.to_string())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    let status = procfs::process::Process::myself().unwrap().status().unwrap();
    // Without CAP_SYS_RESOURCE not even root's CRIU can dump another user's process. Its log, which
    // says so, is root's.
    let capable = status.capeff & (1 << 24) != 0;
    let denied = "dump failed; cannot read dump.log: Permission denied (os error 13)";
    let dump = if capable { "dumped" } else { denied };
    assert_eq!(said, format!("uid 65534\nversion {}\nfeatures true\n{dump}\n", lab.version));
    target.goes_on();
}

/// The client that [`as_nobody`] starts.
pub fn client(words: &[&str]) {
    nix::unistd::setgid(65534.into()).unwrap();
    nix::unistd::setuid(65534.into()).unwrap();
    println!("uid {}", nix::unistd::geteuid());
    let criu = Criu::service(words[0]);
    println!("version {}", criu.version().unwrap());
    println!("features {}", criu.features().unwrap().lazy_pages.is_some());
    let pid: Pid = words[2].parse().unwrap();
    let dump = Dump::new(pid, Path::new(words[1])).after_dump(AfterDump::LeaveRunning);
    match dump.run(&criu) {
        Ok(_) => println!("dumped"),
        Err(error) => println!("{error}"),
    }
}

fn needs_a_child(lab: &Lab) {
    let service = Service::start(lab);
    let images = lab.dir("images");
    let null = fs::File::open("/dev/null").unwrap();
    let restore = Restore::new(&images);
    for restore in [
        restore.clone().rst_sibling(true),
        restore.clone().inherit_fd(InheritFd::new("pipe:[1]", &null)),
    ] {
        let error = restore.run(&service.criu()).unwrap_err();
        assert!(matches!(error, Error::NotOverSocket { .. }), "{error}");
    }
    let target = lab.start(&["count"]);
    let dump = Dump::new(target.pid, &images).page_server_socket(&null);
    let error = dump.run(&service.criu()).unwrap_err();
    assert!(matches!(error, Error::NotOverSocket { .. }), "{error}");
    target.goes_on();
}

fn cannot_be_reached(lab: &Lab) {
    let error = Criu::service(lab.dir.join("nobody-there")).version().unwrap_err();
    assert!(matches!(error, Error::Connect { .. }), "{error}");
    assert!(error.to_string().contains("nobody-there"), "{error}");
}

fn one_connection(lab: &Lab) {
    let service = Service::start(lab);
    let criu = Criu::connected(service.0.connect());
    assert_eq!(criu.version().unwrap(), lab.version);
    assert!(criu.features().unwrap().mem_track.is_some());
    let images = lab.dir("images");
    let target = lab.start(&["count"]);
    let dump = Dump::new(target.pid, &images).after_dump(AfterDump::LeaveRunning);
    dump.run(&criu).unwrap();
    target.goes_on();
    // The dump was the connection's last.
    let error = criu.version().unwrap_err();
    assert!(matches!(error, Error::Failed(_)), "{error}");
}

fn refused_over_service(lab: &Lab) {
    struct No;
    impl criu_rs::Hooks for No {
        fn pre_resume(&mut self) -> criu_rs::HookResult {
            Err("no".into())
        }
        fn post_dump(&mut self) -> criu_rs::HookResult {
            Err("no".into())
        }
    }
    let service = Service::start(lab);
    let images = lab.dir("images");
    let mut target = lab.start(&["tree", "3"]);
    let dump = Dump::new(target.pid, &images);
    let error = dump.run_with(&service.criu(), &mut No).unwrap_err();
    assert!(matches!(error, Error::Hook { .. }), "{error}");
    target.goes_on();
    assert_eq!(criu_lab::names(&images), ["dump.log"]);
    dump.run(&service.criu()).unwrap();
    target.is_gone();
    // CRIU itself goes on after a refusal there, and a service is not ours to end.
    let error = Restore::new(&images).run_with(&service.criu(), &mut No).unwrap_err();
    assert!(matches!(error, Error::Hook { .. }), "{error}");
    target.is_gone();
}
