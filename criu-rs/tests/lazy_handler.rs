//! The handler of missing pages and processes that use their memory in every way, without CRIU.
//!
//! Each test starts this program again as a task: a process with a userfaultfd of its own, as
//! `criu restore` leaves it. The content of a page tells its address at the start, so a page that
//! is wrong is seen. The tests need root, or `vm.unprivileged_userfaultfd`.

#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::io::{IoSlice, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use criu_lab::harness::{self, Trial};
use criu_lab::lazy::{PAGE, Region, fork, pidfd, userfaultfd};
use criu_lab::raw::receive_fd;
use criu_lab::{process, soon};
use criu_rs::lazy::{
    Fill, Handler, LazyError, LazyOptions, OnLoss, Pages, Reader, Restoration, Supply, Urgency,
    Wanted,
};
use nix::libc;
use nix::sys::signal::Signal;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    if words.get(1).map(String::as_str) == Some("--task") {
        let (_, task) = TASKS.iter().find(|(name, _)| *name == words[2]).unwrap();
        task(&Task::begin(&words[2], words[3].parse().unwrap()));
        return ExitCode::SUCCESS;
    }
    let trials = TESTS.iter().map(|(name, test)| {
        Trial::test(*name, || {
            test();
            Ok(())
        })
    });
    harness::run(trials.collect())
}

const TESTS: &[(&str, fn())] = &[
    ("every_page_is_right_while_threads_touch_and_the_fill_runs", touches),
    ("without_a_fill_only_what_is_touched_comes", nothing),
    ("neighbours_come_with_a_page_that_is_next_to_another", neighbours),
    ("memory_that_is_moved_discarded_and_unmapped_meanwhile_is_right", storms),
    ("memory_that_is_cut_into_areas_meanwhile_is_right", areas),
    ("children_have_the_memory_of_the_fork", forks),
    ("tasks_that_end_or_run_another_program_end_the_restore", ends),
    ("a_lost_source_kills_the_tasks_and_their_children", lost),
    ("a_lost_source_is_a_signal_where_a_page_is_missing", poisoned),
    ("a_lost_source_is_a_signal_in_each_of_many_areas", poisoned_areas),
    ("a_handler_that_is_dropped_leaves_no_task_without_its_memory", dropped),
    ("a_handler_that_is_dropped_amid_messages_leaves_no_zeros", dropped_amid),
    ("a_task_that_comes_after_the_handler_is_not_without_its_memory", after),
    ("pages_of_a_working_set_come_before_the_tasks_run", prefetched),
    ("touches_are_recorded_in_their_order_and_nothing_else_comes", recorded),
    ("one_handler_serves_many_restores", many),
];

/// The name of a task, and its work.
type Role = (&'static str, fn(&Task));

const TASKS: &[Role] = &[
    ("touch", touch),
    ("some", some),
    ("row", row),
    ("storm", storm),
    ("areas", areas_then_all),
    ("areas-lost", areas_then_lost),
    ("fork", forking),
    ("exec", exec),
    ("doomed", doomed),
    ("restless", restless),
    ("early", some),
    ("late", some),
];

/// The number of pages of most tests: 64 MiB.
const PAGES: usize = 16384;

fn touches() {
    let mut stage = Stage::new(LazyOptions::default());
    stage.start("touch", PAGES);
    stage.restoration.complete();
    stage.finish();
    let statistics = stage.restoration.statistics();
    assert!(statistics.faults > 0 && statistics.filled > 0, "{statistics:?}");
    let came = statistics.touched + statistics.around + statistics.filled;
    assert_eq!(came, PAGES as u64, "{statistics:?}");
    let progress = stage.restoration.progress();
    assert_eq!((progress.pages, progress.missing, progress.tasks), (PAGES as u64, 0, 0));
}

fn touch(task: &Task) {
    std::thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || {
                let mut dice = Dice::new(thread);
                (0..4000).for_each(|_| task.check(dice.below(task.region.pages)));
            });
        }
    });
    (0..task.region.pages).for_each(|page| task.check(page));
}

