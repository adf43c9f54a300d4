//! Seccomp filters of live trees: they are read, a restore brings them back, and a restore can
//! change them.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use criu_images::bpf::Program;
use criu_images::edit::{Edit, edit_directory};
use criu_images::{Architecture, ImageSet};
use criu_lab::filter;
use criu_lab::soon;
use criu_rs::{
    Action, Dump, Error, HookResult, Hooks, Pid, Restore, SeccompMode, SeccompState, ThreadSeccomp,
};
use nix::sys::signal::{Signal, kill};

use crate::lab::{Lab, Target, TestFn};

pub const TESTS: &[(&str, TestFn)] = &[
    ("live_filters_are_those_of_the_images", live_and_saved),
    ("a_filter_of_all_threads_is_seen_in_each", of_all_threads),
    ("a_filter_is_replaced_at_restore", replaced),
    ("filters_are_dropped_at_restore", dropped),
    ("a_hook_refuses_a_restore_that_lost_filters", refused),
    ("reading_filters_leaves_a_stopped_task_stopped", stopped),
    ("reading_filters_loses_no_signal", signals),
    ("filters_of_a_traced_task_are_not_read", traced),
    ("a_caller_with_filters_cannot_read_those_of_others", restricted),
];

/// Starts a payload. `filters` has the number of filters of each thread, such as `2 0 1`.
fn start(lab: &Lab, filters: &[&str]) -> Target {
    let target = lab.start(&[&["filters"], filters].concat());
    let threads = filters.len();
    let is_complete = || state(&target).is_some_and(|state| state.threads().len() == threads);
    assert!(soon(is_complete), "its threads do not start");
    target
}

fn state(target: &Target) -> Option<SeccompState> {
    SeccompState::of_tree(target.pid).ok()
}

fn saved(images: &std::path::Path) -> SeccompState {
    SeccompState::of_images(&ImageSet::open(images).unwrap()).unwrap()
}

/// The program that [`filter::forbidding`] installs.
fn forbidding(number: u32, errno: u32) -> Program {
    let bytes = |&(code, jt, jf, k): &(u16, u8, u8, u32)| {
        let (code, k) = (code.to_le_bytes(), k.to_le_bytes());
        [code[0], code[1], jt, jf, k[0], k[1], k[2], k[3]]
    };
    let code: Vec<u8> = filter::forbidding(number, errno).iter().flat_map(bytes).collect();
    Program::parse(&code, Architecture::X86_64).unwrap()
}

/// The programs of a thread, in the order in which they were installed.
#[track_caller]
fn programs(thread: &ThreadSeccomp) -> Vec<Program> {
    match &thread.mode {
        SeccompMode::Filters(filters) => {
            filters.iter().map(|filter| filter.program.as_ref().clone()).collect()
        }
        SeccompMode::Off => Vec::new(),
        other => panic!("the thread is {other}"),
    }
}

/// Restores a target, waits until it runs, and returns its seccomp state.
#[track_caller]
fn restore(lab: &Lab, target: &mut Target, images: &std::path::Path) -> SeccompState {
    let restored = Restore::new(images).run(&lab.criu).unwrap();
    target.restored_as(restored.pid);
    target.goes_on();
    SeccompState::of_tree(restored.pid).unwrap()
}

fn live_and_saved(lab: &Lab) {
    let images = lab.dir("images");
    let mut target = start(lab, &["2", "0", "1", "3"]);
    let live = || SeccompState::of_tree(target.pid).unwrap();
    // The threads install their filters after they have started.
    let counts = [2, 2, 3, 5];
    let filters = |state: &SeccompState| -> Vec<usize> {
        state.threads().iter().map(|thread| thread.mode.filters().unwrap()).collect()
    };
    assert!(soon(|| filters(&live()) == counts), "{:?}", filters(&live()));
    let before = live();
    for (n, thread) in (0..).zip(before.threads()) {
        let own =
            (0..).take(counts[n] - 2).map(|k| forbidding(6000 + k, u32::try_from(n).unwrap()));
        let wanted: Vec<Program> =
            [forbidding(5000, 1), forbidding(5001, 1)].into_iter().chain(own).collect();
        assert_eq!(programs(thread), wanted, "thread {n}");
    }
    let glance = SeccompState::glance(target.pid).unwrap();
    assert_eq!(before.differences(&glance), []);
    target.goes_on();

    Dump::new(target.pid, &images).run(&lab.criu).unwrap();
    target.is_gone();
    let saved = saved(&images);
    assert_eq!(saved.differences(&before), []);
    let after = restore(lab, &mut target, &images);
    assert_eq!(saved.differences(&after), []);
    assert_eq!(before, after);
}

