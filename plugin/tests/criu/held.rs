//! Dumps in which the plugin forks the tasks.

use std::path::Path;
use std::time::{Duration, Instant};

use criu_lab::process::{descendants, exists, send};
use criu_plugin::inject::{self, Errno, Owner};
use criu_plugin::journal::{Reason, State};
use nix::sys::signal::Signal;

use crate::lab::{Dump, Entry, Lab, Ledger, Target, TestFn, started};
use crate::memory::KINDS;
use crate::pages::{check, of_task};
use crate::payload::parts_of;

pub const TESTS: &[(&str, TestFn)] = &[
    ("memory_of_all_kinds_is_held", zoo),
    ("threads_and_children_are_held", tree),
    ("a_stopped_task_is_held", stopped),
    ("a_dump_that_fails_leaves_no_holder", failing),
    ("a_small_task_is_not_held", small),
    ("pages_of_hugetlbfs_are_saved", hugetlb),
    ("the_first_process_of_a_pid_namespace_is_held", first),
    ("a_task_is_held_if_its_filter_kills_the_holder", filtered),
    ("a_task_is_not_held_if_its_filter_kills_a_fork", forbidden),
    ("tasks_in_a_freezer_are_held", freezer),
    ("tasks_are_held_by_a_criu_that_is_bound_at_its_start", bound),
];

fn zoo(lab: &Lab) {
    let large = ["parts", "0", "0", "small:16384", "huge:8192"];
    let words = [&large, &KINDS[2..], &["dontfork:8", "wipe:9", "file:7", "none:11"]].concat();
    let target = lab.start(&words);
    let (dump, ledger) = hold(lab, &target, "images");
    let record = ledger.record(target.pid);
    is_held(&record);
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
    is_held(&record);
    check(&parts_of(target.file()), &dump, &record);
    assert!(criu_lab::soon(|| target.state() == Some('T')));
    assert!(send(target.pid, Signal::SIGCONT));
    release(&target, &record);
}

/// CRIU refuses connections unless it is told to save them, and notices them after the fork.
fn failing(lab: &Lab) {
    let target = lab.start(&["tcp"]);
    let ledger = Ledger::new(0, &[(target.pid, State::Wanted)]);
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
    let ledger = Ledger::new(16 << 20, &[]);
    let dump = lab.dump("images", target.pid, &ledger, &["--leave-running"]).succeeds();
    let record = ledger.record(target.pid);
    is_held(&record);
    check(&parts_of(target.file()), &dump, &record);
    let other = ledger.record(child);
    assert_eq!((other.state, other.reason), (State::GivenUp, 1));
    release(&target, &record);
}

/// The kernel takes such pages from a holder, so they are not left to it.
fn hugetlb(lab: &Lab) {
    let _lock = criu_lab::place::alone("hugetlb");
    let pool = "/proc/sys/vm/nr_overcommit_hugepages";
    let was = std::fs::read_to_string(pool).unwrap();
    std::fs::write(pool, "64").unwrap();
    let target = lab.start(&["parts", "0", "0", "hugetlb:2048", "small:2048", "hugetlb:512"]);
    let (dump, ledger) = hold(lab, &target, "images");
    let record = ledger.record(target.pid);
    is_held(&record);
    check(&parts_of(target.file()), &dump, &record);
    release(&target, &record);
    drop(target);
    std::fs::write(pool, was).unwrap();
}

fn first(lab: &Lab) {
    let mut target = lab.start(&["init", "2", "0", "small:2048", "dontfork:600"]);
    let outer = target.pid;
    let first = descendants(outer)[1];
    target.restored_as(first);
    let (dump, ledger) = hold(lab, &target, "images");
    let record = ledger.record(first);
    is_held(&record);
    assert_eq!(record.inner, 1);
    check(&parts_of(target.file()), &dump, &record);
    release(&target, &record);
    target.restored_as(outer);
}

/// The holder sleeps in `ppoll`, which the filter punishes.
fn filtered(lab: &Lab) {
    let number = nix::libc::SYS_ppoll.to_string();
    let target = lab.start(&["filtered", &number, "2", "0", "small:2048", "huge:1024"]);
    let (dump, ledger) = hold(lab, &target, "images");
    let record = ledger.record(target.pid);
    is_held(&record);
    check(&parts_of(target.file()), &dump, &record);
    release(&target, &record);
}

