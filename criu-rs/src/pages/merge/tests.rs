//! Tests of merges against a model, with made-up holders, forked ones, and real images.

use std::fs;
use std::ops::Range;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::thread;
use std::time::Duration;

use criu_images::memory::{PageSet, PageSource};
use criu_images::{ImageSet, Severity, check_pages};
use criu_lab::lazy::{Region, fork};
use criu_lab::{names, scratch};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, pause};

use super::*;
use crate::pages::client::Client;
use crate::pages::compare::compare;
use crate::pages::held::mappings;
use crate::pages::limits::ServerLimits;
use crate::pages::metrics::Counters;
use crate::pages::model::{Fake, Numbers, PAGE, Process, Random, bytes, held, record};
use crate::pages::proto::{LAZY, Layout, PRESENT};
use crate::pages::receive::{Received, store_connection};
use crate::pages::socket::Socket;
use crate::pages::store::Store;

const TASK: PageObject = PageObject::Task(7);

/// Made-up mappings, with the pages of a holder and those of a dump.
#[derive(Debug)]
pub(in crate::pages) struct Case {
    pub(in crate::pages) mappings: Vec<Mapping>,
    pub(in crate::pages) held: Numbers,
    pub(in crate::pages) sent: Vec<(u64, u64, u16)>,
}

impl Case {
    pub(in crate::pages) fn random(random: &mut Random) -> Self {
        let (mut mappings, mut held, mut sent) = (Vec::new(), Numbers::new(), Vec::new());
        let mut at = 0x10_0000 + random.below(4) * PAGE;
        for _ in 0..1 + random.below(6) {
            let end = at + (1 + random.below(40)) * PAGE;
            if !random.one_in(4) {
                mappings.push(Mapping { start: at, end, lazy: random.one_in(2) });
            }
            at = end + random.below(3) * PAGE;
        }
        let every = 1 + random.below(4);
        for page in (0x10_0000 - 2 * PAGE..at + 3 * PAGE).step_by(4096) {
            if !random.one_in(1 + every) {
                held.insert(page, 1 + random.below(1 << 30));
            }
            if random.one_in(2 + every * every) {
                let flags = PRESENT | if random.one_in(2) { LAZY } else { 0 };
                sent.push((page, 1 + random.below(1 << 30), flags));
            }
        }
        Self { mappings, held, sent }
    }

    fn has(&self, page: u64) -> Option<&Mapping> {
        self.mappings.iter().find(|mapping| mapping.start <= page && page < mapping.end)
    }

    /// Returns what the images should have: a number and flags for each page. Pages of the holder
    /// for which `in_parent` is true are left to the parent set.
    fn wanted(&self, in_parent: impl Fn(u64) -> bool) -> BTreeMap<u64, (u64, u32)> {
        let held = self.held.iter().filter_map(|(page, number)| {
            let lazy = if self.has(*page)?.lazy { LAZY } else { 0 };
            let flags = if in_parent(*page) { PARENT } else { PRESENT | lazy };
            Some((*page, (*number, u32::from(flags))))
        });
        let mut wanted: BTreeMap<_, _> = held.collect();
        wanted.extend(
            self.sent.iter().map(|(page, number, flags)| (*page, (*number, u32::from(*flags)))),
        );
        wanted
    }

    pub(in crate::pages) fn record(&self, layout: Layout) -> Recording {
        record(vec![(TASK, self.sent.clone())], layout, None)
    }
}

/// Checks that a set has exactly the wanted pages of the task.
fn check(directory: &Path, wanted: &BTreeMap<u64, (u64, u32)>) {
    let set = PageSet::open(directory, page_size()).unwrap();
    let pages = set.pages(TASK).unwrap().unwrap();
    let found = pages.runs().flat_map(|run| {
        (0..run.pages).map(move |number| (run.start + number * PAGE, run.flags.bits()))
    });
    let flags: Vec<_> = wanted.iter().map(|(page, (_, flags))| (*page, *flags)).collect();
    assert_eq!(found.collect::<Vec<_>>(), flags);
    for (page, (number, _)) in wanted {
        let mut read = vec![0; 4096];
        pages.read_at(*page, &mut read).unwrap();
        assert!(read == bytes(*number), "{page:#x}");
    }
}