fn nothing() {
    let mut stage = Stage::new(without_fill(1));
    stage.start("some", PAGES);
    stage.restoration.complete();
    stage.finish();
    let statistics = stage.restoration.statistics();
    assert_eq!((statistics.touched, statistics.around, statistics.filled), (100, 0, 0));
}

fn neighbours() {
    let mut stage = Stage::new(without_fill(8));
    stage.start("row", PAGES);
    stage.restoration.complete();
    stage.finish();
    let statistics = stage.restoration.statistics();
    // A page of each eight, and the second page.
    assert_eq!((statistics.touched, statistics.filled), (14, 0));
    assert_eq!(statistics.around, 90);
}

/// Touches 100 pages in a row.
fn row(task: &Task) {
    (0..100).for_each(|page| task.check(page));
}

/// Touches 100 pages in order, every hundredth.
fn some(task: &Task) {
    (0..100).for_each(|n| task.check(n * 100));
}

fn storms() {
    let mut stage = Stage::new(LazyOptions::default());
    for _ in 0..2 {
        stage.start("storm", PAGES);
    }
    stage.restoration.complete();
    stage.finish();
}

/// Threads that move, discard, unmap, write and read memory of their own at random.
fn storm(task: &Task) {
    const EACH: usize = 2048;
    let seed = u64::from(std::process::id());
    std::thread::scope(|scope| {
        for thread in 0..task.region.pages / EACH {
            let region = task.region.part(thread * EACH, EACH);
            scope.spawn(move || Storm::new(region, thread * EACH, seed + thread as u64).run(400));
        }
    });
}

/// A thread of a storm, which knows what each of its pages holds.
struct Storm {
    region: Region,
    pages: Vec<Page>,
    /// Pages that were moved to where they are.
    is_moved: Vec<bool>,
    dice: Dice,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Page {
    /// Content of the dump, of the page with this number.
    Of(usize),
    Zero,
    /// A number in the first word, which the thread has written.
    Written(u64),
    Unmapped,
}

impl Storm {
    fn new(region: Region, first: usize, seed: u64) -> Self {
        let pages = (first..first + region.pages).map(Page::Of).collect();
        let is_moved = vec![false; region.pages];
        Self { region, pages, is_moved, dice: Dice::new(seed) }
    }

    fn run(&mut self, rounds: u64) {
        for round in 0..rounds {
            let (first, pages) = self.mapped();
            let part = self.region.part(first, pages);
            match self.dice.below(8) {
                0 => {
                    part.discard();
                    self.pages[first..first + pages].fill(Page::Zero);
                }
                1 if round % 4 == 0 => {
                    part.unmap();
                    self.pages[first..first + pages].fill(Page::Unmapped);
                }
                2 => {
                    // Only to where this memory is: the system may have given a hole to others.
                    let (to, room) = self.mapped();
                    let pages = self.together(first, pages.min(room));
                    if first + pages <= to || to + pages <= first {
                        let part = self.region.part(first, pages);
                        part.move_to(self.region.part(to, pages));
                        self.pages.copy_within(first..first + pages, to);
                        self.pages[first..first + pages].fill(Page::Unmapped);
                        self.is_moved[to..to + pages].fill(true);
                    }
                }
                3 => {
                    self.region.set_word(first, 0, round);
                    // The write has brought the rest of the page.
                    self.check(first, 1, Some(round));
                    self.pages[first] = Page::Written(round);
                }
                _ => {
                    let page = first + self.dice.below(pages);
                    self.check(page, 0, None);
                }
            }
        }
        for page in 0..self.pages.len() {
            if self.pages[page] != Page::Unmapped {
                self.check(page, 0, None);
            }
        }
    }

    /// Finds pages in a row that are mapped.
    fn mapped(&mut self) -> (usize, usize) {
        loop {
            let first = self.dice.below(self.pages.len());
            let most = 1 + self.dice.below(40);
            let rest = self.pages[first..].iter().take(most);
            let pages = rest.take_while(|page| **page != Page::Unmapped).count();
            if pages > 0 {
                return (first, pages);
            }
        }
    }

