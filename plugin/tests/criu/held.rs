//! Dumps in which the plugin forks the tasks.

use criu_lab::process::{descendants, exists, send};
use criu_plugin::inject::{self, Owner};
use criu_plugin::journal::State;
use nix::sys::signal::Signal;

use crate::lab::{Dump, Entry, Lab, Ledger, Target, TestFn, started};
use crate::pages::check;
use crate::payload::parts_of;

pub const TESTS: &[(&str, TestFn)] = &[
    ("memory_of_all_kinds_is_held", zoo),
    ("threads_and_children_are_held", tree),
    ("a_stopped_task_is_held", stopped),
    ("a_dump_that_fails_leaves_no_holder", failing),
    ("a_small_task_is_not_held", small),
];

fn zoo(lab: &Lab) {
    let words = [
        "parts",
        "0",
        "0",
        "small:16384",
        "huge:8192",
        "shared:256",
        "file:2048",
        "dontfork:1024",
        "wipe:1024",
        "none:1024",
        "split:700",
        "small:3",
        "dontfork:8",
        "wipe:9",
        "file:7",
        "none:11",
    ];
    let target = lab.start(&words);
    let (dump, ledger) = hold(lab, &target, "images");
    let record = ledger.record(target.pid);
    is_held(&record, &target);
    check(&parts_of(target.file()), &dump, &record);
    release(&target, &record);
    // Once more, after the first holder.
    let (dump, ledger) = hold(lab, &target, "again");
    let record = ledger.record(target.pid);
    check(&parts_of(target.file()), &dump, &record);
    release(&target, &record);
}

fn tree(lab: &Lab) {
    let target = lab.start(&["parts", "3", "4", "small:2048"]);
    let tree = descendants(target.pid);
    assert_eq!(tree.len(), 5);
    let (dump, ledger) = hold(lab, &target, "images");
    let records = ledger.records();
    assert_eq!(records.len(), 5);
    for record in &records {
        assert_eq!(record.state, State::Held, "{record:?}");
        assert!(tree.contains(&record.task) && !tree.contains(&record.holder));
        assert_eq!(inject::parked(record.holder), Some(owner()));
    }
    check(&parts_of(target.file()), &dump, &ledger.record(target.pid));
    for record in &records {
        release(&target, record);
    }
}

fn stopped(lab: &Lab) {
    let target = lab.start(&["parts", "2", "0", "small:2048"]);
    assert!(send(target.pid, Signal::SIGSTOP));
    assert!(criu_lab::soon(|| target.state() == Some('T')));
    let (dump, ledger) = hold(lab, &target, "images");
    let record = ledger.record(target.pid);
    is_held(&record, &target);
    check(&parts_of(target.file()), &dump, &record);
    assert_eq!(target.state(), Some('T'));
    assert!(send(target.pid, Signal::SIGCONT));
    release(&target, &record);
}

/// CRIU refuses connections unless it is told to save them, and notices them after the fork.
fn failing(lab: &Lab) {
    let target = lab.start(&["tcp"]);
    let ledger = Ledger::new(lab.dir.join("journal"), 0, &[(target.pid, State::Wanted)]);
    lab.dump("images", target.pid, &ledger, &["--leave-running"]).fails();
    let record = ledger.record(target.pid);
    assert_eq!(record.state, State::Ended, "{record:?}");
    assert!(record.holder > 0 && !exists(record.holder), "the holder {} is there", record.holder);
    assert_eq!(descendants(target.pid), [target.pid]);
    target.goes_on();
}

fn small(lab: &Lab) {
    let target = lab.start(&["parts", "0", "1", "small:8192"]);
    let child = descendants(target.pid)[1];
    let ledger = Ledger::new(lab.dir.join("journal"), 16 << 20, &[]);
    let dump = lab.dump("images", target.pid, &ledger, &["--leave-running"]).succeeds();
    let record = ledger.record(target.pid);
    is_held(&record, &target);
    check(&parts_of(target.file()), &dump, &record);
    let other = ledger.record(child);
    assert_eq!((other.state, other.reason), (State::GivenUp, 1));
    release(&target, &record);
}

/// Dumps a tree in which every task is to have a holder.
fn hold(lab: &Lab, target: &Target, name: &str) -> (Dump, Ledger) {
    let path = lab.dir.join(format!("{name}-journal"));
    let ledger = Ledger::new(path, 0, &[(target.pid, State::Wanted)]);
    let dump = lab.dump(name, target.pid, &ledger, &["--leave-running"]).succeeds();
    ledger.is_ready();
    (dump, ledger)
}

/// Looks at a holder, and at the task beside it.
fn is_held(record: &Entry, target: &Target) {
    assert_eq!(record.state, State::Held, "{record:?}");
    assert_eq!(started(record.holder), record.holder_start);
    assert_eq!(inject::parked(record.holder), Some(owner()));
    assert!(record.fork_time > 0);
    if target.state() != Some('T') {
        target.goes_on();
    }
}

/// Ends a holder. The task goes on.
fn release(target: &Target, record: &Entry) {
    assert!(send(record.holder, Signal::SIGKILL));
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    let inner = record.holder;
    assert!(criu_lab::soon(|| match inject::reap(record.task, inner, deadline) {
        Ok(()) => true,
        Err(error) if error.0 == nix::libc::EAGAIN => false,
        Err(error) => panic!("{error:?}"),
    }));
    assert!(!exists(record.holder));
    target.goes_on();
}

fn owner() -> Owner {
    let pid = i32::try_from(std::process::id()).unwrap();
    Owner { pid, start: started(pid) }
}
