//! Descriptors that the caller has left open, and the programs that this crate starts.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use criu_rs::{Check, Criu, Dump, HookResult, Hooks, Pid, ProbeCache, Restore};
use procfs::process::all_processes;

use crate::lab::{Lab, TestFn};

pub const TESTS: &[(&str, TestFn)] = &[
    ("no_descriptor_of_the_caller_reaches_criu", real),
    ("criu_gets_exactly_the_descriptors_that_are_named", exact),
];

/// Both ends of a pipe, neither of them close-on-exec, and the pipe's name.
fn leak() -> ((OwnedFd, OwnedFd), String) {
    let ends = nix::unistd::pipe().unwrap();
    let name = fs::read_link(format!("/proc/self/fd/{}", ends.0.as_raw_fd())).unwrap();
    (ends, name.to_str().unwrap().into())
}

/// Processes that have a file open, without this one.
fn holders(name: &str) -> Vec<String> {
    let is_held = |pid: i32| {
        let all = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        all.into_iter().any(|fd| fs::read_link(fd.path()).is_ok_and(|to| to == Path::new(name)))
    };
    let own = i32::try_from(std::process::id()).unwrap();
    let all = all_processes().unwrap().flatten().map(|process| process.pid);
    all.filter(|pid| *pid != own && is_held(*pid))
        .map(|pid| format!("{pid}: {:?}", fs::read_link(format!("/proc/{pid}/exe"))))
        .collect()
}

/// Hooks that look who has a file open, while criu stands still.
struct Look<'a> {
    name: &'a str,
    looks: usize,
}

impl Look<'_> {
    fn look(&mut self) -> HookResult {
        assert_eq!(holders(self.name), [""; 0]);
        self.looks += 1;
        Ok(())
    }
}

impl Hooks for Look<'_> {
    fn pre_dump(&mut self) -> HookResult {
        self.look()
    }

    fn post_dump(&mut self) -> HookResult {
        self.look()
    }

    fn post_restore(&mut self, _: Pid) -> HookResult {
        self.look()
    }
}

fn real(lab: &Lab) {
    let images = lab.dir("images");
    let mut target = lab.start(&["count"]);
    let (_ends, name) = leak();
    let mut hooks = Look { name: &name, looks: 0 };
    Dump::new(target.pid, &images).run_with(&lab.criu, &mut hooks).unwrap();
    target.is_gone();
    let restored = Restore::new(&images).run_with(&lab.criu, &mut hooks).unwrap();
    target.restored_as(restored.pid);
    assert_eq!(hooks.looks, 3);
    assert_eq!(holders(&name), [""; 0], "the restored tasks");
    target.goes_on();
}

/// A program that takes criu's place writes down what is open in it.
fn exact(lab: &Lab) {
    let (record, program) = (lab.dir.join("record"), lab.dir.join("recorder"));
    let script = format!(
        "#!/bin/sh
exec > {}
exec ls -l /proc/self/fd
",
        record.display()
    );
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let (_ends, name) = leak();
    let other = Criu::at(&program);

    Check::new().run(&other).unwrap_err();
    let seen = fs::read_to_string(&record).unwrap();
    assert!(!seen.contains(&name), "{seen}");
    let number = |line: &str| line.split_once(" -> ")?.0.rsplit(' ').next()?.parse().ok();
    let numbers: Vec<u32> = seen.lines().filter_map(number).collect();
    // The last one is the folder that `ls` reads, behind the streams and the socket.
    assert_eq!(numbers, [0, 1, 2, 3, 4], "{seen}");
    fs::remove_file(&record).unwrap();

    // CRIU keeps its own findings where /run is a tmpfs, and is not started for them.
    if ProbeCache::make(&other).is_err() {
        let seen = fs::read_to_string(&record).unwrap();
        assert!(!seen.contains(&name), "{seen}");
    }
    // The caller's own programs get what they got before.
    let own = std::process::Command::new("ls").args(["-l", "/proc/self/fd"]).output().unwrap();
    assert!(String::from_utf8_lossy(&own.stdout).contains(&name));
}
