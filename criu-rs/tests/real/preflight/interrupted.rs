//! Programs that end because a restore interrupts their system call.

use std::fs;
use std::process::{Command, Stdio};

use criu_lab::soon;
use criu_rs::preflight::Severity;
use criu_rs::{Dump, Restore};

use crate::lab::{Lab, Target, TestFn};

pub const TESTS: &[(&str, TestFn)] = &[("preflight_of_script_and_its_child", script)];

/// script(1) waits for its child in poll(2), and takes the interruption for the end.
fn script(lab: &Lab) {
    let record = lab.dir.join("typescript");
    let mut command = Command::new("setsid");
    command.args(["script", "-q", "-f", "-c", "echo ready; exec sleep 1000"]).arg(&record);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut target = Target::started(command.spawn().unwrap(), lab.dir.join("count"));
    let has = |text: &str| fs::read_to_string(&record).is_ok_and(|found| found.contains(text));
    assert!(soon(|| has("ready")));
    let images = lab.dir("images");
    let dump = Dump::new(target.pid, &images);
    let is_told = || {
        let report = dump.preflight(&lab.criu).unwrap();
        assert!(report.will_work(), "{report}");
        let told = |finding: &criu_rs::preflight::Finding| {
            finding.severity == Severity::Loses && finding.what.contains("script(1)")
        };
        report.findings().iter().any(told)
    };
    assert!(soon(is_told));
    dump.run(&lab.criu).unwrap();
    target.is_gone();
    assert!(!has("Script done"));
    let restored = Restore::new(&images).run(&lab.criu).unwrap();
    target.restored_as(restored.pid);
    // As foreseen: the child is killed, and the record says so.
    assert!(soon(|| has("COMMAND_EXIT_CODE=\"143\"")), "{:?}", fs::read_to_string(&record));
}