    /// Returns the number of pages that mremap(2) moves in one call: those of one mapping.
    fn together(&self, first: usize, pages: usize) -> usize {
        let moved = &self.is_moved[first..first + pages];
        moved.iter().take_while(|is_moved| !**is_moved).count().max(1)
    }

    /// Checks a page from a word on. Its first word may have been written just now.
    fn check(&self, page: usize, from: usize, written: Option<u64>) {
        let found = |n| self.region.word(page, n);
        if let Some(number) = written {
            assert_eq!(found(0), number);
        }
        let state = self.pages[page];
        for n in WORDS.into_iter().filter(|&n| n >= from) {
            match state {
                Page::Of(origin) => {
                    assert_eq!(found(n), word(origin as u64, n as u64), "{page}, {n}: {state:?}");
                }
                Page::Zero => assert_eq!(found(n), 0, "page {page}, word {n}: {state:?}"),
                Page::Written(number) if n == 0 => assert_eq!(found(0), number),
                Page::Written(_) => break,
                Page::Unmapped => unreachable!("an unmapped page is not read"),
            }
        }
    }
}

/// The fill, and faults with their neighbours, in memory that a task cuts into areas: the kernel
/// fills one area at a time.
fn areas() {
    for (options, fills) in [(LazyOptions::default(), true), (without_fill(16), false)] {
        let mut stage = Stage::new(options);
        stage.start("areas", AREAS);
        stage.hear_number();
        stage.restoration.complete();
        if fills {
            assert!(stage.restoration.wait(Some(Duration::from_secs(10))).unwrap());
            let statistics = stage.restoration.statistics();
            assert_eq!((statistics.filled, statistics.touched), (AREAS as u64, 0));
        }
        stage.tasks[0].1.write_all(b"x").unwrap();
        stage.finish();
    }
}

/// The number of pages of tests with areas.
const AREAS: usize = 1024;

/// Cuts the memory into areas whose ends are nowhere near those of pieces.
fn cut_into_areas(task: &Task) {
    (0..AREAS / 2).step_by(7).for_each(|page| task.region.part(page, 3).protect());
    (AREAS / 2..AREAS).step_by(37).for_each(|page| task.region.part(page, 1).protect());
    (&task.parent).write_all(&0i32.to_ne_bytes()).unwrap();
    task.hear();
}

fn areas_then_all(task: &Task) {
    cut_into_areas(task);
    (0..AREAS).for_each(|page| task.check(page));
}

fn areas_then_lost(task: &Task) {
    cut_into_areas(task);
    for page in (0..AREAS).step_by(5) {
        let child = fork(|| i32::from(task.region.word(page, 0) == 0));
        assert_eq!(signal_of(child), Some(Signal::SIGBUS), "page {page}");
    }
}

fn poisoned_areas() {
    let mut options = without_fill(1);
    options.on_loss = OnLoss::SigBus;
    let mut stage = Stage::new(options);
    stage.start("areas-lost", AREAS);
    stage.hear_number();
    stage.restoration.complete();
    stage.restoration.give_up(LazyError::Stopped);
    assert!(stage.restoration.wait(Some(Duration::from_secs(5))).is_err());
    stage.tasks[0].1.write_all(b"x").unwrap();
    let status = stage.tasks[0].0.wait().unwrap();
    assert!(status.success(), "{status}");
}

fn forks() {
    let mut stage = Stage::new(LazyOptions::default());
    stage.start("fork", PAGES);
    stage.restoration.complete();
    stage.finish();
}

fn forking(task: &Task) {
    let mut dice = Dice::new(7);
    let mut written = Vec::new();
    let mut children = Vec::new();
    for round in 0..10 {
        for _ in 0..20 {
            task.check(dice.below(PAGES / 2));
        }
        // Children see what was written before the fork, and not what is written later.
        let page = PAGES / 2 + round * 10;
        task.region.set_word(page, 1, 1000 + round as u64);
        written.push((page, 1000 + round as u64));
        task.region.part(page + 1, 2).discard();
        let grandchild = || {
            (0..PAGES / 2).step_by(97).for_each(|page| task.check(page));
            0
        };
        let child = || {
            let pid = fork(|| survives(grandchild));
            written.iter().for_each(|&(page, word)| {
                assert_eq!(task.region.word(page, 1), word);
                (1..3).for_each(|n| task.check_zero(page + n));
            });
            let mut dice = Dice::new(round as u64);
            (0..300).for_each(|_| task.check(dice.below(PAGES / 2)));
            let later = PAGES / 2 + (round + 1) * 10;
            task.check(later);
            ends_well(pid)
        };
        children.push(fork(|| survives(child)));
    }
    assert!(children.into_iter().all(|pid| ends_well(pid) == 0));
}

/// Turns a panic in a forked child into its exit code.
fn survives(child: impl FnOnce() -> i32) -> i32 {
    catch_unwind(AssertUnwindSafe(child)).unwrap_or(1)
}

fn signal_of(pid: i32) -> Option<Signal> {
    match waitpid(Pid::from_raw(pid), None).unwrap() {
        WaitStatus::Signaled(_, signal, _) => Some(signal),
        _ => None,
    }
}

fn ends_well(pid: i32) -> i32 {
    match waitpid(Pid::from_raw(pid), None).unwrap() {
        WaitStatus::Exited(_, code) => code,
        _ => 2,
    }
}

fn ends() {
    for has_pidfd in [true, false] {
        let mut stage = Stage::new(without_fill(1));
        stage.has_pidfd = has_pidfd;
        stage.start("doomed", PAGES);
        stage.start("exec", PAGES);
        stage.restoration.complete();
        let waited = stage.restoration.wait(Some(Duration::from_millis(50)));
        assert!(!waited.unwrap(), "the tasks run");
        process::kill_tree(i32::try_from(stage.tasks[0].0.id()).unwrap());
        stage.tasks[1].1.write_all(b"x").unwrap();
        assert!(stage.restoration.wait(Some(Duration::from_secs(5))).unwrap());
        assert!(stage.tasks[1].0.try_wait().unwrap().is_none(), "the other program runs");
        stage.end();
    }
}

fn exec(task: &Task) {
    task.check(3);
    task.hear();
    let error = Command::new("sleep").arg("100").exec();
    panic!("{error}");
}

fn lost() {
    let mut stage = Stage::new(without_fill(1));
    stage.start("doomed", PAGES);
    stage.restoration.complete();
    let child = stage.hear_number();
    stage.supply.fails.store(true, Ordering::SeqCst);
    stage.tasks[0].1.write_all(b"x").unwrap();
    let error = stage.restoration.wait(Some(Duration::from_secs(5))).unwrap_err();
    assert!(error.to_string().contains("the test says so"), "{error}");
    let status = stage.tasks[0].0.wait().unwrap();
    assert_eq!(status.signal(), Some(libc::SIGKILL));
    assert!(soon(|| process::has_ended(child)), "the child lives");
    assert!(stage.restoration.wait(None).is_err(), "the error stays");
    let statistics = stage.restoration.statistics();
    assert_eq!((statistics.killed, statistics.poisoned), (1, 0), "{statistics:?}");
}

fn poisoned() {
    let mut options = without_fill(1);
    options.on_loss = OnLoss::SigBus;
    let mut stage = Stage::new(options);
    stage.start("doomed", PAGES);
    stage.restoration.complete();
    let child = stage.hear_number();
    stage.supply.fails.store(true, Ordering::SeqCst);
    stage.tasks[0].1.write_all(b"x").unwrap();
    let status = stage.tasks[0].0.wait().unwrap();
    assert_eq!(status.signal(), Some(libc::SIGBUS));
    assert!(stage.restoration.wait(Some(Duration::from_secs(5))).is_err());
    assert!(!process::has_ended(child), "the child touches no missing page");
    let numbers = || stage.restoration.statistics();
    assert!(soon(|| (numbers().killed, numbers().poisoned) == (0, 2)), "{:?}", numbers());
    process::send(child, Signal::SIGKILL);
}

/// A task with a child that does nothing: touches some pages, and others when it is told to.
fn doomed(task: &Task) {
    (0..10).for_each(|page| task.check(page));
    let child = fork(|| {
        std::thread::sleep(Duration::from_secs(100));
        0
    });
    (&task.parent).write_all(&child.to_ne_bytes()).unwrap();
    task.hear();
    (0..10).for_each(|page| task.check(page));
    task.check(PAGES / 2);
}

fn dropped() {
    let mut stage = Stage::new(without_fill(1));
    stage.start("doomed", PAGES);
    stage.restoration.complete();
    let child = stage.hear_number();
    let (restoration, mut task) = (stage.restoration.clone(), stage.tasks.remove(0));
    drop(stage);
    let error = restoration.wait(Some(Duration::ZERO)).unwrap_err();
    assert!(matches!(error, LazyError::GivenUp(_)), "{error}");
    assert_eq!(task.0.wait().unwrap().signal(), Some(libc::SIGKILL));
    assert!(soon(|| process::has_ended(child)), "the child lives");
}

fn dropped_amid() {
    for on_loss in [OnLoss::SigBus, OnLoss::Kill] {
        for _ in 0..2 {
            let mut options = without_fill(1);
            options.on_loss = on_loss;
            let mut stage = Stage::new(options);
            // Such a task is one that another has forked.
            stage.has_pidfd = false;
            stage.start("restless", PAGES);
            stage.restoration.complete();
            stage.hear_number();
            let (mut task, _parent) = stage.tasks.remove(0);
            drop(stage);
            assert_eq!(task.wait().unwrap().signal(), Some(libc::SIGBUS));
        }
    }
}

/// Threads whose messages wait often, and one that finds what is there.
fn restless(task: &Task) {
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let part = task.region.part(PAGES - 2 + thread, 1);
            scope.spawn(move || {
                loop {
                    part.discard();
                    // The kernel fills and poisons nothing while a message waits.
                    std::thread::sleep(Duration::from_micros(50));
                }
            });
        }
        for page in 0..PAGES - 2 {
            task.check(page);
            if page == 100 {
                (&task.parent).write_all(&[0; 4]).unwrap();
            }
        }
        // The handler has not ended: the end of the others.
        std::process::exit(3);
    });
}

