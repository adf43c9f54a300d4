//! Pages files that claim terabytes and have none: holes are passed over.

#![cfg(feature = "search")]
#![allow(
    clippy::cast_possible_truncation,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod common;

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use common::{ANON, PAGE, image, load, pagemap, run, scratch, store, vma};
use criu_images::memory::PageSource;
use criu_images::proto::PstreeEntry;
use criu_images::search::{Pattern, Search};
use criu_images::{CoreDump, Diff, Finding, ImageSet, check, kind};
use prost::Message;

const BASE: u64 = 0x10_0000;
/// Pages of 4 TiB.
const PAGES: u64 = 1 << 30;
/// Places of the pages that are there.
const STORED: [u64; 3] = [0, 1 << 29, PAGES - 1];

/// A copy of a real set in a directory, whose root has 4 TiB, of which three pages are stored.
fn sparse(name: &str, byte: u8) -> PathBuf {
    let directory = scratch(name);
    let mut files = load(Path::new("tests/data/pipeline"));
    let whole = ImageSet::new(files.clone()).unwrap();
    let root = whole.checkpoint().unwrap().root();
    let mut mm = root.memory().unwrap().unwrap().mm().clone();
    mm.vmas = vec![vma(BASE, PAGES, ANON)];
    let pid = root.pid().into();
    files.insert(kind::MM.file_name(pid), image(kind::MM, &[mm.encode_to_vec()]));
    files.insert(kind::PAGEMAP.file_name(pid), pagemap(9, &[run(BASE, PAGES, 4)]));
    // The other tasks' pages are not in the copy.
    let task = PstreeEntry { pid: root.pid(), threads: vec![root.pid()], ..Default::default() };
    files.insert(kind::PSTREE.file, image(kind::PSTREE, &[task.encode_to_vec()]));
    store(&files, &directory);
    let pages = File::create(directory.join("pages-9.img")).unwrap();
    pages.set_len(PAGES * PAGE).unwrap();
    for place in STORED {
        pages.write_all_at(&[byte; PAGE as usize], place * PAGE).unwrap();
    }
    directory
}

fn found(directory: &Path, pattern: Pattern) -> Vec<(u64, usize)> {
    let set = ImageSet::open(directory).unwrap();
    let memory = set.checkpoint().unwrap().root().memory().unwrap().unwrap();
    let search = Search::new(pattern);
    let hits = search.run(&memory).map(Result::unwrap);
    hits.map(|hit| (hit.address, hit.bytes.len())).collect()
}

#[test]
fn a_search_passes_over_the_holes_of_a_pages_file() {
    let directory = sparse("sparse-search", b'x');
    let want = STORED.map(|place| (BASE + place * PAGE, 4096));
    assert_eq!(found(&directory, Pattern::literal(&[b'x'; 4096]).unwrap()), want);
    // Where memory and a hole meet, and only there.
    let edges = found(&directory, Pattern::regex("x\\x00{16}").unwrap());
    assert_eq!(edges, [0, 1].map(|i| (BASE + STORED[i] * PAGE + 4095, 17)));
    assert_eq!(found(&directory, Pattern::regex("\\x00{16}x").unwrap()).len(), 2);
}

#[test]
fn a_diff_passes_over_the_holes_of_a_pages_file() {
    let (old, new) = (sparse("sparse-old", b'x'), sparse("sparse-new", b'y'));
    let pages = File::options().write(true).open(new.join("pages-9.img")).unwrap();
    pages.write_all_at(&[b'x'; PAGE as usize], 0).unwrap();
    pages.write_all_at(b"z", 7 << 30).unwrap();
    let (old, new) = (ImageSet::open(old).unwrap(), ImageSet::open(new).unwrap());
    let diff = Diff::new(old.checkpoint().unwrap(), new.checkpoint().unwrap()).unwrap();
    let dirty = &diff.changed[0].dirty[0];
    let ranges: Vec<_> = dirty.ranges.iter().map(|range| (range.address, range.pages)).collect();
    assert_eq!(
        ranges,
        [(BASE + (7 << 30), 1), (BASE + STORED[1] * PAGE, 1), (BASE + STORED[2] * PAGE, 1)]
    );
    let of_pages = |one: &&Finding| one.to_string().contains("pages-9.img");
    assert_eq!(check(&old).iter().filter(of_pages).count(), 0);
}

#[test]
fn a_core_file_of_a_sparse_set_is_sparse() {
    let directory = sparse("sparse-core", b'x');
    let set = ImageSet::open(&directory).unwrap();
    let root = set.checkpoint().unwrap().root();
    let memory = root.memory().unwrap().unwrap();
    assert_eq!(memory.hole(BASE + PAGE).unwrap(), Some(BASE + STORED[1] * PAGE));
    assert_eq!(memory.hole(BASE).unwrap(), None);
    let core = CoreDump::new(&root).unwrap();
    let path = directory.join("core");
    core.write_sparse_to(&mut File::create(&path).unwrap()).unwrap();
    let found = path.metadata().unwrap();
    assert_eq!(found.len(), core.size());
    assert!(found.blocks() * 512 < 8 << 20);
    // The three pages are where they should be.
    let written = File::open(&path).unwrap();
    let start = core.size() - PAGES * PAGE;
    let mut both = [0; 2];
    for place in STORED {
        written.read_exact_at(&mut both, start + place * PAGE).unwrap();
        assert_eq!(both, *b"xx");
    }
    written.read_exact_at(&mut both, start + PAGE - 1).unwrap();
    assert_eq!(both, *b"x\0");
}
