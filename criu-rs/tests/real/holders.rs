//! Dumps of trees with processes that hold memory for instant captures.

use std::thread;
use std::time::{Duration, Instant};

use criu_lab::soon;
use criu_plugin::inject;
use criu_rs::instant::{clear_orphans, holders_of};
use criu_rs::pages::Pool;
use criu_rs::{AfterDump, Dump, Error, LiveHolder, OwnerState, Pid, PreDump, PreDumpSession};
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use procfs::process::Process;

use crate::instant::all;
use crate::lab::{Lab, TestFn};
use crate::pages::{is_whole, restores};

pub const TESTS: &[(&str, TestFn)] = &[
    ("a_tree_whose_holder_is_read_is_dumped_by_nobody", read),
    ("a_dump_clears_up_holders_that_nobody_reads", orphans),
];

fn nix(pid: Pid) -> nix::unistd::Pid {
    nix::unistd::Pid::from_raw(pid.as_raw())
}

fn start_of(pid: Pid) -> u64 {
    Process::new(pid.as_raw()).unwrap().stat().unwrap().starttime
}

/// Forks a task as the plugin does, for this process or another one.
#[track_caller]
fn hold(task: Pid, owner: Pid, start: u64) -> Pid {
    let hold = move || {
        ptrace::seize(nix(task), Options::PTRACE_O_TRACESYSGOOD).unwrap();
        ptrace::interrupt(nix(task)).unwrap();
        waitpid(nix(task), Some(WaitPidFlag::__WALL)).unwrap();
        let held = inject::fork_held(task.as_raw(), inject::Owner { pid: owner.as_raw(), start });
        ptrace::detach(nix(task), None).unwrap();
        Pid::new(held.unwrap().pid).unwrap()
    };
    let holder = thread::spawn(hold).join().unwrap();
    assert!(soon(|| inject::parked(holder.as_raw()).is_some()));
    holder
}

/// Ends a holder.
fn end(task: Pid, holder: Pid) {
    kill(nix(holder), Signal::SIGKILL).unwrap();
    assert!(soon(|| criu_lab::process::has_ended(holder)));
    let until = Instant::now() + Duration::from_secs(20);
    inject::reap(task.as_raw(), holder.as_raw(), until).unwrap();
}

fn read(lab: &Lab) {
    let images = lab.dir("images");
    let mut target = lab.start(&["count"]);
    let root = target.pid;
    let holder = hold(root, Pid::this(), start_of(Pid::this()));
    let found = holders_of(root);
    let is_it = |found: &LiveHolder| {
        (found.task, found.holder, found.owner) == (root, holder, Pid::this())
            && found.state == OwnerState::Lives
    };
    assert!(matches!(&found[..], [found] if is_it(found)), "{found:?}");
    assert_eq!(clear_orphans(root).unwrap(), []);

    let dump = Dump::new(root, &images).after_dump(AfterDump::LeaveRunning);
    let pre_dump = PreDump::new(root, &images);
    let pool = || Pool::new(1 << 20).unwrap();
    let refused = [
        dump.run(&lab.criu).unwrap_err(),
        dump.capture(&lab.criu, pool(), &mut ()).unwrap_err(),
        dump.instant(&lab.criu, &all(), &mut ()).unwrap_err(),
        pre_dump.run(&lab.criu).unwrap_err(),
        PreDumpSession::new(&lab.criu).pre_dump(&pre_dump, &mut ()).unwrap_err(),
        PreDumpSession::new(&lab.criu).dump(&dump, &mut ()).unwrap_err(),
    ];
    for error in refused {
        println!("{error}");
        assert!(matches!(&error, Error::Holder(found) if is_it(found)), "{error}");
        assert!(!images.join("inventory.img").exists());
    }
    target.goes_on();
    end(root, holder);
    dump.run(&lab.criu).unwrap();
    is_whole(&images);
    target.end();
}

fn orphans(lab: &Lab) {
    let images = lab.dir("images");
    let mut target = lab.start(&["count"]);
    let root = target.pid;
    // A process with the number of this one that has ended long ago.
    let first = hold(root, Pid::this(), 1);
    let remains = hold(root, Pid::this(), 1);
    kill(nix(remains), Signal::SIGKILL).unwrap();
    assert!(soon(|| criu_lab::process::has_ended(remains)));
    assert_eq!(holders_of(root).len(), 1);
    let count = target.count();
    Dump::new(root, &images).after_dump(AfterDump::LeaveRunning).run(&lab.criu).unwrap();
    assert!(criu_lab::process::children(root).is_empty());
    target.goes_on();
    assert!(target.count() > count);

    let again = hold(root, Pid::this(), 1);
    assert_ne!(again, first);
    let cleared = clear_orphans(root).unwrap();
    assert!(matches!(&cleared[..], [found] if found.holder == again), "{cleared:?}");
    assert!(criu_lab::process::children(root).is_empty());
    target.goes_on();
    target.end();
    restores(lab, &mut target, &images);
    assert!(criu_lab::process::children(target.pid).is_empty());
}
