//! Recorded working sets.

use std::time::Duration;

use criu_images::Text;
use criu_images::memory::PageSize;
use criu_images::source::InMemory;
use criu_images::working_set::{Fingerprint, Recording, WorkingSet};

/// Parses a working set, as it is or with the right checksum, or records touches. The first byte
/// chooses.
pub fn run(data: &[u8]) {
    let Some((&which, bytes)) = data.split_first() else { return };
    match which % 3 {
        0 => parse(bytes),
        1 => {
            let mut bytes = bytes.to_vec();
            WorkingSet::seal(&mut bytes);
            parse(&bytes);
        }
        _ => record(bytes),
    }
}

fn parse(bytes: &[u8]) {
    match WorkingSet::parse(bytes) {
        Ok(set) => consistent(&set),
        Err(error) => assert!(!error.to_string().contains(Text::hides), "not fit for a terminal"),
    }
}

/// Records touches of 13 bytes each: a pid, an address, and the time since the touch before.
fn record(bytes: &[u8]) {
    let page_size = PageSize::new(4096 << (bytes.len() % 3 * 2)).expect("a page size of Linux");
    let (mut recording, mut time) = (Recording::new(page_size), Duration::ZERO);
    for touch in bytes.chunks_exact(13) {
        let mut address = [0; 8];
        address.copy_from_slice(&touch[1..9]);
        let mut later = [0; 4];
        later.copy_from_slice(&touch[9..]);
        time += Duration::from_nanos(u32::from_le_bytes(later).into());
        recording.touch(touch[0].into(), u64::from_le_bytes(address), time);
    }
    let pages = recording.pages() as u64;
    let fingerprint = Fingerprint::of(&InMemory::default()).expect("no file cannot be read");
    let set = recording.finish(fingerprint, time);
    assert_eq!(set.pages(), pages, "each page counts once");
    consistent(&set);
}

/// Checks what all users of a working set rely on.
fn consistent(set: &WorkingSet) {
    assert_eq!(WorkingSet::parse(&set.to_bytes()).as_ref().ok(), Some(set), "another set is read");
    let order = set.in_order();
    assert!(order.windows(2).all(|pair| pair[0].1.after <= pair[1].1.after), "not by time");
    assert!(set.tasks().windows(2).all(|pair| pair[0].pid() < pair[1].pid()), "not by pid");
    for task in set.tasks() {
        let bytes = set.page_size().bytes();
        let span = |run: &criu_images::working_set::Touched| {
            assert!(run.start % bytes == 0 && run.pages > 0, "half a page");
            (run.start, run.start + run.pages * bytes)
        };
        let mut spans: Vec<_> = task.runs().iter().map(span).collect();
        spans.sort_unstable();
        assert!(spans.windows(2).all(|pair| pair[0].1 <= pair[1].0), "a page is there twice");
    }
}

/// Working sets of one and of several tasks, whole and in pieces.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let fingerprint = Fingerprint::of(&InMemory::default()).expect("no file cannot be read");
    let mut seeds = Vec::new();
    for (tasks, step) in [(0, 1), (1, 1), (1, 7919), (3, 3)] {
        let mut recording = Recording::new(PageSize::K4);
        for number in 0..40u64 {
            for task in 1..=tasks {
                let address = 0x5000_0000_0000 + number * step % 97 * 4096;
                recording.touch(task, address, Duration::from_micros(number * 50));
            }
        }
        let set = recording.finish(fingerprint, Duration::from_secs(1)).to_bytes();
        for which in [0, 1] {
            seeds.push([&[which][..], &set].concat());
        }
    }
    let touch = [&[7, 0, 0x10][..], &[0; 6], &[0, 0x10, 0, 0]].concat();
    let other = [&[9, 0, 0x20][..], &[1; 6], &[0, 0x10, 0, 0]].concat();
    seeds.push([&[2][..], &touch, &other, &touch, &touch].concat());
    seeds
}
