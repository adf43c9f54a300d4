//! Processes that look like tasks of a restore, and have nothing to do with it.

use std::fs;
use std::process::{Child, Command, Stdio};

use criu_lab::process::{send, state};
use criu_lab::{payload, place, soon};
use criu_rs::{Error, HookResult, Hooks, Pid, Restore};
use nix::sys::signal::Signal;

use crate::lab::{Lab, TestFn};

pub const TESTS: &[(&str, TestFn)] = &[
    ("a_process_with_the_number_and_the_program_of_a_task_survives", same_number),
    ("a_criu_with_the_number_of_a_task_survives", other_criu),
    ("a_zombie_with_the_number_of_a_task_is_left_to_its_parent", zombie),
];

/// Starts a program with a number of its own choice, which nobody else has.
fn start_as(wanted: Pid, mut command: impl FnMut() -> Command) -> Child {
    let _alone = place::alone("numbers");
    for _ in 0..200 {
        let before = (wanted.as_raw() - 1).to_string();
        fs::write("/proc/sys/kernel/ns_last_pid", before).unwrap();
        let mut child = command().spawn().unwrap();
        if Pid::from(&child) == wanted {
            return child;
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    panic!("somebody else takes number {wanted} again and again");
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
        decoy = Some(start_as(pid, || payload::command(&["count"], &file)));
    });
    if !is_done {
        return;
    }
    let mut decoy = decoy.unwrap();
    let count = || fs::read_to_string(&file).unwrap_or_default();
    let begun = count();
    assert!(soon(|| count() != begun), "it was stopped");
    assert!(decoy.try_wait().unwrap().is_none(), "it was killed");
    decoy.kill().unwrap();
    decoy.wait().unwrap();
}

/// Somebody else starts a criu, and it gets the number of a task.
fn other_criu(lab: &Lab) {
    let service = || {
        let mut command = Command::new(&lab.program);
        command.args(["service", "--address", "socket"]).current_dir(&lab.dir);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    let mut decoy = None;
    let is_done = restore(lab, |pid| decoy = Some(start_as(pid, service)));
    if is_done {
        let mut decoy = decoy.unwrap();
        assert!(soon(|| lab.dir.join("socket").exists()), "it was stopped");
        assert!(decoy.try_wait().unwrap().is_none(), "it was killed");
        decoy.kill().unwrap();
        decoy.wait().unwrap();
    }
}

fn zombie(lab: &Lab) {
    let mut decoy = None;
    let is_done = restore(lab, |pid| {
        decoy = Some(start_as(pid, || Command::new("true")));
        assert!(soon(|| state(pid) == Some('Z')));
    });
    if is_done {
        assert!(decoy.unwrap().wait().unwrap().success());
    }
}
