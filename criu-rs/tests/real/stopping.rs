//! Deadlines, cancellation, and sessions that nobody finishes.

use std::fs;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use criu_lab::process::{descendants, has_ended, reap, send, state};
use criu_lab::{names, soon};
use criu_rs::{
    Cancel, Criu, Dump, Error, HookResult, Hooks, Pid, Restore, Result, StopMethod, StopReason,
    Stopped,
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::CloneFlags;
use nix::sys::signal::Signal;

use crate::container::Container;
use crate::lab::{Lab, TestFn};
use crate::service::Service;

pub const TESTS: &[(&str, TestFn)] = &[
    ("a_deadline_before_the_request", deadline_before_the_request),
    ("a_deadline_at_an_action", deadline_at_an_action),
    ("a_cancelled_dump_leaves_the_process_running", cancelled_in_mid_dump),
    ("a_dump_stuck_in_its_page_server_is_ended", stuck_dump),
    ("a_freezer_is_thawed_after_a_dump_is_ended", frozen),
    ("stopped_helpers_are_ended_too", stopped_helpers),
    ("a_criu_that_stays_after_its_reply_is_ended", overstaying),
    ("what_a_criu_has_started_stays_when_it_ends", helper_of_one_that_ended),
    ("a_dropped_dump_leaves_the_process_running", dropped_dump),
    ("a_cancelled_restore_leaves_nothing", cancelled_restore),
    ("a_restore_ended_without_an_action_leaves_nothing", ended_restore),
    ("an_ended_restore_spares_other_children_of_its_process", spares_others),
    ("a_restore_whose_criu_is_killed_leaves_nothing", killed_restore),
    ("a_cancellation_that_comes_too_late_changes_nothing", too_late),
    ("a_dump_cancelled_when_all_is_saved_is_complete", |lab| saved(lab, &lab.criu, 20)),
    ("a_dump_dropped_when_all_is_saved_is_complete", |lab| dropped_at_the_end(lab, &lab.criu)),
    ("a_service_s_dump_is_complete_when_all_is_saved", over_service),
    ("a_criu_killed_while_it_kills_loses_nothing", killed_at_the_end),
];

#[track_caller]
fn stopped<T: std::fmt::Debug>(result: Result<T>) -> Stopped {
    match result {
        Err(Error::Stopped(stopped)) => stopped,
        other => panic!("not stopped: {other:?}"),
    }
}

/// Nothing of criu's is left: neither processes nor images.
fn is_clean(images: &Path, target: Option<Pid>) {
    let ours = descendants(Pid::this());
    let others: Vec<&Pid> = ours[1..].iter().filter(|&&pid| Some(pid) != target).collect();
    assert!(others.is_empty(), "left behind: {others:?}");
    let left = names(images);
    assert!(left.iter().all(|name| name.ends_with(".log")), "{left:?}");
}

fn deadline_before_the_request(lab: &Lab) {
    let images = lab.dir("images");
    let target = lab.start(&["count"]);
    let session = Dump::new(target.pid, &images).deadline(Duration::ZERO).start(&lab.criu).unwrap();
    assert!(session.pid().is_some());
    let stopped = stopped(session.finish(&mut ()));
    assert_eq!(stopped.how, StopMethod::NotStarted);
    target.goes_on();
    is_clean(&images, Some(target.pid));
}

fn deadline_at_an_action(lab: &Lab) {
    struct Slow;
    impl Hooks for Slow {
        fn pre_dump(&mut self) -> HookResult {
            std::thread::sleep(Duration::from_millis(120));
            Ok(())
        }
    }
    let images = lab.dir("images");
    let target = lab.start(&["count"]);
    let dump = Dump::new(target.pid, &images).deadline(Duration::from_millis(100));
    let stopped = stopped(dump.run_with(&lab.criu, &mut Slow));
    assert_eq!(stopped.why, StopReason::Deadline(Duration::from_millis(100)));
    assert_eq!(stopped.how, StopMethod::Refused);
    target.goes_on();
    is_clean(&images, Some(target.pid));
}

fn cancelled_in_mid_dump(lab: &Lab) {
    let target = lab.start(&["memory", "256"]);
    for milliseconds in [1, 20, 40, 60, 80, 100] {
        let images = lab.dir(&milliseconds.to_string());
        let cancel = Cancel::new().unwrap();
        let other = cancel.clone();
        let thread = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(milliseconds));
            other.cancel();
        });
        let stopped = stopped(Dump::new(target.pid, &images).cancel(&cancel).run(&lab.criu));
        assert_eq!(stopped.why, StopReason::Cancelled);
        thread.join().unwrap();
        target.goes_on();
        is_clean(&images, Some(target.pid));
    }
}

