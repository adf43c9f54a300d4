use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use criu_lab::scratch;

use super::*;
use crate::source::{Directory, InMemory};

const MICRO: Duration = Duration::from_micros(1);

fn fingerprint() -> Fingerprint {
    Fingerprint::from_number(0x1234_5678_9abc_def0)
}

/// Returns numbers that look like chance: a linear congruence.
fn chance(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut state = seed;
    move |below| {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (state >> 33) % below
    }
}

fn some() -> WorkingSet {
    let mut recording = Recording::new(PageSize::K4);
    for (pid, page, after) in
        [(9, 100, 5), (9, 101, 6), (7, 1, 7), (9, 3, 8), (7, 1, 9), (9, 102, 10), (7, 0, 10)]
    {
        assert!(recording.touch(pid, page * 4096 + 17, after * MICRO));
    }
    assert_eq!(recording.pages(), 6);
    recording.finish(fingerprint(), 1000 * MICRO)
}

fn run(page: u64, pages: u64, after: u32) -> Touched {
    Touched { start: page * 4096, pages, after: after * MICRO }
}

/// Puts the right checksum into changed bytes.
fn mended(mut bytes: Vec<u8>) -> Vec<u8> {
    WorkingSet::seal(&mut bytes);
    bytes
}

fn said(bytes: &[u8]) -> String {
    WorkingSet::parse(bytes).unwrap_err().to_string()
}

/// Makes a file with a body.
fn with_body(body: &[u8]) -> Vec<u8> {
    mended([&some().to_bytes()[..32], body].concat())
}

#[test]
fn pages_come_in_the_order_of_their_first_touch() {
    let set = some();
    let [seven, nine] = set.tasks() else { panic!("{set:?}") };
    assert_eq!((seven.pid(), nine.pid()), (7, 9));
    assert_eq!(nine.runs(), [run(100, 2, 5), run(3, 1, 8), run(102, 1, 10)]);
    assert_eq!(seven.runs(), [run(1, 1, 7), run(0, 1, 10)]);
    let order: Vec<_> = set.in_order().iter().map(|(pid, run)| (*pid, run.start >> 12)).collect();
    assert_eq!(order, [(9, 100), (7, 1), (9, 3), (7, 0), (9, 102)]);
    assert_eq!((set.pages(), nine.pages()), (6, 4));
}

#[test]
fn a_set_comes_back_as_it_was() {
    let mut chance = chance(1);
    for page_size in [4096, 65536].map(|size| PageSize::new(size).unwrap()) {
        let mut recording = Recording::new(page_size);
        for number in 0..5000 {
            let (pid, page) = (1 + chance(4), chance(if number % 2 == 0 { 300 } else { 1 << 47 }));
            let pid = u32::try_from(pid).unwrap();
            recording.touch(pid, page.wrapping_mul(page_size.bytes()), number * MICRO);
        }
        let set = recording.finish(fingerprint(), Duration::from_secs(3));
        assert_eq!(WorkingSet::parse(&set.to_bytes()).unwrap(), set);
    }
    let empty = Recording::new(PageSize::K4).finish(fingerprint(), Duration::ZERO);
    assert_eq!(WorkingSet::parse(&empty.to_bytes()).unwrap(), empty);
}

#[test]
fn thirteen_thousand_scattered_pages_take_at_most_100_kib() {
    let mut recording = Recording::new(PageSize::K4);
    let (mut chance, mut number) = (chance(2), 0);
    while recording.pages() < 13_000 {
        number += 1;
        recording.touch(7, 0x7f00_0000_0000 + chance(1 << 18) * 4096, number * 47 * MICRO);
    }
    let size = recording.finish(fingerprint(), Duration::from_secs(1)).to_bytes().len();
    assert!(size <= 100 << 10, "{size} bytes");
}

#[test]
fn an_address_at_the_end_of_memory_makes_no_file_that_cannot_be_read() {
    let mut recording = Recording::new(PageSize::K4);
    for page in [0, 1, 2, 3].map(|back| u64::MAX - back * 4096) {
        recording.touch(7, page, Duration::MAX);
    }
    let set = recording.finish(fingerprint(), Duration::MAX);
    assert_eq!(set.pages(), 3);
    assert_eq!(WorkingSet::parse(&set.to_bytes()).unwrap(), set);
}

