//! The handler of missing pages and processes that use their memory in every way, without CRIU.
//!
//! Each test starts this program again as a task: a process with a userfaultfd of its own, as
//! `criu restore` leaves it. The content of a page tells its address at the start, so a page that
//! is wrong is seen. The tests need root, or `vm.unprivileged_userfaultfd`.

#![allow(clippy::unwrap_used)]

use std::io::{IoSlice, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use criu_lab::harness::{self, Trial};
use criu_lab::lazy::{PAGE, Region, pidfd, userfaultfd};
use criu_lab::raw::receive_fd;
use criu_rs::lazy::{
    Fill, Handler, LazyError, LazyOptions, OnLoss, Pages, Reader, Restoration, Supply, Urgency,
    Wanted,
};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    if words.get(1).map(String::as_str) == Some("--task") {
        let (_, task) = TASKS.iter().find(|(name, _)| *name == words[2]).unwrap();
        Task::begin(words[3].parse().unwrap()).run(*task);
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
];

const TASKS: &[(&str, fn(&Task))] = &[("touch", touch), ("some", some)];

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
    let mut options = LazyOptions::default();
    (options.fill, options.around) = (Fill::Nothing, 1);
    let mut stage = Stage::new(options);
    stage.start("some", PAGES);
    stage.restoration.complete();
    stage.finish();
    let statistics = stage.restoration.statistics();
    assert_eq!((statistics.touched, statistics.around, statistics.filled), (100, 0, 0));
}

fn some(task: &Task) {
    (0..100).for_each(|n| task.check(n * 100));
}

/// A handler, a restore, and the tasks of a test.
struct Stage {
    handler: Handler,
    restoration: Restoration,
    supply: Arc<Pattern>,
    tasks: Vec<(Child, UnixStream)>,
}

impl Stage {
    fn new(options: LazyOptions) -> Self {
        let supply = Arc::new(Pattern::default());
        let handler = Handler::new(Arc::clone(&supply) as Arc<dyn Supply>, options).unwrap();
        let restoration = handler.restoration();
        Self { handler, restoration, supply, tasks: Vec::new() }
    }

    /// Starts a task, whose pages the restore takes.
    fn start(&mut self, name: &str, pages: usize) {
        let (near, far) = UnixStream::pair().unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--task", name, &pages.to_string()]);
        let child = command.stdin(Stdio::from(OwnedFd::from(far))).spawn().unwrap();
        let uffd = receive_fd(&near);
        let mut start = [0; 8];
        (&near).read_exact(&mut start).unwrap();
        let start = u64::from_ne_bytes(start);
        self.supply.base.store(start, Ordering::SeqCst);
        let process = pidfd(child.id());
        let missing = [start..start + (pages * PAGE) as u64];
        self.restoration.add(1, uffd, &missing, Some(process)).unwrap();
        (&near).write_all(b"g").unwrap();
        self.tasks.push((child, near));
    }

    /// Waits for the tasks, which must find all pages right, and for the end of the restore.
    fn finish(&mut self) {
        for (mut child, _) in self.tasks.drain(..) {
            let status = child.wait().unwrap();
            assert!(status.success(), "{status}");
        }
        assert!(self.restoration.wait(Some(Duration::from_secs(10))).unwrap());
    }
}

/// A source whose pages tell their addresses.
#[derive(Debug, Default)]
struct Pattern {
    base: AtomicU64,
    fails: AtomicBool,
}

impl Supply for Pattern {
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
        let base = self.pattern.base.load(Ordering::SeqCst);
        if self.pattern.fails.load(Ordering::SeqCst) {
            let why = "the test says so".to_owned();
            return Err(LazyError::NoPage { pid: wanted.pid, address: wanted.address, why });
        }
        self.bytes.clear();
        let first = (wanted.address - base) / PAGE as u64;
        for page in first..first + wanted.pages {
            let words = (0..PAGE as u64 / 8).flat_map(|n| word(page, n).to_ne_bytes());
            self.bytes.extend(words);
        }
        Ok(Pages::new(&self.bytes))
    }
}

/// Returns the word of a page at the moment of the dump.
fn word(page: u64, word: u64) -> u64 {
    (page << 9 | word).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// A task, in its own process.
struct Task {
    region: Region,
    parent: UnixStream,
}

impl Task {
    fn begin(pages: usize) -> Self {
        let parent = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned().unwrap());
        let region = Region::new(pages);
        let uffd = userfaultfd();
        region.register(&uffd);
        let start = (region.start as u64).to_ne_bytes();
        let fds = [uffd.as_raw_fd()];
        let rights = [ControlMessage::ScmRights(&fds)];
        let (to, flags) = (parent.as_raw_fd(), MsgFlags::empty());
        sendmsg::<()>(to, &[IoSlice::new(b"u")], &rights, flags, None).unwrap();
        (&parent).write_all(&start).unwrap();
        (&parent).read_exact(&mut [0]).unwrap();
        Self { region, parent }
    }

    fn run(&self, task: fn(&Self)) {
        task(self);
    }

    /// Checks that a page has its content of the dump.
    fn check(&self, page: usize) {
        self.check_as(page, page);
    }

    /// Checks that a page has the content that another page had at the dump.
    fn check_as(&self, page: usize, origin: usize) {
        for n in [0, 1, 255, 511] {
            let (found, wanted) = (self.region.word(page, n), word(origin as u64, n as u64));
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