fn after() {
    for (on_loss, signal) in [(OnLoss::Kill, libc::SIGKILL), (OnLoss::SigBus, libc::SIGBUS)] {
        let mut options = without_fill(1);
        options.on_loss = on_loss;
        let mut stage = Stage::new(options);
        // The task comes late, and its restore is complete.
        stage.restoration.complete();
        stage.handler = None;
        let error = stage.try_start("some", PAGES).unwrap_err();
        assert!(matches!(error, LazyError::Stopped), "{error}");
        assert_eq!(stage.tasks[0].0.wait().unwrap().signal(), Some(signal));
    }
}

fn prefetched() {
    for name in ["early", "late"] {
        let mut stage = Stage::new(without_fill(1));
        stage.first = (0..100).rev().map(|n| n * 100 * PAGE as u64).collect();
        stage.start(name, PAGES);
        let all_here = || stage.restoration.statistics().working_set == 100;
        assert!(soon(all_here), "{:?}", stage.restoration.statistics());
        stage.restoration.complete();
        stage.tasks[0].1.write_all(b"r").unwrap();
        stage.finish();
        let statistics = stage.restoration.statistics();
        assert_eq!((statistics.touched, statistics.filled), (0, 0), "{statistics:?}");
    }
}

fn recorded() {
    let mut stage = Stage::new(LazyOptions::default());
    stage.restoration.record();
    stage.start("some", PAGES);
    stage.restoration.complete();
    let (mut child, _) = stage.tasks.remove(0);
    assert!(child.wait().unwrap().success());
    let touches = stage.restoration.recorded();
    let base = stage.supply.base(1);
    let wanted = (0..100).map(|n| base + n * 100 * PAGE as u64);
    assert!(touches.iter().map(|touch| touch.address).eq(wanted), "{touches:?}");
    assert!(touches.iter().all(|touch| touch.pid == 1));
    assert!(touches.is_sorted_by_key(|touch| touch.time));
    let statistics = stage.restoration.statistics();
    assert_eq!((statistics.touched, statistics.around, statistics.filled), (100, 0, 0));
    stage.finish();
}

