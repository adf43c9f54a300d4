//! Working sets: recorded at a restore, and brought first at the next.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use criu_images::memory::PageSize;
use criu_images::source::Directory;
use criu_images::working_set::{Fingerprint, Recording, WorkingSet};
use criu_lab::oracle::{Remote, Task, Touch};
use criu_lab::{process, soon};
use criu_rs::lazy::{Fill, LazyHandle, LazyOptions, LazyPages, Prefetch};
use criu_rs::{Error, HookResult, Hooks, Pid, Restore, Restored};

use crate::lab::{Lab, Target, TestFn};

pub const TESTS: &[(&str, TestFn)] = &[
    ("recorded_pages_are_there_before_they_are_touched", recorded_and_brought),
    ("pages_that_the_images_do_not_have_are_passed_over", foreign_pages),
    ("each_task_of_a_tree_has_its_part_of_a_working_set", tree),
    ("a_recording_is_of_the_next_restore_that_succeeds", failed_first),
];

/// An oracle of 64 MiB, saved.
struct Saved<'l> {
    lab: &'l Lab,
    target: Target,
    remote: Remote,
    images: PathBuf,
}

impl<'l> Saved<'l> {
    fn new(lab: &'l Lab) -> Self {
        let remote = Remote::new(&lab.dir.join("count-oracle"));
        let mut target = lab.start(&["oracle", "64", "small"]);
        let images = lab.dump(&mut target);
        Self { lab, target, remote, images }
    }

    fn source(&self) -> Directory {
        Directory::open(&self.images).unwrap()
    }

    fn restore(&mut self, pages: &LazyPages) -> (Restored, LazyHandle) {
        let restore = Restore::new(&self.images).rst_sibling(true).lazy(pages);
        let (restored, memory) = restore.run(&self.lab.criu).unwrap();
        self.target.restored_as(restored.pid);
        (restored, memory)
    }

    /// Lets the oracle touch pages at random, always the same ones.
    fn give(&self) {
        let touch = Touch { touches: TOUCHES, seed: 11, pause: 0, exact: false };
        self.remote.give(Task::Touch(touch), "report");
    }

    /// Lets the oracle do nothing when it is restored.
    fn be_quiet(&self) {
        Remote::new(self.target.file());
    }

    fn is_right(&self) {
        let report = self.remote.report("report", LIMIT).expect("a report of the oracle");
        report.is_right(TOUCHES).unwrap();
    }
}

fn end(restored: &Restored) {
    let others = process::kill_tree(restored.pid);
    restored.wait().unwrap();
    // A process that nobody has waited for keeps its number.
    let is_gone = |pid: &Pid| !Path::new(&format!("/proc/{pid}")).exists();
    assert!(soon(|| {
        process::reap();
        others.iter().all(is_gone)
    }));
}

/// The settings of a restore whose pages come only when a task touches them, one by one.
fn sparing() -> LazyOptions {
    let mut options = LazyOptions::default();
    (options.fill, options.around) = (Fill::Nothing, 1);
    options
}

fn recorded_and_brought(lab: &Lab) {
    let mut saved = Saved::new(lab);
    let source = saved.source();
    assert!(Prefetch::of(&source).unwrap().is_none());

    // Recorded: no page comes but those that are touched, although all are wanted.
    saved.give();
    let pages = LazyPages::open(&saved.images, LazyOptions::default()).unwrap();
    let pages = pages.record(&source, None).unwrap();
    let (restored, memory) = saved.restore(&pages);
    saved.is_right();
    let numbers = memory.statistics();
    assert_eq!((numbers.filled, numbers.around, numbers.working_set), (0, 0, 0), "{numbers:?}");
    let set = memory.end_recording().unwrap();
    assert!(memory.end_recording().is_none());
    let touched = set.pages();
    assert!((DISTINCT..DISTINCT + OTHERS).contains(&touched), "{touched} pages");
    let [task] = set.tasks() else { panic!("{set:?}") };
    assert_eq!(task.pid().to_string(), restored.pid.to_string());
    set.save(&source).unwrap();
    // The other pages come when the recording has ended.
    assert!(memory.wait(Some(LIMIT)).unwrap());
    let numbers = memory.statistics();
    assert!(numbers.filled > 12_000, "{numbers:?}");
    end(&restored);
    drop((memory, pages));

    // Brought: the same touches find their pages.
    let prefetch = Prefetch::of(&source).unwrap().unwrap();
    assert_eq!(prefetch.pages(), touched);
    let pages = LazyPages::open(&saved.images, sparing()).unwrap().prefetch(prefetch);
    for _ in 0..2 {
        saved.be_quiet();
        let (restored, memory) = saved.restore(&pages);
        let came = || {
            let numbers = memory.statistics();
            numbers.working_set + numbers.touched
        };
        assert!(soon(|| came() >= touched), "{} of {touched}", came());
        let before = memory.statistics();
        assert!(before.working_set > touched - OTHERS, "{before:?}");
        saved.give();
        saved.is_right();
        let after = memory.statistics();
        assert!(after.faults - before.faults <= 10, "{before:?} {after:?}");
        assert_eq!(after.filled, 0);
        end(&restored);
    }

    // A damaged file changes nothing.
    let file = saved.images.join(WorkingSet::FILE);
    damage(&file);
    let error = Prefetch::of(&source).unwrap_err().to_string();
    assert_eq!(error, "working-set.bin: is damaged: the checksum differs");
    let pages = LazyPages::open(&saved.images, sparing()).unwrap();
    let (restored, memory) = saved.restore(&pages);
    saved.give();
    saved.is_right();
    let numbers = memory.statistics();
    assert!(numbers.working_set == 0 && numbers.faults >= DISTINCT, "{numbers:?}");
    end(&restored);
}

