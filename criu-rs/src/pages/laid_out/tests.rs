//! Tests with made-up holders, against what a directory gets.

use std::fs;
use std::ops::Range;
use std::sync::atomic::AtomicU64;

use criu_lab::scratch;

use super::*;
use crate::pages::held::Mapping;
use crate::pages::merge::tests::{Case, large, store};
use crate::pages::model::{Fake, Numbers, PAGE, Random, held, record};
use crate::pages::proto::Layout;

/// Lays out one task, whose pages file has the number 65537.
fn laid_out(recording: &Recording, task: HeldTask<'_>, course: &Course) -> (LaidOut, Merged) {
    let (mut all, merged) = lay_out(recording, &[task], || 0x1_0001, course).unwrap();
    assert_eq!(all.len(), 1);
    (all.remove(0), merged)
}

/// Reads a pages file in pieces.
fn bytes(
    laid_out: &LaidOut,
    recording: &Recording,
    task: HeldTask<'_>,
    piece: usize,
    course: &Course,
) -> Result<Vec<u8>, PagesError> {
    let mut all = vec![0; usize::try_from(laid_out.size).unwrap()];
    let mut at = 0;
    for part in all.chunks_mut(piece) {
        laid_out.read_at(recording, Some(task), at, part, course)?;
        at += part.len() as u64;
    }
    Ok(all)
}

#[test]
fn the_files_are_those_that_a_directory_gets() {
    let directory = scratch("laid-out");
    let mut random = Random(0x5eed_0101);
    for round in 0..150 {
        let case = Case::random(&mut random);
        let at_once = usize::try_from(random.below(4)).unwrap();
        let fake = Fake::new(case.held.clone(), at_once);
        let recording = case.record(Layout::ALL[round % 2]);
        let task = held(7, &case.mappings, &fake, None);
        let images = directory.join(round.to_string());
        fs::create_dir(&images).unwrap();
        let in_directory = store(&images, &recording, &[task], &Course::default()).unwrap();

        let course = Course::default();
        let (laid_out, merged) = laid_out(&recording, task, &course);
        assert_eq!(merged, in_directory);
        assert_eq!(laid_out.pagemap, fs::read(images.join("pagemap-7.img")).unwrap());
        let pages = fs::read(images.join("pages-65537.img")).unwrap();
        assert_eq!(course.progress(), (0, pages.len() as u64));
        let piece = 1 + usize::try_from(random.below(5 * PAGE)).unwrap();
        assert!(bytes(&laid_out, &recording, task, piece, &course).unwrap() == pages, "{case:?}");
        assert_eq!(course.progress(), (pages.len() as u64, pages.len() as u64));
        // At any place.
        for _ in 0..20 {
            let start = usize::try_from(random.below(1 + pages.len() as u64)).unwrap();
            let len = usize::try_from(random.below(1 + (pages.len() - start) as u64)).unwrap();
            let mut part = vec![0; len];
            let read = laid_out.read_at(&recording, Some(task), start as u64, &mut part, &course);
            read.unwrap();
            assert!(part == pages[start..start + len], "{start} {len} {case:?}");
        }
        let end = pages.len() as u64;
        let beyond = laid_out.read_at(&recording, Some(task), end, &mut [0], &course);
        assert!(matches!(beyond, Err(PagesError::Gone(size)) if size == end), "{beyond:?}");
    }
}

#[test]
fn a_holder_that_ends_or_loses_pages_fails_a_read() {
    let (mappings, pages) = large();
    let none = record(Vec::new(), Layout::Wide, None);
    let read = |fake: &Fake| {
        let (task, course) = (held(7, &mappings, fake, None), Course::default());
        let (laid_out, _) = laid_out(&none, task, &course);
        bytes(&laid_out, &none, task, 1 << 20, &course).map(drop)
    };
    read(&Fake::new(pages.clone(), 0)).unwrap();
    for reads in 1..3 {
        let reads = Some(AtomicU64::new(reads));
        let error = read(&Fake { reads, ..Fake::new(pages.clone(), 0) }).unwrap_err();
        assert!(matches!(error, PagesError::Holder { pid: 7, .. }), "{error}");
    }
    // The page has been read as it was, or as zeros: nobody can tell.
    for lost in 0..3 {
        let loses = Some(AtomicU64::new(lost));
        let error = read(&Fake { loses, ..Fake::new(pages.clone(), 0) }).unwrap_err();
        let PagesError::Changed { pid: 7, start: 0x10_0000, found: ..256, wanted: 256, .. } = error
        else {
            panic!("{error}");
        };
    }
    // One that has other pages than when they were counted.
    let mut fewer = pages.clone();
    fewer.remove(&0x50_3000);
    let fake = Fake { first: Some(pages), ..Fake::new(fewer, 0) };
    let task = held(7, &mappings, &fake, None);
    let error = lay_out(&none, &[task], || 1, &Course::default()).unwrap_err();
    assert!(matches!(error, PagesError::Changed { found: 255, wanted: 256, .. }), "{error}");
}

#[test]
fn a_cancelled_course_ends_the_reads() {
    let (mappings, pages) = large();
    let none = record(Vec::new(), Layout::Wide, None);
    let fake = Fake::new(pages, 0);
    let (task, course) = (held(7, &mappings, &fake, None), Course::default());
    let (laid_out, _) = laid_out(&none, task, &course);
    course.cancel();
    let error = bytes(&laid_out, &none, task, 4096, &course).unwrap_err();
    assert!(matches!(error, PagesError::Stopped), "{error}");
    let error = lay_out(&none, &[task], || 1, &course).unwrap_err();
    assert!(matches!(error, PagesError::Stopped), "{error}");
}

#[test]
fn pages_of_a_parent_set_are_refused() {
    let none = record(Vec::new(), Layout::Wide, None);
    let mappings = [Mapping { start: 0x1000, end: 0x4000, lazy: true }];
    let fake = Fake::new(Numbers::from([(0x1000, 1), (0x2000, 2)]), 0);
    let second = |pages: Range<u64>| Ok((pages.start == 0x2000, pages.start + PAGE));
    let task = held(7, &mappings, &fake, Some(&second));
    let error = lay_out(&none, &[task], || 1, &Course::default()).unwrap_err();
    assert!(matches!(error, PagesError::Hole { address: 0x2000, .. }), "{error}");
}