fn many() {
    let stages: Vec<Stage> = {
        let first = Stage::new(LazyOptions::default());
        let (handler, supply) = (first.handler.clone().unwrap(), Arc::clone(&first.supply));
        let others = (1..20).map(|n| Stage::on(&handler, &supply, n * 100));
        std::iter::once(first).chain(others).collect()
    };
    std::thread::scope(|scope| {
        for mut stage in stages {
            scope.spawn(move || {
                stage.start("touch", 1024);
                stage.restoration.complete();
                stage.finish();
                let statistics = stage.restoration.statistics();
                let came = statistics.touched + statistics.around + statistics.filled;
                assert_eq!(came, 1024, "{statistics:?}");
            });
        }
    });
}

fn without_fill(around: u64) -> LazyOptions {
    let mut options = LazyOptions::default();
    (options.fill, options.around) = (Fill::Nothing, around);
    options
}

/// A restore, its handler, and the tasks of a test.
struct Stage {
    // Ends before the tasks are killed, so that a test sees what the handler does to them.
    handler: Option<Arc<Handler>>,
    restoration: Restoration,
    supply: Arc<Pattern>,
    /// The number of the last task in the images.
    last: u32,
    has_pidfd: bool,
    /// Offsets of pages that come first.
    first: Vec<u64>,
    tasks: Vec<(Child, UnixStream)>,
}