#[test]
fn every_damage_is_noticed() {
    let bytes = some().to_bytes();
    for bit in 0..bytes.len() * 8 {
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(WorkingSet::parse(&changed).is_err(), "bit {bit}");
    }
    for size in 0..bytes.len() {
        assert!(WorkingSet::parse(&bytes[..size]).is_err(), "{size} bytes");
    }
    let longer = [&bytes[..], &[0]].concat();
    assert_eq!(said(&longer), "working-set.bin: is damaged: the checksum differs");
    assert_eq!(
        said(&mended(longer)),
        format!("working-set.bin: byte {}: goes on after the last task", bytes.len())
    );
}

#[test]
fn another_file_or_version_is_named() {
    let mut bytes = some().to_bytes();
    bytes[8] = 2;
    assert_eq!(said(&bytes), "working-set.bin: byte 8: is 0x2, wanted version 1");
    bytes[0] = b'C';
    assert_eq!(said(&bytes), "working-set.bin: byte 0: is not a working set");
    let mut bytes = some().to_bytes();
    bytes[12] = 1;
    let want = "is 0x1001, wanted a power of two from 0x1000 to 0x40000";
    assert_eq!(said(&mended(bytes)), format!("working-set.bin: byte 12: {want}"));
}

#[test]
fn numbers_that_make_no_sense_are_refused_with_their_place() {
    let max = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
    let beyond = "byte 36: a run passes the address space";
    let long = [&[0, 1, 7, 1, 1][..], &max, &[0]].concat();
    let far = [&[0, 1, 7, 1][..], &max, &[0]].concat();
    let late = [&[0, 1, 7, 2, 0, 1, 4][..], &max].concat();
    for (body, fault) in [
        // A run before address 0, and runs that pass the end.
        (&[0, 1, 7, 1, 6, 0][..], beyond),
        (&far[..], beyond),
        (&long[..], beyond),
        (&late[..], "byte 38: a time passes 64 bits"),
        (&[0, 1, 7, 2, 4, 0, 6, 0], "byte 40: a page is listed twice"),
        (&[0, 2, 7, 0, 7, 0], "byte 36: is 0x7, wanted a pid above those before"),
        (
            &[0, 1, 0xff, 0xff, 0xff, 0xff, 0x10, 0],
            "byte 34: is 0x10fffffff, wanted a pid above those before",
        ),
        // Counts without items.
        (&[0, 0x80, 0x80, 0x80, 0x80, 1], "byte 38: ends early: 1 byte is needed, 0 are left"),
        (&[0, 1, 7, 0xff, 1], "byte 37: ends early: 1 byte is needed, 0 are left"),
    ] {
        assert_eq!(said(&with_body(body)), format!("working-set.bin: {fault}"), "{body:?}");
    }
}

#[test]
fn a_file_belongs_to_the_images_that_it_was_recorded_with() {
    let directory = scratch("working-set");
    for entry in fs::read_dir("tests/data/pipeline").unwrap() {
        let from = entry.unwrap().path();
        fs::copy(&from, directory.join(from.file_name().unwrap())).unwrap();
    }
    let images = Directory::open(&directory).unwrap();
    assert_eq!(WorkingSet::of(&images).unwrap(), None);
    let mut recording = Recording::new(PageSize::K4);
    recording.touch(7, 4096, MICRO);
    let set = recording.finish(Fingerprint::of(&images).unwrap(), MICRO);
    set.save(&File::open(&directory).unwrap()).unwrap();
    assert_eq!(WorkingSet::of(&images).unwrap().unwrap(), set);
    let same = Directory::open("tests/data/pipeline").unwrap();
    assert_eq!(Fingerprint::of(&same).unwrap(), set.fingerprint());
    // Each of the files counts, and their names do.
    let inventory = directory.join("inventory.img");
    let bytes = fs::read(&inventory).unwrap();
    fs::write(&inventory, [&bytes[..], &[0]].concat()).unwrap();
    let error = WorkingSet::of(&images).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Stale));
    assert_eq!(error.to_string(), "working-set.bin: was made with other images");
    fs::write(&inventory, bytes).unwrap();
    assert!(WorkingSet::of(&images).unwrap().is_some());
    let names = images.names().unwrap();
    let pagemap = names.iter().find(|name| name.starts_with("pagemap-")).unwrap();
    fs::rename(directory.join(pagemap), directory.join("pagemap-9999.img")).unwrap();
    assert!(matches!(WorkingSet::of(&images).unwrap_err().kind(), ErrorKind::Stale));
}