/// Makes an empty directory in another.
fn make(folder: &Path, name: &str) -> PathBuf {
    let path = folder.join(name);
    let _ = fs::remove_dir_all(&path);
    fs::create_dir(&path).unwrap();
    path
}

/// Merges into a directory, with all steps.
pub(in crate::pages) fn store(
    directory: &Path,
    recording: &Recording,
    tasks: &[HeldTask<'_>],
    course: &Course,
) -> Result<Merged, PagesError> {
    let mut store = Store::open(directory)?;
    let merged = merge(recording, tasks, &mut store, course)?;
    let names = names(directory);
    assert!(!names.iter().any(|name| name.starts_with("pagemap")), "{names:?}");
    PageSink::finish(&mut store)?;
    Ok(merged)
}

fn set(directory: &Path) -> PageSet {
    PageSet::open(directory, page_size()).unwrap()
}

#[test]
fn a_directory_has_the_pages_that_the_model_has() {
    let scratch = scratch("merge-store");
    let mut random = Random(0x5eed_0001);
    for round in 0..150 {
        let case = Case::random(&mut random);
        let directory = make(&scratch, "images");
        let at_once = usize::try_from(random.below(4)).unwrap();
        let first = random.one_in(2).then(|| case.held.clone());
        let fake = Fake { first, ..Fake::new(case.held.clone(), at_once) };
        let recording = case.record(Layout::ALL[round % 2]);
        let tasks = [held(7, &case.mappings, &fake, None)];
        let course = Course::default();
        let merged = store(&directory, &recording, &tasks, &course).unwrap();
        let wanted = case.wanted(|_| false);
        check(&directory, &wanted);
        assert_eq!(names(&directory), ["pagemap-7.img", "pages-65537.img"]);
        assert_eq!(merged.sent, case.sent.len() as u64);
        assert_eq!(merged.held, (wanted.len() - case.sent.len()) as u64);
        let (done, total) = course.progress();
        assert!(done == wanted.len() as u64 * PAGE && total >= done, "{done} of {total}");
        let compared = compare(&set(&directory), &recording, &tasks, &Course::default());
        assert_eq!(compared.unwrap(), wanted.len() as u64);
    }
}

#[test]
fn a_page_server_of_either_layout_gets_what_a_directory_gets() {
    let scratch = scratch("merge-server");
    let mut random = Random(0x5eed_0002);
    for round in 0..20 {
        let case = Case::random(&mut random);
        let directory = make(&scratch, "images");
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut to = Store::open(&directory).unwrap();
        let server = thread::spawn(move || {
            let (limits, counters) = (ServerLimits::default(), Counters::default());
            let report = &mut Received::default();
            store_connection(&mut Socket::from(theirs), &mut to, None, &limits, &counters, report)
        });
        let layout = Layout::ALL[round % 2];
        let fake = Fake::new(case.held.clone(), 2);
        let tasks = [held(7, &case.mappings, &fake, None)];
        let mut client = Client::new(Socket::from(ours), layout);
        merge(&case.record(layout), &tasks, &mut client, &Course::default()).unwrap();
        PageSink::finish(&mut client).unwrap();
        server.join().unwrap().unwrap();
        check(&directory, &case.wanted(|_| false));
    }
}

#[test]
fn pages_that_the_parent_set_has_are_left_to_it_and_compared_there() {
    let scratch = scratch("merge-parent");
    let mut random = Random(0x5eed_0003);
    for _ in 0..60 {
        let mut case = Case::random(&mut random);
        let (before, after) = (make(&scratch, "before"), make(&scratch, "after"));
        symlink("../before", after.join("parent")).unwrap();
        let none = record(Vec::new(), Layout::Wide, None);
        let fake = Fake::new(case.held.clone(), 0);
        let tasks = [held(7, &case.mappings, &fake, None)];
        store(&before, &none, &tasks, &Course::default()).unwrap();
        // Some pages change.
        let is_old = |page: u64| page / PAGE % 3 != 0;
        for (page, number) in case.held.iter_mut().filter(|(page, _)| !is_old(**page)) {
            *number = *page;
        }
        let stretch = |pages: Range<u64>| {
            let old = is_old(pages.start);
            let mut rest = pages.step_by(4096);
            Ok((old, rest.find(|page| is_old(*page) != old).unwrap_or(u64::MAX - PAGE + 1)))
        };
        let fake = Fake::new(case.held.clone(), 3);
        let tasks = [held(7, &case.mappings, &fake, Some(&stretch))];
        let recording = case.record(Layout::Narrow);
        let merged = store(&after, &recording, &tasks, &Course::default()).unwrap();
        let wanted = case.wanted(is_old);
        check(&after, &wanted);
        let old = wanted.values().filter(|(_, flags)| *flags == u32::from(PARENT)).count() as u64;
        assert_eq!((merged.in_parent, merged.sent), (old, case.sent.len() as u64));
        let compared = compare(&set(&after), &recording, &tasks, &Course::default());
        assert_eq!(compared.unwrap(), wanted.len() as u64);
    }
}

#[test]
fn a_page_left_to_a_parent_set_without_it_is_refused_and_nothing_stays() {
    let scratch = scratch("merge-hole");
    let (before, after) = (make(&scratch, "before"), make(&scratch, "after"));
    symlink("../before", after.join("parent")).unwrap();
    let none = record(Vec::new(), Layout::Wide, None);
    let mappings = [Mapping { start: 0x1000, end: 0x4000, lazy: true }];
    let fake = Fake::new(Numbers::from([(0x1000, 1), (0x3000, 3)]), 0);
    store(&before, &none, &[held(7, &mappings, &fake, None)], &Course::default()).unwrap();
    let fake = Fake::new(Numbers::from([(0x1000, 1), (0x2000, 2), (0x3000, 3)]), 0);
    let all = |pages: Range<u64>| Ok((true, pages.end));
    let tasks = [held(7, &mappings, &fake, Some(&all))];
    let error = store(&after, &none, &tasks, &Course::default()).unwrap_err();
    assert!(matches!(error, PagesError::Hole { address: 0x2000, .. }), "{error}");
    assert_eq!(names(&after), ["parent"]);
    // A directory without a parent set gets all pages.
    let alone = make(&scratch, "alone");
    let merged = store(&alone, &none, &tasks, &Course::default()).unwrap();
    assert_eq!((merged.held, merged.in_parent), (3, 0));
}

/// A task of three mappings of 1 MiB, all of whose pages are held.
pub(in crate::pages) fn large() -> (Vec<Mapping>, Numbers) {
    let mapping = |start: u64| Mapping { start, end: start + (1 << 20), lazy: false };
    let mappings = [0x10_0000, 0x30_0000, 0x50_0000].map(mapping).to_vec();
    let pages = mappings.iter().flat_map(|mapping| (mapping.start..mapping.end).step_by(4096));
    (mappings.clone(), pages.map(|page| (page, page)).collect())
}

#[test]
fn a_holder_that_ends_or_loses_pages_fails_the_merge_and_nothing_stays() {
    let directory = scratch("merge-lost");
    let (mappings, pages) = large();
    let none = record(Vec::new(), Layout::Wide, None);
    let failed = |fake: &Fake| {
        let tasks = [held(7, &mappings, fake, None)];
        let error = store(&directory, &none, &tasks, &Course::default()).unwrap_err();
        assert_eq!(names(&directory), [""; 0]);
        error
    };
    for reads in 0..4 {
        let reads = Some(AtomicU64::new(reads));
        let error = failed(&Fake { reads, ..Fake::new(pages.clone(), 0) });
        assert!(matches!(error, PagesError::Holder { pid: 7, .. }), "{error}");
    }
    for lost in 0..3 {
        let loses = Some(AtomicU64::new(lost));
        let error = failed(&Fake { loses, ..Fake::new(pages.clone(), 0) });
        let PagesError::Changed { pid: 7, start: 0x10_0000, found: ..256, wanted: 256, .. } = error
        else {
            panic!("{error}");
        };
    }
    let mut fewer = pages.clone();
    fewer.remove(&0x50_3000);
    let error = failed(&Fake { first: Some(pages.clone()), ..Fake::new(fewer.clone(), 0) });
    let wanted = "the holder of task 7 has 255 pages from 0x500000 to 0x600000, and had 256";
    assert_eq!(error.to_string(), wanted);
    let error = failed(&Fake { first: Some(fewer), ..Fake::new(pages, 0) });
    assert!(matches!(error, PagesError::Changed { found: 256, wanted: 255, .. }), "{error}");
}

#[test]
fn a_merge_ends_when_it_is_cancelled_or_passes_its_limit() {
    let directory = scratch("merge-limits");
    let (mappings, pages) = large();
    let none = record(Vec::new(), Layout::Wide, None);
    let fake = Fake::new(pages, 0);
    let tasks = [held(7, &mappings, &fake, None)];
    let course = Course::limited((3 << 20) - 1);
    let error = store(&directory, &none, &tasks, &course).unwrap_err();
    assert!(matches!(error, PagesError::TooMuch(limit) if limit == (3 << 20) - 1), "{error}");
    let course = Course::default();
    course.cancel();
    let error = store(&directory, &none, &tasks, &course).unwrap_err();
    assert!(matches!(error, PagesError::Stopped), "{error}");
    assert_eq!(names(&directory), [""; 0]);
    store(&directory, &none, &tasks, &Course::limited(3 << 20)).unwrap();
}

#[test]
fn a_sink_that_fails_ends_the_merge_with_its_error() {
    struct Full(u32);
    impl PageSink for Full {
        fn begin(&mut self, _: PageObject) -> Result<bool, PagesError> {
            Ok(false)
        }
        fn put(&mut self, _: &[PageRun], _: &[u8]) -> Result<(), PagesError> {
            self.0 = self.0.checked_sub(1).ok_or(PagesError::Refused(libc::ENOSPC))?;
            Ok(())
        }
        fn finish(&mut self) -> Result<(), PagesError> {
            Ok(())
        }
    }
    let mappings = [Mapping { start: 0x10_0000, end: 0x10_0000 + (10 << 20), lazy: false }];
    let pages =
        (mappings[0].start..mappings[0].end).step_by(4096).map(|page| (page, page)).collect();
    let fake = Fake::new(pages, 0);
    let none = record(Vec::new(), Layout::Wide, None);
    for puts in 0..4 {
        let tasks = [held(7, &mappings, &fake, None)];
        let error = merge(&none, &tasks, &mut Full(puts), &Course::default()).unwrap_err();
        assert!(matches!(error, PagesError::Refused(libc::ENOSPC)), "{puts}: {error}");
    }
}

#[test]
fn a_comparison_names_the_first_byte_that_differs_and_pages_on_one_side() {
    let directory = scratch("merge-compare");
    let mappings = [Mapping { start: 0x1000, end: 0x9000, lazy: false }];
    let pages = Numbers::from([(0x2000, 2), (0x3000, 3), (0x8000, 8)]);
    let fake = Fake::new(pages.clone(), 0);
    let sent = vec![(0x5000, 5, PRESENT)];
    let recording = record(vec![(TASK, sent.clone())], Layout::Wide, None);
    let tasks = [held(7, &mappings, &fake, None)];
    store(&directory, &recording, &tasks, &Course::default()).unwrap();
    let compared = |recording: &Recording, fake: &Fake| {
        let tasks = [held(7, &mappings, fake, None)];
        compare(&set(&directory), recording, &tasks, &Course::default())
    };
    assert_eq!(compared(&recording, &fake).unwrap(), 4);
    let differs =
        |recording: &Recording, pages: Numbers| match compared(recording, &Fake::new(pages, 0))
            .unwrap_err()
        {
            PagesError::Differs { object, address, what } => {
                assert_eq!(object, "pagemap-7.img");
                (address, what)
            }
            error => panic!("{error}"),
        };
    let with = |page: u64, number: u64| {
        let mut pages = pages.clone();
        pages.insert(page, number);
        pages
    };
    let without = |page: u64| {
        let mut pages = pages.clone();
        pages.remove(&page);
        pages
    };
    // The number of a page is in the bytes from the third one on.
    assert_eq!(differs(&recording, with(0x3000, 7)), (0x3002, "another byte"));
    assert_eq!(differs(&recording, with(0x4000, 7)), (0x4000, "the page is missing"));
    assert_eq!(differs(&recording, without(0x2000)), (0x2000, "the page was not to be saved"));
    assert_eq!(differs(&recording, without(0x8000)), (0x8000, "the page was not to be saved"));
    let other = record(vec![(TASK, vec![(0x5000, 6, PRESENT)])], Layout::Wide, None);
    assert_eq!(differs(&other, pages.clone()), (0x5002, "another byte"));
    let more = record(vec![(TASK, sent), (PageObject::Shared(3), vec![])], Layout::Wide, None);
    let error = compared(&more, &fake).unwrap_err().to_string();
    assert_eq!(error, "pagemap-shmem-3.img differs from the memory at 0x0: there is no pagemap");
    // A byte of the images.
    let file = directory.join("pages-65537.img");
    let mut stored = fs::read(&file).unwrap();
    stored[3 * 4096 + 77] ^= 1;
    fs::write(&file, stored).unwrap();
    assert_eq!(differs(&recording, pages.clone()), (0x8000 + 77, "another byte"));
}

/// Forks. The child keeps the memory as it is now.
fn hold() -> Pid {
    Pid::from_raw(fork(|| {
        pause();
        0
    }))
}

fn end(pid: Pid) {
    kill(pid, Signal::SIGKILL).unwrap();
    waitpid(pid, None).unwrap();
}

#[test]
fn a_forked_process_holds_what_its_parent_had() {
    let directory = scratch("merge-forked");
    let memory = Region::new(700);
    let mut wanted = BTreeMap::new();
    let at = |page: usize| memory.page(page) as u64;
    let mut random = Random(0x5eed_0005);
    for page in (0..700).filter(|page| page % 50 != 7) {
        if !random.one_in(3) {
            let number = 1 + random.below(1 << 30);
            (0..512).for_each(|word| memory.set_word(page, word, number << 16));
            wanted.insert(at(page), (number, u32::from(PRESENT)));
        }
    }
    let child = hold();
    let holder = Process::open(child.as_raw());
    // The parent goes on.
    (0..600).for_each(|page| memory.set_word(page, 0, 1));
    memory.part(600, 100).discard();
    // The last page of the first mapping and the first one of the second are between them.
    let mappings = [
        Mapping { start: at(0), end: at(299), lazy: false },
        Mapping { start: at(301), end: at(0) + 700 * PAGE, lazy: false },
    ];
    wanted.remove(&at(299));
    wanted.remove(&at(300));
    let sent = vec![(at(5), 5, PRESENT), (at(300), 6, PRESENT)];
    wanted.extend(sent.iter().map(|(page, number, _)| (*page, (*number, u32::from(PRESENT)))));
    let recording = record(vec![(TASK, sent)], Layout::Wide, None);
    let tasks = [held(7, &mappings, &holder, None)];
    let merged = store(&directory, &recording, &tasks, &Course::default()).unwrap();
    assert_eq!((merged.sent, merged.held), (2, wanted.len() as u64 - 2));
    check(&directory, &wanted);
    compare(&set(&directory), &recording, &tasks, &Course::default()).unwrap();
    end(child);
    let error = compare(&set(&directory), &recording, &tasks, &Course::default()).unwrap_err();
    assert!(matches!(error, PagesError::Holder { pid: 7, .. }), "{error}");
    // A process that holds something else.
    let child = hold();
    let holder = Process::open(child.as_raw());
    let tasks = [held(7, &mappings, &holder, None)];
    let error = compare(&set(&directory), &recording, &tasks, &Course::default()).unwrap_err();
    end(child);
    assert!(matches!(error, PagesError::Differs { .. }), "{error}");
    memory.unmap();
}

#[test]
fn a_process_that_is_killed_fails_the_merge_and_nothing_stays() {
    let directory = scratch("merge-killed");
    let memory = Region::new(8192);
    (0..8192).for_each(|page| memory.set_word(page, 0, 7));
    let start = memory.start as u64;
    let mappings = [Mapping { start, end: start + 8192 * PAGE, lazy: false }];
    let none = record(Vec::new(), Layout::Wide, None);
    let mut failed = 0;
    for round in 0..8 {
        let child = hold();
        let holder = Process::open(child.as_raw());
        let tasks = [held(7, &mappings, &holder, None)];
        let merged = thread::scope(|scope| {
            let merged = scope.spawn(|| store(&directory, &none, &tasks, &Course::default()));
            thread::sleep(Duration::from_millis(round * 3));
            end(child);
            merged.join().unwrap()
        });
        if let Err(error) = merged {
            let is_lost = matches!(error, PagesError::Holder { .. } | PagesError::Changed { .. });
            assert!(is_lost, "{error}");
            assert_eq!(names(&directory), [""; 0]);
            failed += 1;
        } else {
            assert_eq!(set(&directory).pages(TASK).unwrap().unwrap().runs().count(), 1);
            names(&directory)
                .iter()
                .for_each(|name| fs::remove_file(directory.join(name)).unwrap());
        }
    }
    assert!(failed > 0);
    memory.unmap();
}

/// Images of CRIU: each page of each task comes from a holder, from the dump, or from both, and the
/// pagemaps become those of CRIU.
#[test]
fn pagemaps_become_those_that_criu_wrote() {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../images/tests/data/pipeline");
    let directory = scratch("merge-images");
    for name in names(&from).iter().filter(|name| !name.starts_with("pagemap")) {
        fs::copy(from.join(name), directory.join(name)).unwrap();
    }
    let images = ImageSet::open(&directory).unwrap();
    let mut random = Random(0x5eed_0004);
    let mut tasks = Vec::new();
    let (mut sent, mut wanted) = (Vec::new(), Vec::new());
    for task in images.checkpoint().unwrap().tasks() {
        let mappings = mappings(&task).unwrap();
        assert!(mappings.len() > 5, "{mappings:x?}");
        let object = PageObject::Task(task.pid());
        let before = set(&from);
        let before = before.pages(object).unwrap().unwrap();
        let (mut pages, mut others) = (Numbers::new(), Vec::new());
        for run in before.runs() {
            let flags = u16::try_from(run.flags.bits()).unwrap();
            for page in (run.start..).step_by(4096).take(usize::try_from(run.pages).unwrap()) {
                let is_held = mappings.iter().any(|it| it.start <= page && page < it.end);
                assert!(is_held, "{page:x}");
                if random.one_in(5) {
                    others.push((page, page, flags));
                }
                if others.last().is_none_or(|last| last.0 != page) || random.one_in(2) {
                    pages.insert(page, page);
                }
                wanted.push((object, page, run.flags.bits()));
            }
        }
        sent.push((object, others));
        tasks.push((task.pid(), mappings, Fake::new(pages, 5)));
    }
    assert!(tasks.len() == 3 && wanted.len() > 50, "{}", wanted.len());
    let recording = record(sent, Layout::Narrow, Some(&directory));
    let tasks: Vec<_> =
        tasks.iter().map(|(pid, mappings, fake)| held(*pid, mappings, fake, None)).collect();
    store(&directory, &recording, &tasks, &Course::default()).unwrap();
    let mut found = Vec::new();
    for (object, _) in objects(&recording, &tasks) {
        for run in set(&directory).pages(object).unwrap().unwrap().runs() {
            let pages = (run.start..).step_by(4096).take(usize::try_from(run.pages).unwrap());
            found.extend(pages.map(|page| (object, page, run.flags.bits())));
        }
    }
    assert_eq!(found, wanted);
    compare(&set(&directory), &recording, &tasks, &Course::default()).unwrap();
    let images = ImageSet::open(&directory).unwrap();
    let findings = check_pages(&images);
    let errors = findings.iter().filter(|found| found.severity != Severity::Note);
    assert_eq!(errors.count(), 0, "{findings:?}");
    let root = images.checkpoint().unwrap().root();
    let memory = root.memory().unwrap().unwrap();
    let (_, page, _) =
        wanted.iter().find(|(object, ..)| *object == PageObject::Task(root.pid())).unwrap();
    let mut read = vec![0; 4096];
    memory.read_at(*page, &mut read).unwrap();
    assert!(read == bytes(*page));
}