/// Without criu the task would have to make the call itself.
fn forbidden(lab: &Lab) {
    let number = nix::libc::SYS_clone.to_string();
    let target = lab.start(&["filtered", &number, "2", "0", "small:2048"]);
    let (dump, ledger) = hold(lab, &target, "images");
    let record = ledger.record(target.pid);
    assert_eq!((record.state, record.reason), (State::GivenUp, Reason::Filter as u64));
    assert_eq!(descendants(target.pid), [target.pid]);
    assert_eq!(of_task(&dump, target.pid, &parts_of(target.file())[0]), 2048);
    target.goes_on();
}

/// CRIU stops the tasks by the freezer, and thaws them before the plugin's hook.
fn freezer(lab: &Lab) {
    let target = lab.start(&["parts", "2", "1", "small:2048"]);
    let cgroup = Path::new("/sys/fs/cgroup/freezer").join(format!("plugin-{}", target.pid));
    std::fs::create_dir(&cgroup).unwrap();
    for pid in descendants(target.pid) {
        std::fs::write(cgroup.join("cgroup.procs"), pid.to_string()).unwrap();
    }
    for state in ["THAWED", "FROZEN"] {
        std::fs::write(cgroup.join("freezer.state"), state).unwrap();
        let more = ["--freeze-cgroup", cgroup.to_str().unwrap()];
        let (dump, ledger) = hold_with(lab, &target, state, &more);
        let now = std::fs::read_to_string(cgroup.join("freezer.state")).unwrap();
        assert_eq!(now.trim(), state);
        check(&parts_of(target.file()), &dump, &ledger.record(target.pid));
        std::fs::write(cgroup.join("freezer.state"), "THAWED").unwrap();
        for record in ledger.records() {
            is_held(&record);
            release(&target, &record);
        }
    }
    drop(target);
    assert!(criu_lab::soon(|| {
        criu_lab::process::reap();
        std::fs::remove_dir(&cgroup).is_ok()
    }));
}

/// The slots of such a criu lead to the C library from the start.
fn bound(lab: &Lab) {
    let target = lab.start(&["parts", "2", "0", "small:2048"]);
    let ledger = Ledger::new(0, &[(target.pid, State::Wanted)]);
    let images = lab.dir.join("images");
    let mut command = lab.command(&images, target.pid, &["--leave-running"]);
    let command = ledger.pass_to(&mut command, lab).env("LD_BIND_NOW", "1");
    let dump = Dump::wait(command.spawn().unwrap(), images).succeeds();
    ledger.is_ready();
    let record = ledger.record(target.pid);
    is_held(&record);
    check(&parts_of(target.file()), &dump, &record);
    release(&target, &record);
}

/// Dumps a tree in which every task is to have a holder.
fn hold(lab: &Lab, target: &Target, name: &str) -> (Dump, Ledger) {
    hold_with(lab, target, name, &[])
}

/// As [`hold`], with more options.
fn hold_with(lab: &Lab, target: &Target, name: &str, more: &[&str]) -> (Dump, Ledger) {
    let ledger = Ledger::new(0, &[(target.pid, State::Wanted)]);
    let more = [&["--leave-running"], more].concat();
    let dump = lab.dump(name, target.pid, &ledger, &more).succeeds();
    ledger.is_ready();
    (dump, ledger)
}

/// Looks at a holder.
fn is_held(record: &Entry) {
    assert_eq!(record.state, State::Held, "{record:?}");
    assert_eq!(started(record.holder), record.holder_start);
    // A holder that has been thawed begins its call again.
    assert!(criu_lab::soon(|| inject::parked(record.holder) == Some(owner())));
    assert!(record.fork_time > 0);
}

/// Ends a holder. The task goes on.
fn release(target: &Target, record: &Entry) {
    remove(record.task, record.holder);
    target.goes_on();
}

/// Kills a holder, or another child of a task, and reaps it through the task.
pub fn remove(task: i32, child: i32) {
    let _ = send(child, Signal::SIGKILL);
    let deadline = Instant::now() + Duration::from_secs(10);
    let Some(inner) = inner(child) else { return };
    assert!(criu_lab::soon(|| match inject::reap(task, inner, deadline) {
        Ok(()) => true,
        Err(Errno(nix::libc::EAGAIN)) => false,
        // The task has reaped it by itself.
        Err(Errno(nix::libc::ECHILD)) => !exists(child),
        Err(error) => panic!("{error:?}"),
    }));
    assert!(!exists(child));
}

/// The number of a process in its own pid namespace.
fn inner(pid: i32) -> Option<i32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    line.split_whitespace().last()?.parse().ok()
}

pub fn owner() -> Owner {
    let pid = i32::try_from(std::process::id()).unwrap();
    Owner { pid, start: started(pid) }
}
