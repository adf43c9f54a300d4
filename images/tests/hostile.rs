//! Images that lie. Whatever they claim, reading ends in a result or in an error with a place.

#![allow(
    clippy::cast_possible_truncation,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use common::{ANON, PAGE, image, load, one_task, pagemap, run, tour, vma};
use criu_images::anonymise::Anonymous;
use criu_images::bounds;
use criu_images::proto::{PagemapEntry, PstreeEntry};
use criu_images::source::{InMemory, Source};
use criu_images::{DumpStats, Error, ErrorKind, ImageSet, kind};
use prost::Message;

fn sample() -> InMemory {
    static SAMPLE: LazyLock<InMemory> = LazyLock::new(|| load(Path::new("tests/data/pipeline")));
    SAMPLE.clone()
}

fn read(files: InMemory) -> Result<String, Error> {
    tour(&ImageSet::new(files)?)
}

/// The error of reading a set, which must have a file to blame.
fn error(files: InMemory) -> Error {
    let error = read(files).unwrap_err();
    assert!(kind::Kind::of_file(error.image()).is_some(), "{error}");
    error
}

/// Reads the sample with one image replaced, and checks that an error says where.
fn with(name: &str, bytes: Vec<u8>) {
    let mut files = sample();
    files.insert(name, bytes);
    if let Err(error) = read(files) {
        assert!(kind::Kind::of_file(error.image()).is_some(), "{error}");
        assert!(!error.to_string().contains('\n'), "{error}");
    }
}

/// Images of the sample. Left out are images that nothing reads, and those of the root's children,
/// which are like the root's.
fn names() -> Vec<String> {
    let unread = ["pipes-data.img", "seccomp.img", "timens-0.img"];
    let names = fs::read_dir("tests/data/pipeline").unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| !unread.contains(&&name[..]) && !name.contains("-1014")).collect()
}

fn bytes(name: &str) -> Vec<u8> {
    fs::read(Path::new("tests/data/pipeline").join(name)).unwrap()
}

#[test]
fn the_sample_itself_reads() {
    read(sample()).unwrap();
}

#[test]
fn a_cut_anywhere_is_an_error_or_a_shorter_list() {
    for name in names() {
        let whole = bytes(&name);
        for len in 0..whole.len() {
            with(&name, whole[..len].to_vec());
        }
    }
}

#[test]
fn a_cut_inside_a_single_entry_is_an_error() {
    for name in ["inventory.img", "core-10139.img", "mm-10139.img", "ids-10139.img", "fs-10139.img"]
    {
        let whole = bytes(name);
        for len in 0..whole.len() {
            let mut files = sample();
            files.insert(name, &whole[..len]);
            assert_eq!(error(files).image(), name, "at {len}");
        }
    }
}

#[test]
fn a_flipped_bit_is_an_error_or_another_value() {
    let images: Vec<(String, Vec<u8>)> =
        names().into_iter().map(|name| (name.clone(), bytes(&name))).collect();
    let flips = images.iter().flat_map(|(name, whole)| {
        // Every bit of the short images; of the others, one bit of every byte.
        let short = !name.starts_with("core") && !name.starts_with("mm");
        let bits = (0..whole.len() * 8).filter(move |bit| short || bit / 8 % 8 == bit % 8);
        bits.map(move |bit| (name, whole, bit))
    });
    let flips: Vec<_> = flips.collect();
    assert!(flips.len() > 10_000, "{}", flips.len());
    // The longest of all tests of images: every processor takes a part.
    let next = AtomicUsize::new(0);
    let flip_all = || {
        while let Some(&(name, whole, bit)) = flips.get(next.fetch_add(1, Ordering::Relaxed)) {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            with(name, flipped);
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(flip_all);
        }
    });
}