#[test]
fn a_saved_file_replaces_links_and_is_its_owner_s_alone() {
    let directory = scratch("working-set-save");
    let (victim, file) = (directory.join("victim"), directory.join(WorkingSet::FILE));
    fs::write(&victim, "kept").unwrap();
    symlink(&victim, &file).unwrap();
    for _ in 0..2 {
        some().save(&Directory::open(&directory).unwrap()).unwrap();
        assert_eq!(fs::read(&victim).unwrap(), b"kept");
        assert_eq!(fs::symlink_metadata(&file).unwrap().mode(), 0o100_600);
        assert_eq!(WorkingSet::parse(&fs::read(&file).unwrap()).unwrap(), some());
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 2);
    }
    // A file that cannot take its place is removed.
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    some().save(&File::open(&directory).unwrap()).unwrap_err();
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 2);
    assert!(WorkingSet::of(&Directory::open(&directory).unwrap()).is_err());
}

#[test]
fn a_working_set_too_large_is_refused_before_it_is_read() {
    let directory = scratch("working-set-large");
    let file = File::create(directory.join(WorkingSet::FILE)).unwrap();
    file.set_len(1 << 40).unwrap();
    let error = WorkingSet::of(&Directory::open(&directory).unwrap()).unwrap_err();
    let want = "working-set.bin: has 1099511627776 bytes, at most 8388608 are read";
    assert_eq!(error.to_string(), want);
}

#[test]
fn a_recording_has_a_bound() {
    let mut recording = Recording::new(PageSize::K4);
    for page in 0..Recording::MAX_PAGES as u64 {
        assert!(recording.touch(7, page * 4096, MICRO));
    }
    assert!(!recording.touch(7, 1 << 40, MICRO));
    assert!(!recording.touch(8, 4096, MICRO));
    assert!(recording.touch(7, 4096, MICRO));
    assert_eq!(recording.finish(fingerprint(), MICRO).pages(), Recording::MAX_PAGES as u64);
}

#[test]
fn crafted_bytes_end_in_a_result() {
    let bytes = some().to_bytes();
    let mut chance = chance(3);
    for _ in 0..20_000 {
        let mut changed = bytes.clone();
        for _ in 0..=chance(4) {
            let at = usize::try_from(32 + chance(bytes.len() as u64 - 32)).unwrap();
            changed[at] = u8::try_from(chance(256)).unwrap();
        }
        let changed = mended(changed);
        if let Ok(set) = WorkingSet::parse(&changed) {
            assert_eq!(WorkingSet::parse(&set.to_bytes()).unwrap(), set);
            let runs: usize = set.tasks().iter().map(|task| task.runs().len()).sum();
            assert_eq!(set.in_order().len(), runs);
        }
    }
}

#[test]
fn no_image_has_the_name() {
    assert_eq!(crate::kind::Kind::of_file(WorkingSet::FILE), None);
    let set = crate::ImageSet::new(InMemory::default());
    assert!(set.is_err());
    let set = crate::ImageSet::open(Path::new("tests/data/pipeline")).unwrap();
    assert!(set.working_set().unwrap().is_none());
}

#[test]
fn a_check_and_a_summary_go_on_beside_any_working_set() {
    let mut findings = Vec::new();
    for bytes in [None, Some(some().to_bytes()), Some(b"garbage".to_vec())] {
        let directory = scratch("working-set-check");
        for entry in fs::read_dir("tests/data/pipeline").unwrap() {
            let from = entry.unwrap().path();
            fs::copy(&from, directory.join(from.file_name().unwrap())).unwrap();
        }
        if let Some(bytes) = bytes {
            fs::write(directory.join(WorkingSet::FILE), bytes).unwrap();
        }
        let set = crate::ImageSet::open(&directory).unwrap();
        let found = crate::check(&set).iter().map(ToString::to_string).collect::<Vec<_>>();
        findings.push(found);
        crate::view::Summary::new(set.checkpoint().unwrap()).unwrap();
    }
    assert_eq!(findings[0], findings[1]);
    assert_eq!(findings[0], findings[2]);
}