fn foreign_pages(lab: &Lab) {
    let mut saved = Saved::new(lab);
    let source = saved.source();
    let pid: u32 = saved.target.pid().parse().unwrap();
    let mut recording = Recording::new(PageSize::K4);
    // Memory that is not mapped, memory of other tasks, and a long run.
    let addresses = [0x1000, 0x7fff_ffff_e000, 1 << 60];
    let touches = [pid, pid + 1, 1].into_iter().flat_map(|pid| addresses.map(|at| (pid, at)));
    let low = (0..5000).map(|page| (pid, 0x10_0000 + page * 4096));
    for (pid, address) in touches.chain(low) {
        recording.touch(pid, address, Duration::ZERO);
    }
    let set = recording.finish(Fingerprint::of(&source).unwrap(), Duration::ZERO);
    set.save(&source).unwrap();
    let prefetch = Prefetch::of(&source).unwrap().unwrap();
    assert_eq!(prefetch.pages(), 5009);
    let pages = LazyPages::open(&saved.images, LazyOptions::default()).unwrap().prefetch(prefetch);
    saved.give();
    let (restored, memory) = saved.restore(&pages);
    saved.is_right();
    assert!(memory.wait(Some(LIMIT)).unwrap());
    assert_eq!(memory.statistics().working_set, 0);
    end(&restored);
}

fn tree(lab: &Lab) {
    let mut target = lab.start(&["patterned", "4", "2"]);
    let others = ["0", "1"].map(|number| target.file().with_extension(number));
    assert!(soon(|| others.iter().all(|file| file.exists())));
    let images = lab.dump(&mut target);
    process::reap();
    let source = Directory::open(&images).unwrap();
    let restore = |pages: &LazyPages, target: &mut Target| {
        let restore = Restore::new(&images).rst_sibling(true).lazy(pages);
        let (restored, memory) = restore.run(&lab.criu).unwrap();
        target.restored_as(restored.pid);
        target.goes_on();
        (restored, memory)
    };

    let pages = LazyPages::open(&images, LazyOptions::default()).unwrap();
    let pages = pages.record(&source, Some(Duration::from_millis(300))).unwrap();
    let (restored, memory) = restore(&pages, &mut target);
    let set = memory.recorded().unwrap();
    assert_eq!(set.tasks().len(), 3, "{set:?}");
    assert!(set.tasks().iter().all(|task| task.pages() > 10), "{set:?}");
    set.save(&source).unwrap();
    assert!(memory.wait(Some(LIMIT)).unwrap());
    end(&restored);

    let prefetch = Prefetch::of(&source).unwrap().unwrap();
    let pages = LazyPages::open(&images, LazyOptions::default()).unwrap().prefetch(prefetch);
    let (restored, memory) = restore(&pages, &mut target);
    assert!(memory.wait(Some(LIMIT)).unwrap());
    let numbers = memory.statistics();
    // A page that a task touches before it has come is a fault.
    assert!(numbers.working_set + numbers.touched >= set.pages(), "{numbers:?} of {}", set.pages());
    assert!(numbers.working_set > set.pages() / 4, "{numbers:?} of {}", set.pages());
    target.goes_on();
    end(&restored);
}

fn failed_first(lab: &Lab) {
    /// Lets the first restore fail.
    struct Refuse;
    impl Hooks for Refuse {
        fn post_restore(&mut self, _root: Pid) -> HookResult {
            Err("no".into())
        }
    }
    let mut saved = Saved::new(lab);
    let pages = LazyPages::open(&saved.images, LazyOptions::default()).unwrap();
    let pages = pages.record(&saved.source(), None).unwrap();
    let restore = Restore::new(&saved.images).rst_sibling(true).lazy(&pages);
    let error = restore.run_with(&lab.criu, &mut Refuse).unwrap_err();
    assert!(matches!(error, Error::Hook { .. }), "{error}");
    // One that never runs.
    drop(restore.start(&lab.criu).unwrap());
    saved.give();
    let (restored, memory) = saved.restore(&pages);
    saved.is_right();
    // Of this restore alone.
    let (second, other) = (memory.end_recording().unwrap(), pages);
    assert!(second.pages() >= DISTINCT, "{second:?}");
    assert!(memory.wait(Some(LIMIT)).unwrap());
    assert_eq!(memory.progress().unused, 0);
    end(&restored);
    let (restored, memory) = saved.restore(&other);
    assert!(memory.end_recording().is_none());
    end(&restored);
}

/// Changes a byte in the middle of a file.
fn damage(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(file, bytes).unwrap();
}

/// Touches of the oracle, and the pages that these find at least, of 16384.
const TOUCHES: u64 = 1000;
const DISTINCT: u64 = 950;

/// The most pages that the oracle touches beside those that it is told to.
const OTHERS: u64 = 400;

const LIMIT: Duration = Duration::from_secs(30);
