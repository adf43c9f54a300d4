//! Memory searched in sets made by hand.
#![cfg(feature = "search")]
#![allow(
    clippy::cast_possible_truncation,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod common;

use common::{ANON, PAGE, one_task, pagemap, run, vma};
use criu_images::ImageSet;
use criu_images::memory::Memory;
use criu_images::search::{Hit, MAX_MATCH, Pattern, PatternError, Search};

const BASE: u64 = 0x10_0000;
const PRESENT: u32 = 4;
const LAZY: u32 = 2;

/// A task with two mappings that touch and one that does not. Of the pages, `stored` has runs of
/// those that are in the set, counted from [`BASE`].
struct Memories {
    runs: Vec<(u64, u64, u32)>,
    pages: Vec<u8>,
}

impl Memories {
    fn new(runs: &[(u64, u64, u32)]) -> Self {
        let present = runs.iter().filter(|(_, _, flags)| flags & PRESENT != 0);
        let pages: u64 = present.map(|(_, pages, _)| pages).sum();
        Self { runs: runs.to_vec(), pages: vec![b'.'; (pages * PAGE) as usize] }
    }

    /// Writes text at an offset of the pages file.
    fn write(mut self, at: u64, text: &[u8]) -> Self {
        self.pages[at as usize..][..text.len()].copy_from_slice(text);
        self
    }