fn stuck_dump(lab: &Lab) {
    let images = lab.dir("images");
    let target = lab.start(&["memory", "64"]);
    // It takes the connection, and nothing that comes over it.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let begun = Instant::now();
    let dump = Dump::new(target.pid, &images)
        .page_server("127.0.0.1", port)
        .deadline(Duration::from_millis(300))
        .grace(Duration::from_millis(200));
    let stopped = stopped(dump.run(&lab.criu));
    assert_eq!(stopped.how, StopMethod::Killed);
    // Without an end it would wait for ever.
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    target.goes_on();
    is_clean(&images, Some(target.pid));
}

/// A freezer cgroup of version 1 or 2, and its state's file and value when thawed.
pub struct Freezer {
    cgroup: PathBuf,
    state: &'static str,
    thawed: &'static str,
}

impl Freezer {
    pub fn with(pid: Pid) -> Self {
        let name = format!("criu-rs-{pid}");
        let first = ("/sys/fs/cgroup/freezer", "freezer.state", "THAWED");
        let second = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
        let second = second.map(|mount| (mount, "cgroup.freeze", "0"));
        let there = |row: &&(&str, &str, &str)| {
            let cgroup = Path::new(row.0).join(&name);
            Path::new(row.0).join("cgroup.procs").exists()
                && fs::create_dir(&cgroup).is_ok()
                && (cgroup.join(row.1).exists() || fs::remove_dir(&cgroup).is_err())
        };
        let all = [first, second[0], second[1]];
        let row = all.iter().find(there).expect("a freezer cgroup");
        let cgroup = Path::new(row.0).join(&name);
        fs::write(cgroup.join("cgroup.procs"), pid.to_string()).unwrap();
        Self { cgroup, state: row.1, thawed: row.2 }
    }

    fn is_thawed(&self) -> bool {
        fs::read_to_string(self.cgroup.join(self.state)).unwrap().trim() == self.thawed
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        let _ = fs::write(self.cgroup.join(self.state), self.thawed);
        let root = self.cgroup.parent().unwrap().join("cgroup.procs");
        for pid in fs::read_to_string(self.cgroup.join("cgroup.procs")).unwrap().lines() {
            let _ = fs::write(&root, pid);
        }
        let _ = fs::remove_dir(&self.cgroup);
    }
}

fn frozen(lab: &Lab) {
    let target = lab.start(&["memory", "64"]);
    let freezer = Freezer::with(target.pid);
    let images = lab.dir("images");
    let dump = Dump::new(target.pid, &images).freeze_cgroup(&freezer.cgroup);
    let after = criu_rs::AfterDump::LeaveRunning;
    dump.clone().after_dump(after).run(&lab.criu).unwrap();
    assert!(freezer.is_thawed());

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let images = lab.dir("stuck");
    let stuck = Dump::new(target.pid, &images)
        .freeze_cgroup(&freezer.cgroup)
        .page_server("127.0.0.1", port)
        .deadline(Duration::from_millis(300))
        .grace(Duration::ZERO);
    assert_eq!(stopped(stuck.run(&lab.criu)).how, StopMethod::Killed);
    assert!(freezer.is_thawed());
    target.goes_on();
    is_clean(&images, Some(target.pid));
}