fn of_all_threads(lab: &Lab) {
    let images = lab.dir("images");
    // The first thread installs one filter for all threads, with a flag.
    let mut target = start(lab, &["all", "0", "0"]);
    assert!(soon(|| {
        let live = SeccompState::of_tree(target.pid).unwrap();
        live.threads().iter().all(|thread| thread.mode.filters() == Some(1))
    }));
    let before = SeccompState::of_tree(target.pid).unwrap();
    for thread in before.threads() {
        let SeccompMode::Filters(filters) = &thread.mode else { panic!("{}", thread.mode) };
        assert_eq!(filters[0].logs, Some(true));
        assert_eq!(*filters[0].program, forbidding(5000, 1));
    }
    Dump::new(target.pid, &images).run(&lab.criu).unwrap();
    target.is_gone();
    assert_eq!(saved(&images).differences(&before), []);
    assert_eq!(before.differences(&restore(lab, &mut target, &images)), []);
}

fn replaced(lab: &Lab) {
    let images = lab.dir("images");
    let mut target = start(lab, &["2"]);
    let before = SeccompState::of_tree(target.pid).unwrap();
    Dump::new(target.pid, &images).run(&lab.criu).unwrap();
    target.is_gone();
    let set = ImageSet::open(&images).unwrap();
    let tasks = set.checkpoint().unwrap();
    let threads = tasks.root().threads().unwrap();
    let criu_images::Seccomp::Filters(filters) = threads[0].seccomp().unwrap() else { panic!() };
    let second = filters[1].index();
    edit_directory(&images, &[Edit::ReplaceFilter(second, forbidding(5555, 7))]).unwrap();
    let after = restore(lab, &mut target, &images);
    assert_eq!(programs(&after.threads()[0]), [forbidding(5000, 1), forbidding(5555, 7)]);
    assert_eq!(saved(&images).differences(&after), []);
    let said: Vec<String> = before.differences(&after).iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("filter 1 has 4 instructions"), "{said:?}");
}

fn dropped(lab: &Lab) {
    for (edit, left) in [(Edit::DropFilter(0), 1), (Edit::DropSeccomp, 0)] {
        let images = lab.dir(&format!("images-{left}"));
        let mut target = start(lab, &["2", "0"]);
        Dump::new(target.pid, &images).run(&lab.criu).unwrap();
        target.is_gone();
        edit_directory(&images, &[edit]).unwrap();
        let after = restore(lab, &mut target, &images);
        for thread in after.threads() {
            assert_eq!(thread.mode.filters(), Some(left), "{}", thread.mode);
        }
        assert_eq!(after.is_restricted(), left > 0);
        assert_eq!(saved(&images).differences(&after), []);
    }
}

/// A hook that lets tasks run only if they have the wanted restrictions.
struct Guard {
    wanted: SeccompState,
    root: Option<Pid>,
}

impl Hooks for Guard {
    fn post_restore(&mut self, root: Pid) -> HookResult {
        self.root = Some(root);
        Ok(())
    }

    fn pre_resume(&mut self) -> HookResult {
        let found = SeccompState::glance(self.root.ok_or("no root")?)?;
        match self.wanted.differences(&found).into_iter().next() {
            Some(difference) => Err(difference.into()),
            None => Ok(()),
        }
    }
}