#[test]
fn statistics_survive_cuts_and_flips() {
    let whole = bytes("stats-dump");
    DumpStats::parse(&whole).unwrap();
    for len in 0..whole.len() {
        let error = DumpStats::parse(&whole[..len]).unwrap_err();
        assert_eq!(error.image(), "stats-dump");
    }
    let mut flipped = whole.clone();
    for bit in 0..flipped.len() * 8 {
        flipped[bit / 8] ^= 1 << (bit % 8);
        _ = DumpStats::parse(&flipped);
        flipped[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn a_size_that_lies_is_truncation_where_the_entry_begins() {
    for size in [64u32 << 20, 200, 7] {
        let mut lying = bytes("fs-10139.img");
        lying[8..12].copy_from_slice(&size.to_le_bytes());
        let mut files = sample();
        files.insert("fs-10139.img", lying);
        let error = error(files);
        assert_eq!(
            error.to_string(),
            format!("fs-10139.img: byte 12: ends early: {size} bytes are needed, 6 are left")
        );
    }
}

#[test]
fn an_entry_too_large_is_refused() {
    for size in [u32::MAX, (64 << 20) + 1] {
        let mut lying = bytes("fs-10139.img");
        lying[8..12].copy_from_slice(&size.to_le_bytes());
        let mut files = sample();
        files.insert("fs-10139.img", lying);
        assert_eq!(
            error(files).to_string(),
            format!("fs-10139.img: byte 8: has {size} bytes, at most 67108864 are read")
        );
    }
}

#[test]
fn a_length_that_lies_inside_a_message_is_truncation_too() {
    // comm, of 2^63 bytes
    let task = [0x32, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01];
    let mut core = vec![0x08, 1, 0x1a, task.len() as u8];
    core.extend(task);
    let mut files = sample();
    files.insert("core-10141.img", image(kind::CORE, &[core]));
    assert_eq!(
        error(files).to_string(),
        "core-10141.img: byte 27: task_core_entry.comm: ends early: \
         9223372036854775808 bytes are needed, 0 are left"
    );
}

fn memory_error(entries: &[PagemapEntry]) -> String {
    let mut files = one_task(vec![vma(0x1000, 4, ANON)]);
    files.insert("pagemap-1.img", pagemap(1, entries));
    let set = ImageSet::new(files).unwrap();
    let task = set.checkpoint().unwrap().root();
    task.memory().unwrap_err().to_string()
}

#[test]
fn page_counts_past_the_address_space_are_refused() {
    for pages in [u64::MAX, 1 << 52, u64::MAX / PAGE + 1] {
        assert_eq!(
            memory_error(&[run(0x1000, pages, 4)]),
            format!(
                "pagemap-1.img: byte 18: pagemap_entry.nr_pages: is {pages:#x}, \
                 wanted pages inside the address space"
            )
        );
    }
}

#[test]
fn runs_out_of_order_overlapping_empty_or_askew_are_refused() {
    let wrong = |first: PagemapEntry, second: PagemapEntry| memory_error(&[first, second]);
    let first = run(0x2000, 2, 4);
    for (second, want) in [
        (run(0x1000, 1, 4), "at least the end of the run before"),
        (run(0x3000, 1, 4), "at least the end of the run before"),
        (run(0x4800, 1, 4), "a multiple of the page size"),
        (run(0x4000, 0, 4), "at least one page"),
        (run(0x4000, 1, 5), "not both 1 and 4"),
        (run(0x4000, 1, 0), "parent 1, present 4 or lazy 2"),
    ] {
        let said = wrong(first.clone(), second);
        assert!(said.contains(want), "{said}");
    }
}

#[test]
fn a_process_tree_without_a_tree_is_refused() {
    let task = |pid, ppid| {
        let entry = PstreeEntry { pid, ppid, threads: vec![pid], ..Default::default() };
        entry.encode_to_vec()
    };
    let tree = |tasks: &[Vec<u8>]| {
        let mut files = sample();
        files.insert("pstree.img", image(kind::PSTREE, tasks));
        error(files).to_string()
    };
    let root = || task(10139, 0);
    assert_eq!(tree(&[]), "pstree.img: has no root task");
    assert!(tree(&[root(), task(10141, 77)]).ends_with("no parent task 77"));
    assert!(
        tree(&[root(), task(10141, 10142), task(10142, 10141)]).ends_with("no parent task 10142")
    );
    assert!(tree(&[root(), task(10139, 10139)]).ends_with("a pid occurs twice"));
    assert_eq!(tree(&[root(), task(5, 10139)]), "core-5.img: is missing");
}

#[test]
fn a_missing_image_is_named_and_a_missing_list_is_empty() {
    for name in names() {
        let mut files = sample();
        files.remove(&name);
        match &name[..] {
            "stats-dump" => drop(read(files).unwrap()),
            "files.img" => assert_eq!(error(files).to_string(), "fdinfo-2.img: byte 12: no file 4"),
            name if name.starts_with("fdinfo") => drop(read(files).unwrap()),
            name => assert_eq!(error(files).to_string(), format!("{name}: is missing")),
        }
    }
}

#[test]
fn unknown_versions_and_foreign_images_are_refused() {
    let mut files = sample();
    let mut inventory = bytes("inventory.img");
    inventory[9] = 4;
    files.insert("inventory.img", inventory);
    let error = error(files);
    assert_eq!(error.to_string(), "inventory.img: image version is 4, wanted 1, 2 or 3");
    let mut files = sample();
    files.insert("pstree.img", bytes("files.img"));
    assert_eq!(
        read(files).unwrap_err().to_string(),
        "pstree.img: byte 4: magic is 0x56303138, wanted 0x50273030"
    );
}

#[test]
fn images_without_head_magics_and_of_the_other_byte_order_read() {
    let told = read(sample()).unwrap();
    let mut old = sample();
    let mut swapped = sample();
    for name in names() {
        let whole = bytes(&name);
        let start = if name == "inventory.img" { 0 } else { 4 };
        old.insert(&name, &whole[start..]);
        // Every word of the frame; the messages stay.
        let mut bytes = whole.clone();
        let mut at = start + 4;
        bytes[..at].chunks_exact_mut(4).for_each(<[u8]>::reverse);
        while let Some(word) = bytes.get_mut(at..at + 4) {
            let size = u32::from_le_bytes(word.try_into().unwrap());
            word.reverse();
            at += 4 + size as usize;
        }
        swapped.insert(&name, bytes);
    }
    assert!(read(old).unwrap() == told);
    assert!(read(swapped).unwrap() == told);
}

#[test]
fn only_regular_files_inside_the_directory_are_read() {
    let dir = common::scratch("escape");
    common::store(&sample(), &dir);
    let outside = common::scratch("outside").join("secret");
    fs::rename(dir.join("fs-10139.img"), &outside).unwrap();
    let refused = || {
        let set = ImageSet::open(&dir).unwrap();
        let error = tour(&set).unwrap_err();
        assert_eq!(error.to_string(), "fs-10139.img: is not a regular file");
        fs::remove_file(dir.join("fs-10139.img"))
            .or_else(|_| fs::remove_dir(dir.join("fs-10139.img")))
            .unwrap();
    };
    symlink(&outside, dir.join("fs-10139.img")).unwrap();
    refused();
    symlink("fs-10141.img", dir.join("fs-10139.img")).unwrap();
    refused();
    fs::create_dir(dir.join("fs-10139.img")).unwrap();
    refused();
    let made = Command::new("mkfifo").arg(dir.join("fs-10139.img")).status();
    assert!(made.unwrap().success());
    refused();
    let set = ImageSet::open(&dir).unwrap();
    let error = set.read("../outside/secret").unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::NotAFile));
}

#[test]
fn an_image_too_large_is_refused_before_it_is_read() {
    let dir = common::scratch("too_large");
    common::store(&sample(), &dir);
    let file = fs::File::create(dir.join("pstree.img")).unwrap();
    file.set_len(bounds::IMAGE.get() + 1).unwrap();
    let set = ImageSet::open(&dir).unwrap();
    let error = set.checkpoint().unwrap_err();
    let ErrorKind::TooLarge { size, limit } = error.kind() else { panic!("{error}") };
    assert_eq!((*size, *limit), (bounds::IMAGE.get() + 1, bounds::IMAGE.get()));
}

#[test]
fn no_lie_makes_the_reader_reserve_much_memory() {
    a_size_that_lies_is_truncation_where_the_entry_begins();
    a_length_that_lies_inside_a_message_is_truncation_too();
    page_counts_past_the_address_space_are_refused();
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmPeak:"));
    let peak: u64 = peak.unwrap().trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak < 2 << 20, "{peak} KiB");
}

/// Copies for strangers of damaged sets: what can be read before can be read after.
#[test]
fn damaged_sets_are_anonymised_or_refused() {
    let whole = sample();
    let mut compared = 0;
    for name in whole.names().unwrap() {
        let blob = whole.open(&name).unwrap().unwrap();
        let bytes = blob.to_vec(u64::MAX).unwrap();
        for at in (0..bytes.len()).step_by(bytes.len().div_ceil(12).max(1)) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (at % 8);
            let mut files = whole.clone();
            files.insert(&name, damaged);
            let Ok(set) = ImageSet::new(files.clone()) else { continue };
            let copy = Anonymous::new(files);
            // A copy looks into all messages, a set only into those that it needs.
            if copy.names().unwrap().iter().any(|name| copy.open(name).is_err()) {
                continue;
            }
            let copy = ImageSet::new(copy).unwrap();
            if let Ok(before) = set.checkpoint() {
                let after =
                    copy.checkpoint().unwrap_or_else(|error| panic!("{name} {at}: {error}"));
                assert_eq!(before.tasks().count(), after.tasks().count(), "{name} {at}");
                compared += 1;
            }
        }
    }
    assert!(compared > 40, "{compared} sets");
}