/// A criu that hangs, with a helper that has stopped itself in the images directory.
fn stopped_helpers(lab: &Lab) {
    let images = lab.dir("images");
    let target = lab.start(&["count"]);
    let path = lab.dir.join("hanging-criu");
    fs::write(&path, "#!/bin/sh\nsh -c 'kill -STOP $$; sleep 1000' &\nsleep 1000\n").unwrap();
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let dump =
        Dump::new(target.pid, &images).deadline(Duration::from_millis(100)).grace(Duration::ZERO);
    let session = dump.start(&criu_rs::Criu::at(&path)).unwrap();
    let criu = session.pid().unwrap();
    assert!(soon(|| descendants(criu).iter().any(|&pid| state(pid) == Some('T'))));
    assert_eq!(stopped(session.finish(&mut ())).how, StopMethod::Killed);
    is_clean(&images, Some(target.pid));
    target.goes_on();
}

/// A criu that does its work, says so, and does not end.
fn overstaying(lab: &Lab) {
    let images = lab.dir("images");
    let target = lab.start(&["count"]);
    let path = lab.dir.join("staying-criu");
    let script = format!("#!/bin/sh\n{} \"$@\"\nsleep 1000\n", lab.program.display());
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let dump = Dump::new(target.pid, &images).after_dump(criu_rs::AfterDump::LeaveRunning);
    let begun = Instant::now();
    dump.run(&criu_rs::Criu::at(&path)).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(30));
    assert!(images.join("inventory.img").exists());
    target.goes_on();
}

/// A criu that starts a helper, says that all is well, and has ended before anybody listens. So
/// does one that starts a page server in the background on a busy machine, whose server is in
/// criu's own process group for a moment.
fn helper_of_one_that_ended(lab: &Lab) {
    let images = lab.dir("images");
    let target = lab.start(&["count"]);
    let path = lab.dir.join("quick-criu");
    let told = lab.dir.join("helper");
    let criu = "#!/bin/sh\nsleep 1000 </dev/null >/dev/null 2>&1 3>&- &\n\
                head -c 1 <&3 >/dev/null\n\
                printf '\\010\\001\\020\\001' >&3\n";
    fs::write(&path, format!("{criu}echo $! > {}\n", told.display())).unwrap();
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let dump = Dump::new(target.pid, &images).after_dump(criu_rs::AfterDump::LeaveRunning);
    let mut session = dump.start(&criu_rs::Criu::at(&path)).unwrap();
    let criu = session.pid().unwrap();
    session.advance(&mut ()).unwrap();
    // On a busy machine the answer has come already, and criu is gone.
    assert!(soon(|| matches!(state(criu), Some('Z') | None)));
    session.finish(&mut ()).unwrap();
    let helper = fs::read_to_string(&told).unwrap().trim().parse::<i32>().unwrap();
    let helper = Pid::new(helper).unwrap();
    assert!(soon(|| state(helper) == Some('S')));
    let helper = nix::unistd::Pid::from_raw(helper.as_raw());
    nix::sys::signal::kill(helper, nix::sys::signal::Signal::SIGKILL).unwrap();
    target.goes_on();
}

fn dropped_dump(lab: &Lab) {
    struct Stop;
    impl Hooks for Stop {
        fn query_ext_files(&mut self) -> HookResult<Vec<criu_rs::External>> {
            panic!("a hook panics");
        }
    }
    let target = lab.start(&["memory", "64"]);
    let images = lab.dir("unasked");
    drop(Dump::new(target.pid, &images).start(&lab.criu).unwrap());
    is_clean(&images, Some(target.pid));

    let images = lab.dir("asked");
    let mut session = Dump::new(target.pid, &images).start(&lab.criu).unwrap();
    session.advance(&mut ()).unwrap();
    std::thread::sleep(Duration::from_millis(40));
    drop(session);
    target.goes_on();
    is_clean(&images, Some(target.pid));

    let images = lab.dir("panicked");
    let dump = Dump::new(target.pid, &images);
    let run = || dump.run_with(&lab.criu, &mut Stop);
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
    assert!(result.is_err());
    target.goes_on();
    is_clean(&images, Some(target.pid));
}

fn checkpointed(lab: &Lab, words: &[&str]) -> (PathBuf, crate::lab::Target) {
    let mut target = lab.start(words);
    (lab.dump(&mut target), target)
}