impl Stage {
    fn new(options: LazyOptions) -> Self {
        let supply = Arc::new(Pattern::default());
        let handler = Handler::new(Arc::clone(&supply) as Arc<dyn Supply>, options).unwrap();
        Self::on(&Arc::new(handler), &supply, 0)
    }

    fn on(handler: &Arc<Handler>, supply: &Arc<Pattern>, last: u32) -> Self {
        let restoration = handler.restoration();
        let (handler, supply) = (Some(Arc::clone(handler)), Arc::clone(supply));
        let (first, tasks) = (Vec::new(), Vec::new());
        Self { handler, restoration, supply, last, has_pidfd: true, first, tasks }
    }

    /// Starts a task, whose pages the restore takes.
    fn start(&mut self, name: &str, pages: usize) {
        self.try_start(name, pages).unwrap();
    }

    fn try_start(&mut self, name: &str, pages: usize) -> Result<(), LazyError> {
        let (near, far) = UnixStream::pair().unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--task", name, &pages.to_string()]);
        let child = command.stdin(Stdio::from(OwnedFd::from(far))).spawn().unwrap();
        let uffd = receive_fd(&near);
        let mut start = [0; 8];
        (&near).read_exact(&mut start).unwrap();
        let start = u64::from_ne_bytes(start);
        self.last += 1;
        let pid = self.last;
        self.supply.bases.lock().unwrap().insert(pid, start);
        let first = self.first.iter().map(|&at| Wanted { pid, address: start + at, pages: 1 });
        self.restoration.prefetch(first);
        let process = self.has_pidfd.then(|| pidfd(child.id()));
        let missing = start..start + (pages * PAGE) as u64;
        let added = self.restoration.add(pid, uffd, std::slice::from_ref(&missing), process);
        // A task that is killed does not listen.
        let _ = (&near).write_all(b"g");
        self.tasks.push((child, near));
        added
    }

    /// Hears a number from the first task.
    fn hear_number(&self) -> i32 {
        let mut number = [0; 4];
        (&self.tasks[0].1).read_exact(&mut number).unwrap();
        i32::from_ne_bytes(number)
    }

    /// Waits for the tasks, which must find all pages right, and for the end of the restore.
    fn finish(&mut self) {
        for (mut child, _) in self.tasks.drain(..) {
            let status = child.wait().unwrap();
            assert!(status.success(), "{status}");
        }
        assert!(self.restoration.wait(Some(Duration::from_secs(10))).unwrap());
    }