    fn look<T>(self, look: impl FnOnce(&Memory<'_>) -> T) -> T {
        let mut second = vma(BASE + 100 * PAGE, 300, ANON);
        second.prot = 1;
        let mut files =
            one_task(vec![vma(BASE, 100, ANON), second, vma(BASE + 500 * PAGE, 4, ANON)]);
        let runs = self.runs.iter();
        let runs: Vec<_> =
            runs.map(|&(page, pages, flags)| run(BASE + page * PAGE, pages, flags)).collect();
        files.insert("pagemap-1.img", pagemap(1, &runs));
        files.insert("pages-1.img", self.pages);
        let set = ImageSet::new(files).unwrap();
        look(&set.checkpoint().unwrap().root().memory().unwrap().unwrap())
    }

    fn search(self, search: &Search) -> Vec<Hit> {
        self.look(|memory| search.run(memory).map(Result::unwrap).collect())
    }
}

fn places(hits: &[Hit]) -> Vec<u64> {
    hits.iter().map(|hit| hit.address - BASE).collect()
}

#[test]
fn a_match_is_found_across_pages_runs_and_mappings() {
    // Pages 0 to 2 in two runs, and around the border of two mappings; page 399 and 500 do not
    // touch.
    let memory = || {
        Memories::new(&[(0, 1, PRESENT), (1, 2, PRESENT), (99, 2, PRESENT), (399, 1, PRESENT)])
            .write(PAGE - 3, b"needle")
            .write(2 * PAGE - 1, b"needle")
            .write(4 * PAGE - 2, b"needle")
            .write(6 * PAGE - 6, b"needle")
    };
    let want = [PAGE - 3, 2 * PAGE - 1, 100 * PAGE - 2, 400 * PAGE - 6];
    let patterns = [
        Pattern::literal(b"needle"),
        Pattern::hex("6e 65 65 ?? 6c65"),
        Pattern::regex("n[a-z]{4}e"),
        Pattern::regex(r"(?i)\.\x4eEEDLE"),
    ];
    for (i, pattern) in patterns.into_iter().enumerate() {
        let hits = memory().search(&Search::new(pattern.unwrap()).context(3));
        match i {
            3 => assert_eq!(places(&hits), want.map(|at| at - 1)),
            _ => assert_eq!(places(&hits), want),
        }
        if i == 0 {
            assert!(hits.iter().all(|hit| hit.bytes == b"needle" && hit.before == b"..."));
            let after: Vec<_> = hits.iter().map(|hit| &hit.after[..]).collect();
            assert_eq!(after, [b"...", b"...", b"...", &b""[..]]);
            assert_eq!(hits[0].to_string(), "100ffd: ...needle...");
        }
    }
}

#[test]
fn a_range_and_a_choice_of_mappings_bound_the_search() {
    let memory = || {
        Memories::new(&[(0, 1, PRESENT), (150, 1, PRESENT), (500, 1, PRESENT)])
            .write(0, b"needle")
            .write(PAGE, b"needle")
            .write(2 * PAGE, b"needle")
    };
    let search = || Search::new(Pattern::literal(b"needle").unwrap());
    let readable = search().mappings(|vma| vma.entry().prot == 1);
    assert_eq!(places(&memory().search(&readable)), [150 * PAGE]);
    let within = search().within(BASE + 1..BASE + 500 * PAGE + 6);
    assert_eq!(places(&memory().search(&within)), [150 * PAGE, 500 * PAGE]);
    let cut = search().within(BASE..BASE + 500 * PAGE + 5);
    assert_eq!(places(&memory().search(&cut)), [0, 150 * PAGE]);
}

#[test]
fn untouched_memory_ends_a_match_but_is_none_by_itself() {
    let memory =
        || Memories::new(&[(7, 1, PRESENT)]).write(0, b"\0\0begin").write(PAGE - 3, b"end");
    let hits = |pattern: Pattern| places(&memory().search(&Search::new(pattern)));
    assert_eq!(hits(Pattern::literal(b"end\0\0\0").unwrap()), [8 * PAGE - 3]);
    assert_eq!(hits(Pattern::literal(b"\0\0\0\0begin").unwrap()), [7 * PAGE - 2]);
    // As much of it as touches: a page of untouched memory on either side.
    let zeros = memory().search(&Search::new(Pattern::regex(r"\x00+").unwrap()));
    assert_eq!(places(&zeros), [6 * PAGE]);
    assert_eq!(zeros[0].bytes.len() as u64, PAGE + 2);
}

#[test]
fn memory_kept_back_is_counted() {
    Memories::new(&[(0, 1, PRESENT), (3, 5, LAZY)]).look(|memory| {
        let search = Search::new(Pattern::literal(b"needle").unwrap());
        let mut hits = search.run(memory);
        assert!(hits.next().is_none());
        assert_eq!(hits.kept_back(), 5 * PAGE);
    });
}

#[test]
fn anchors_stand_at_the_ends_of_memory_that_hangs_together() {
    let memory = || Memories::new(&[(0, 400, PRESENT), (500, 4, PRESENT)]);
    let hits = |pattern: &str| {
        let search = Search::new(Pattern::regex(pattern).unwrap());
        places(&memory().search(&search))
    };
    assert_eq!(hits(r"^\."), [0, 500 * PAGE]);
    assert_eq!(hits(r"\.$"), [400 * PAGE - 1, 504 * PAGE - 1]);
    // A match that is too long is cut, and the next one begins there.
    let long = hits(r"\.+");
    assert_eq!(long.len(), (400 * PAGE as usize).div_ceil(MAX_MATCH) + 1);
}

#[test]
fn what_is_found_does_not_depend_on_where_the_window_ends() {
    // Every distance from a border of the buffer: 64 KiB and 256 KiB are steps of the search.
    let steps = [64 << 10, 256 << 10, (256 << 10) + (64 << 10), 320 << 10, 512 << 10];
    for step in steps {
        for at in step - 8..step + 8 {
            let memory = || Memories::new(&[(0, 200, PRESENT)]).write(at, b"xneedle!y");
            for pattern in [Pattern::literal(b"needle!"), Pattern::regex(r"\Bneedl[e-f]!")] {
                let hits = memory().search(&Search::new(pattern.unwrap()).context(1));
                assert_eq!(places(&hits), [at + 1]);
                assert_eq!((&hits[0].before[..], &hits[0].after[..]), (&b"x"[..], &b"y"[..]));
            }
        }
    }
}

#[test]
fn what_is_no_pattern_is_refused() {
    assert_eq!(Pattern::literal(b"").unwrap_err(), PatternError::Empty);
    assert_eq!(Pattern::hex(" ").unwrap_err(), PatternError::Empty);
    assert_eq!(Pattern::hex("abc").unwrap_err(), PatternError::Odd);
    assert_eq!(Pattern::hex("a?").unwrap_err(), PatternError::Digit('?'));
    let long = vec![0; MAX_MATCH + 1];
    assert_eq!(Pattern::literal(&long).unwrap_err(), PatternError::TooLong(MAX_MATCH + 1));
    assert!(matches!(Pattern::regex("a(").unwrap_err(), PatternError::Regex(_)));
    // One that would take gigabytes.
    assert!(matches!(Pattern::regex("((a{1000}){1000}){1000}"), Err(PatternError::Regex(_))));
}