/// No process but this one, after a moment for the dying.
#[track_caller]
fn alone() {
    let alone = || {
        reap();
        descendants(Pid::this()).len() == 1
    };
    let gone = soon(alone);
    let name = |pid: Pid| fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let tell = |pid: Pid| (pid, state(pid), String::from_utf8_lossy(&name(pid)).into_owned());
    let left: Vec<_> = descendants(Pid::this()).into_iter().map(tell).collect();
    assert!(gone, "left: {left:?}");
}

fn cancelled_restore(lab: &Lab) {
    struct At(Cancel);
    impl Hooks for At {
        fn pre_restore(&mut self) -> HookResult {
            self.0.cancel();
            Ok(())
        }
    }
    let (images, mut target) = checkpointed(lab, &["tree", "5"]);
    for sibling in [false, true] {
        let cancel = Cancel::new().unwrap();
        let restore = Restore::new(&images).rst_sibling(sibling).cancel(&cancel);
        let stopped = stopped(restore.run_with(&lab.criu, &mut At(cancel.clone())));
        assert_eq!(stopped.how, StopMethod::Refused);
        alone();
    }
    let restored = Restore::new(&images).run(&lab.criu).unwrap();
    target.restored_as(restored.pid);
    target.goes_on();
}

/// Ended at moments all over a restore, with no time given for CRIU's own way.
fn ended_restore(lab: &Lab) {
    let (images, mut target) = checkpointed(lab, &["tree", "20"]);
    let mut ended = 0;
    for sibling in [false, true] {
        for milliseconds in (4..120).step_by(2) {
            let restore = Restore::new(&images)
                .rst_sibling(sibling)
                .deadline(Duration::from_millis(milliseconds))
                .grace(Duration::ZERO);
            match restore.run(&lab.criu) {
                Err(Error::Stopped(stopped)) => {
                    ended += usize::from(stopped.how == StopMethod::Killed);
                    alone();
                }
                Ok(restored) => {
                    target.restored_as(restored.pid);
                    target.end();
                    alone();
                    break;
                }
                Err(other) => panic!("{other}"),
            }
        }
        assert!(ended > 0, "none was ended in the middle");
    }
    assert!(ended >= 10, "only {ended} were ended in the middle");
    let restored = Restore::new(&images).run(&lab.criu).unwrap();
    target.restored_as(restored.pid);
    target.goes_on();
}

/// A restore is ended while another operation of this process has a younger criu, and while a
/// younger child has the root's number in a pid namespace of its own.
fn spares_others(lab: &Lab) {
    let (images, other) = (lab.dir("images"), lab.dir("other"));
    let mut saved = Container::start(lab, CloneFlags::empty());
    Dump::new(saved.target.pid, &images).run(&lab.criu).unwrap();
    saved.is_gone();
    let restore = Restore::new(&images).root(&saved.root).start(&lab.criu).unwrap();
    let mut target = lab.start(&["count"]);
    let dump = Dump::new(target.pid, &other).start(&lab.criu).unwrap();
    let container = Container::start(lab, CloneFlags::empty());
    drop(restore);
    container.target.goes_on();
    dump.finish(&mut ()).unwrap();
    target.is_gone();
}

/// Somebody else kills criu, as soon as there is a task of the restore's.
fn killed_restore(lab: &Lab) {
    let (images, mut target) = checkpointed(lab, &["tree", "20"]);
    let mut failed = 0;
    for _ in 0..50 {
        let session = Restore::new(&images).start(&lab.criu).unwrap();
        let Some(criu) = session.pid() else { return };
        let task = target.pid;
        let killer = std::thread::spawn(move || {
            soon(|| state(task).is_some());
            let _ = nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(criu.as_raw()),
                nix::sys::signal::Signal::SIGKILL,
            );
        });
        let result = session.finish(&mut ());
        killer.join().unwrap();
        match result {
            Ok(restored) => {
                target.restored_as(restored.pid);
                target.end();
            }
            Err(error) => {
                assert!(matches!(error, Error::Failed(_)), "{error}");
                alone();
                failed += 1;
            }
        }
    }
    assert!(failed > 0, "criu was always faster");
}

