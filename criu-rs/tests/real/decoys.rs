//! Processes that look like tasks of a restore, and have nothing to do with it.

use std::fs;
use std::process::Command;

use criu_lab::process::{send, state};
use criu_lab::{payload, raw, soon};
use criu_rs::{Error, HookResult, Hooks, Pid, Restore};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

use crate::lab::{Lab, TestFn};

pub const TESTS: &[(&str, TestFn)] = &[
    ("a_process_with_the_number_and_the_program_of_a_task_survives", same_number),
    ("a_criu_with_the_number_of_a_task_survives", other_criu),
    ("a_reader_of_the_log_with_the_number_of_a_task_survives", log_reader),
    ("a_zombie_with_the_number_of_a_task_is_left_to_its_parent", zombie),
];

/// A child with a number of the test's choice, which is killed when dropped.
struct Decoy(nix::unistd::Pid);

impl Decoy {
    fn start(number: Pid, command: &Command) -> Self {
        raw::spawn_as(number.as_raw(), command).unwrap();
        Self(nix::unistd::Pid::from_raw(number.as_raw()))
    }

    /// Returns how the child has ended, if it has.
    fn end(&self) -> WaitStatus {
        waitpid(self.0, Some(WaitPidFlag::WNOHANG)).unwrap()
    }
}

impl Drop for Decoy {
    fn drop(&mut self) {
        // Nobody else has the number before somebody has waited.
        if waitpid(self.0, Some(WaitPidFlag::WNOHANG)) == Ok(WaitStatus::StillAlive) {
            let _ = kill(self.0, Signal::SIGKILL);
            let _ = waitpid(self.0, None);
        }
    }
}

/// Hooks that kill criu before it has made a task, and do something then.
struct Killed<F> {
    criu: Option<Pid>,
    then: F,
}

impl<F: FnMut()> Hooks for Killed<F> {
    fn pre_restore(&mut self) -> HookResult {
        let criu = self.criu.take().unwrap();
        send(criu, Signal::SIGKILL);
        assert!(soon(|| matches!(state(criu), None | Some('Z'))));
        (self.then)();
        Ok(())
    }
}

/// Saves a payload, and has its restore fail because criu was killed, before `then`.
fn restore(lab: &Lab, then: impl FnMut(Pid)) -> bool {
    let mut then = then;
    let mut target = lab.start(&["count"]);
    let images = lab.dump(&mut target);
    let session = Restore::new(&images).start(&lab.criu).unwrap();
    // libcriu does not tell.
    let Some(criu) = session.pid() else { return false };
    let pid = target.pid;
    // It would be ended by its number.
    std::mem::forget(target);
    let mut hooks = Killed { criu: Some(criu), then: || then(pid) };
    let error = session.finish(&mut hooks).unwrap_err();
    assert!(matches!(error, Error::Failed(_)), "{error}");
    true
}

fn same_number(lab: &Lab) {
    let file = lab.dir.join("decoy");
    let mut decoy = None;
    let is_done = restore(lab, |pid| {
        decoy = Some(Decoy::start(pid, &payload::command(&["count"], &file)));
    });
    if !is_done {
        return;
    }
    let decoy = decoy.unwrap();
    let count = || fs::read_to_string(&file).unwrap_or_default();
    let begun = count();
    assert!(soon(|| count() != begun), "it was stopped");
    assert_eq!(decoy.end(), WaitStatus::StillAlive, "it was killed");
}

/// Somebody else starts a criu, and it gets the number of a task.
fn other_criu(lab: &Lab) {
    let mut service = Command::new(&lab.program);
    service.args(["service", "--address", "socket"]).current_dir(&lab.dir);
    let mut decoy = None;
    let is_done = restore(lab, |pid| decoy = Some(Decoy::start(pid, &service)));
    if is_done {
        let decoy = decoy.unwrap();
        assert!(soon(|| lab.dir.join("socket").exists()), "it was stopped");
        assert_eq!(decoy.end(), WaitStatus::StillAlive, "it was killed");
    }
}

/// Somebody follows criu's log, and the program that does so gets the number of a task.
fn log_reader(lab: &Lab) {
    let log = lab.dir.join("images/restore.log");
    let mut follow = Command::new("sh");
    follow.args(["-c", "exec sleep 1000 < \"$0\""]).arg(&log);
    let mut decoy = None;
    let is_done = restore(lab, |pid| {
        decoy = Some(Decoy::start(pid, &follow));
        assert!(soon(|| fs::read_link(format!("/proc/{pid}/fd/0")).is_ok_and(|to| to == log)));
    });
    if is_done {
        assert_eq!(decoy.unwrap().end(), WaitStatus::StillAlive, "it was killed");
    }
}

fn zombie(lab: &Lab) {
    let mut decoy = None;
    let is_done = restore(lab, |pid| {
        decoy = Some(Decoy::start(pid, &Command::new("true")));
        assert!(soon(|| state(pid) == Some('Z')));
    });
    if is_done {
        assert!(matches!(decoy.unwrap().end(), WaitStatus::Exited(_, 0)));
    }
}
