//! The report of a look before the freeze beside the dump that follows: the two have to agree.

mod causes;
mod files;
mod halves;
mod host;
mod interrupted;
mod kinds;
mod outer;
mod programs;
mod restore;
mod sockets;

use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use criu_lab::soon;
use criu_rs::preflight::{Finding, Report};
use criu_rs::{AfterDump, Cause, Dump, Error, Version};

use crate::lab::{Lab, Target, TestFn};

pub fn tests() -> Vec<(&'static str, TestFn)> {
    [
        causes::TESTS,
        files::TESTS,
        halves::TESTS,
        host::TESTS,
        interrupted::TESTS,
        kinds::TESTS,
        outer::TESTS,
        sockets::TESTS,
        programs::TESTS,
        restore::TESTS,
    ]
    .concat()
}

/// Asserts that the look foresees the cause and that CRIU fails with it. The process goes on.
#[track_caller]
fn foreseen(lab: &Lab, target: &Target, cause: Cause) -> Report {
    foreseen_of(lab, Dump::new(target.pid, lab.fresh("foreseen")), cause).0
}

/// Asserts that the look at a dump foresees the cause and that CRIU fails with it.
#[track_caller]
fn foreseen_of(lab: &Lab, dump: Dump<'_>, cause: Cause) -> (Report, Error) {
    let dump = dump.after_dump(AfterDump::LeaveRunning);
    let report = dump.preflight(&lab.criu).unwrap();
    let error = dump.run(&lab.criu).unwrap_err();
    assert_eq!(error.cause(), Some(cause), "{error}\n{:#?}\n{report}", error.failure());
    assert!(report.foresees(cause), "not {cause:?}, which CRIU fails with:\n{report}");
    assert!(!report.will_work(), "{report}");
    (report, error)
}

/// Asserts that the dump works with the options of the report, and that the next look says so.
#[track_caller]
fn works_with_options(lab: &Lab, target: &Target, report: &Report) {
    assert!(report.is_possible(), "{report}");
    assert_ne!(report.options(), [], "{report}");
    let images = lab.fresh("options");
    let dump = Dump::new(target.pid, &images).after_dump(AfterDump::LeaveRunning);
    let dump = report.options().iter().fold(dump, |dump, need| need.set(dump));
    let report = dump.preflight(&lab.criu).unwrap();
    assert!(report.will_work(), "{report}");
    dump.run(&lab.criu).unwrap_or_else(|error| panic!("{error}\n{:#?}", error.failure()));
    target.goes_on();
}

/// Asserts that the dump needs only the options that are set without asking.
#[track_caller]
fn works_by_itself(lab: &Lab, target: &Target, report: &Report) {
    assert_eq!(report.options(), report.safe_options(), "{report}");
    works_with_options(lab, target, report);
    let images = lab.fresh("by-itself");
    let dump = Dump::new(target.pid, &images).after_dump(AfterDump::LeaveRunning);
    dump.with_preflight(report).run(&lab.criu).unwrap();
}

/// Asserts that no option helps, and returns the first finding that blocks.
#[track_caller]
fn is_blocked(report: &Report) -> &Finding {
    assert!(!report.is_possible(), "{report}");
    report.blocks().next().unwrap()
}

/// The cause of a failure with internet sockets. CRIU 4.1 cannot save any on the tested kernel.
fn of_sockets(lab: &Lab, cause: Cause) -> Cause {
    if lab.version < Version::new(4, 2, 0) { Cause::CriuTooOld } else { cause }
}

impl Lab {
    /// Makes a new directory whose name begins with `name`.
    pub fn fresh(&self, name: &str) -> PathBuf {
        let names = (0..).map(|n| format!("{name}-{n}"));
        let name = names.into_iter().find(|name| !self.dir.join(name).exists());
        self.dir(&name.unwrap())
    }

    /// Starts a Python program in a session of its own, which counts once it has run `code`.
    pub fn python(&self, code: &str) -> Target {
        self.python_in(&[], code)
    }

    /// Starts a Python program through a command that executes it, such as unshare.
    pub fn python_in(&self, before: &[&str], code: &str) -> Target {
        self.python_around(before, "", code, "/dev/null")
    }

    /// Starts a Python program that runs `head` first and has a file as standard input.
    fn python_around(&self, before: &[&str], head: &str, code: &str, input: &str) -> Target {
        let place = self.fresh("python");
        // For programs that become another user.
        std::fs::set_permissions(&place, std::fs::Permissions::from_mode(0o777)).unwrap();
        let file = place.join("count");
        let program =
            format!("{head}\n{HEAD}{code}\n{}", TAIL.replace("FILE", file.to_str().unwrap()));
        let program = program.replace("ERRORS", file.with_extension("err").to_str().unwrap());
        let mut words = before.to_vec();
        // The last word may be another Python.
        if !before.last().is_some_and(|word| word.ends_with("/program")) {
            words.push("/usr/bin/python3");
        }
        let mut command = Command::new("/usr/bin/env");
        command.arg("--").args(words).args(["-S", "-c", &program]);
        command.stdin(File::open(input).unwrap()).stdout(Stdio::null());
        command.stderr(File::create(file.with_extension("start")).unwrap());
        let target = Target::started(command.spawn().unwrap(), file.clone());
        let said = || std::fs::read_to_string(file.with_extension("err")).unwrap_or_default();
        assert!(soon(|| target.count() > 1), "the program does not start: {}", said());
        target
    }
}

const HEAD: &str = "\
import ctypes, mmap, os, signal, socket, struct, subprocess, sys, threading, time, fcntl
os.setsid()
# Opened in whatever mount namespace it is in.
for n, path in enumerate(['/dev/null', '/dev/null', 'ERRORS']):
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    os.dup2(fd, n)
    os.close(fd)
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *words):
    result = libc.syscall(number, *words)
    assert result >= 0, os.strerror(ctypes.get_errno())
    return result
";

const TAIL: &str = "\
count = os.open('FILE', os.O_WRONLY | os.O_CREAT)
n = 0
while True:
    n += 1
    os.pwrite(count, b'%020d' % n, 0)
    time.sleep(0.002)
";