    /// Kills the tasks and their children.
    fn end(&mut self) {
        for (mut child, _) in self.tasks.drain(..) {
            process::kill_tree(i32::try_from(child.id()).unwrap());
            child.wait().unwrap();
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.end();
    }
}

/// A source whose pages tell their addresses.
#[derive(Debug, Default)]
struct Pattern {
    /// The first address of each task.
    bases: Mutex<HashMap<u32, u64>>,
    fails: AtomicBool,
}

impl Pattern {
    fn base(&self, pid: u32) -> u64 {
        self.bases.lock().unwrap()[&pid]
    }
}

impl Supply for Pattern {
    fn is_near(&self) -> bool {
        true
    }

    fn reader(&self, _: Urgency) -> Result<Box<dyn Reader + '_>, LazyError> {
        Ok(Box::new(PatternReader { pattern: self, bytes: Vec::new() }))
    }
}

struct PatternReader<'p> {
    pattern: &'p Pattern,
    bytes: Vec<u8>,
}

impl Reader for PatternReader<'_> {
    fn read(&mut self, wanted: Wanted) -> Result<Pages<'_>, LazyError> {
        let Wanted { pid, address, .. } = wanted;
        if self.pattern.fails.load(Ordering::SeqCst) {
            let why = "the test says so".to_owned();
            return Err(LazyError::NoPage { pid, address, why });
        }
        let first = (address - self.pattern.base(pid)) / PAGE as u64;
        self.bytes.clear();
        self.bytes.resize(usize::try_from(wanted.pages).unwrap() * PAGE, 0);
        for (page, bytes) in (first..).zip(self.bytes.chunks_exact_mut(PAGE)) {
            for n in WORDS {
                bytes[n * 8..n * 8 + 8].copy_from_slice(&word(page, n as u64).to_ne_bytes());
            }
        }
        Ok(Pages::new(&self.bytes))
    }
}

/// The words of a page that are not zero at the moment of the dump.
const WORDS: [usize; 6] = [0, 1, 100, 255, 400, 511];

/// Returns a word of a page at the moment of the dump, one of [`WORDS`].
fn word(page: u64, word: u64) -> u64 {
    (page << 9 | word).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// A task, in its own process.
struct Task {
    region: Region,
    parent: UnixStream,
}

impl Task {
    fn begin(name: &str, pages: usize) -> Self {
        let parent = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned().unwrap());
        let region = Region::new(pages);
        let uffd = userfaultfd();
        let start = (region.start as u64).to_ne_bytes();
        let fds = [uffd.as_raw_fd()];
        let rights = [ControlMessage::ScmRights(&fds)];
        let (to, flags) = (parent.as_raw_fd(), MsgFlags::empty());
        if name != "late" {
            region.register(&uffd);
        }
        sendmsg::<()>(to, &[IoSlice::new(b"u")], &rights, flags, None).unwrap();
        let task = Self { region, parent };
        (&task.parent).write_all(&start).unwrap();
        task.hear();
        if name == "late" {
            std::thread::sleep(Duration::from_millis(30));
            region.register(&uffd);
        }
        if ["early", "late"].contains(&name) {
            task.hear();
        }
        task
    }

    /// Waits for a byte from the test.
    fn hear(&self) {
        (&self.parent).read_exact(&mut [0]).unwrap();
    }

    /// Checks that a page has its content of the dump.
    fn check(&self, page: usize) {
        for n in WORDS {
            let (found, wanted) = (self.region.word(page, n), word(page as u64, n as u64));
            assert_eq!(found, wanted, "page {page}, word {n}");
        }
    }

    /// Checks that a page reads as zeros.
    fn check_zero(&self, page: usize) {
        (0..512).for_each(|n| assert_eq!(self.region.word(page, n), 0, "page {page}, word {n}"));
    }
}

/// A generator of pseudo-random numbers: xorshift.
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(0x9e37_79b9_7f4a_7c15 ^ (seed << 20))
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).unwrap()
    }
}
