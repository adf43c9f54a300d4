//! Dumps and restores of plain processes.

use criu_rs::{AfterDump, Dump, Restore};

use crate::lab::{Lab, TestFn, names};

pub const TESTS: &[(&str, TestFn)] = &[
    ("dump_kills_and_restore_goes_on", dump_kills_and_restore_goes_on),
    ("leave_running", leave_running),
];

fn dump_kills_and_restore_goes_on(lab: &Lab) {
    let images = lab.dir("images");
    let mut target = lab.start(&["count"]);
    Dump::new(target.pid, &images).run(&lab.criu).unwrap();
    target.is_gone();
    let before = target.count();
    let restored = Restore::new(&images).run(&lab.criu).unwrap();
    assert_eq!(restored.pid, target.pid);
    assert!(restored.pidfd.is_some());
    target.restored_as(restored.pid);
    assert!(target.goes_on() > before);
    assert!(names(&images).contains(&"restore.log".into()));
}

fn leave_running(lab: &Lab) {
    let images = lab.dir("images");
    let target = lab.start(&["count"]);
    Dump::new(target.pid, &images).after_dump(AfterDump::LeaveRunning).run(&lab.criu).unwrap();
    target.goes_on();
}