fn refused(lab: &Lab) {
    let images = lab.dir("images");
    let mut target = start(lab, &["2", "1"]);
    Dump::new(target.pid, &images).run(&lab.criu).unwrap();
    target.is_gone();
    let wanted = saved(&images);
    let mut guard = Guard { wanted, root: None };
    let restored = Restore::new(&images).run_with(&lab.criu, &mut guard).unwrap();
    target.restored_as(restored.pid);
    target.goes_on();
    target.end();

    edit_directory(&images, &[Edit::DropSeccomp]).unwrap();
    let error = Restore::new(&images).run_with(&lab.criu, &mut guard).unwrap_err();
    let Error::Hook { action: Action::PreResume, source } = error else { panic!("{error}") };
    assert!(
        source.to_string().contains("is not restricted; wanted: restricted by 2 filters"),
        "{source}"
    );
    target.is_gone();
}

fn stopped(lab: &Lab) {
    let target = start(lab, &["1", "0"]);
    let pid = nix::unistd::Pid::from_raw(target.pid.as_raw());
    kill(pid, Signal::SIGSTOP).unwrap();
    assert!(soon(|| target.state() == Some('T')));
    let count = target.count();
    for _ in 0..20 {
        assert_eq!(SeccompState::of_tree(target.pid).unwrap().threads().len(), 2);
        assert!(soon(|| target.state() == Some('T')), "{:?}", target.state());
    }
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(target.count(), count);
    kill(pid, Signal::SIGCONT).unwrap();
    target.goes_on();
}

/// Tests that no signal is lost. A shell counts signals, and each is sent after the last was
/// counted.
fn signals(lab: &Lab) {
    let counted = lab.dir.join("counted");
    let script = format!(
        "n=0; trap 'n=$((n+1)); echo $n >{0}.new; mv {0}.new {0}' USR1; echo 0 >{0}; \
         while :; do sleep 0.01; done",
        counted.display()
    );
    let target = lab.start(&["filtered", "/bin/sh", "-c", &script]);
    let pid = nix::unistd::Pid::from_raw(target.pid.as_raw());
    let count = || fs::read_to_string(&counted).ok()?.trim().parse::<u32>().ok();
    assert!(soon(|| count() == Some(0)));
    let is_over = AtomicBool::new(false);
    let read = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut read = 0;
            while !is_over.load(Ordering::Relaxed) {
                SeccompState::of_tree(target.pid).unwrap();
                read += 1;
            }
            read
        });
        let lost = (1..=60).find(|&n| {
            kill(pid, Signal::SIGUSR1).unwrap();
            !soon(|| count() == Some(n))
        });
        is_over.store(true, Ordering::Relaxed);
        let read = reader.join().unwrap();
        assert_eq!(lost, None, "after {read} times");
        read
    });
    assert!(read > 60, "only {read} times");
}

fn traced(lab: &Lab) {
    let target = start(lab, &["1"]);
    let pid = nix::unistd::Pid::from_raw(target.pid.as_raw());
    nix::sys::ptrace::seize(pid, nix::sys::ptrace::Options::empty()).unwrap();
    let error = SeccompState::of_tree(target.pid).unwrap_err().to_string();
    assert!(error.contains("nobody else may trace it"), "{error}");
    assert!(SeccompState::glance(target.pid).unwrap().is_restricted());
    nix::sys::ptrace::interrupt(pid).unwrap();
    nix::sys::wait::waitpid(pid, None).unwrap();
    nix::sys::ptrace::detach(pid, None).unwrap();
    let since = Instant::now();
    assert_eq!(SeccompState::of_tree(target.pid).unwrap().threads().len(), 1);
    assert!(since.elapsed() < Duration::from_secs(1));
    target.goes_on();
}

fn restricted(lab: &Lab) {
    let target = start(lab, &["1"]);
    filter::install(&filter::forbidding(5000, 1), 0).unwrap();
    let error = SeccompState::of_tree(target.pid).unwrap_err().to_string();
    assert!(error.contains("a caller without filters"), "{error}");
    assert!(SeccompState::glance(target.pid).unwrap().is_restricted());
    target.goes_on();
}