fn too_late(lab: &Lab) {
    struct At(Cancel);
    impl Hooks for At {
        fn post_resume(&mut self) -> HookResult {
            self.0.cancel();
            Ok(())
        }
    }
    let (images, mut target) = checkpointed(lab, &["count"]);
    let cancel = Cancel::new().unwrap();
    let restore = Restore::new(&images).cancel(&cancel);
    let restored = restore.run_with(&lab.criu, &mut At(cancel.clone())).unwrap();
    target.restored_as(restored.pid);
    target.goes_on();
}

/// Calls something when all is saved.
struct AtTheEnd<F>(F);

impl<F: FnMut()> Hooks for AtTheEnd<F> {
    fn post_dump(&mut self) -> HookResult {
        (self.0)();
        Ok(())
    }
}

fn saved(lab: &Lab, criu: &Criu, rounds: u32) {
    for round in 0..rounds {
        let mut target = lab.start(&["tree", "5"]);
        let images = lab.dir(&round.to_string());
        let cancel = Cancel::new().unwrap();
        let dump = Dump::new(target.pid, &images).cancel(&cancel).grace(Duration::ZERO);
        dump.run_with(criu, &mut AtTheEnd(|| cancel.cancel())).unwrap();
        target.is_gone();
        let restored = Restore::new(&images).run(criu).unwrap();
        target.restored_as(restored.pid);
        target.goes_on();
    }
}

fn dropped_at_the_end(lab: &Lab, criu: &Criu) {
    // A quick criu has ended before the session can be dropped.
    assert!((0..20).any(|round| drops_at_the_end(lab, criu, round)), "criu was always faster");
}

/// Whether the session was dropped while criu was at work still.
fn drops_at_the_end(lab: &Lab, criu: &Criu, round: u32) -> bool {
    let mut target = lab.start(&["tree", "20"]);
    let images = lab.dir(&format!("dropped-{round}"));
    let mut session = Dump::new(target.pid, &images).start(criu).unwrap();
    let mut is_saved = false;
    let is_over = loop {
        let done = session.advance(&mut AtTheEnd(|| is_saved = true)).unwrap();
        if is_saved {
            break done.is_some();
        }
        assert!(done.is_none());
        let mut fds = [PollFd::new(session.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::NONE).unwrap();
    };
    drop(session);
    target.is_gone();
    let restored = Restore::new(&images).run(criu).unwrap();
    target.restored_as(restored.pid);
    target.goes_on();
    !is_over
}

fn over_service(lab: &Lab) {
    let service = Service::start(lab);
    saved(lab, &service.criu(), 5);
    dropped_at_the_end(lab, &service.criu());
}

fn killed_at_the_end(lab: &Lab) {
    let (mut complete, mut failed) = (0, 0);
    for round in 0..20 {
        let mut target = lab.start(&["tree", "20"]);
        let tree = descendants(target.pid);
        let images = lab.dir(&round.to_string());
        let session = Dump::new(target.pid, &images).start(&lab.criu).unwrap();
        let Some(criu) = session.pid() else { return };
        let kill = move || send(criu, Signal::SIGKILL);
        let mut killer = None;
        let mut hooks = AtTheEnd(|| {
            let tree = tree.clone();
            // The first criu never hears that it may kill, and half of the others have begun to.
            if round == 0 {
                kill();
                return;
            }
            killer = Some(std::thread::spawn(move || {
                if round % 2 == 0 {
                    soon(|| tree.iter().any(|&pid| has_ended(pid)));
                } else {
                    std::thread::sleep(Duration::from_micros(200 * round));
                }
                kill()
            }));
        });
        let result = session.finish(&mut hooks);
        killer.map(|killer| killer.join().unwrap());
        match result {
            Ok(_) => {
                target.is_gone();
                // Those that criu had not killed yet.
                assert!(soon(|| {
                    reap();
                    tree.iter().all(|&pid| state(pid).is_none())
                }));
                let restored = Restore::new(&images).run(&lab.criu).unwrap();
                target.restored_as(restored.pid);
                complete += 1;
            }
            Err(error) => {
                assert!(matches!(error, Error::Failed(_)), "{error}");
                assert!(names(&images).iter().all(|name| name.ends_with(".log")));
                failed += 1;
            }
        }
        target.goes_on();
    }
    assert!(complete > 0 && failed > 0, "{complete} complete, {failed} failed");
}
