//! Marks of pages that may come later, where CRIU has set none.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use common::{ANON, PAGE, image, one_task, pagemap, pattern, run, scratch, store, vma};
use criu_images::edit::{Edit, edit, edit_directory, unmarked};
use criu_images::kind;
use criu_images::memory::{PageFlags, PageSource};
use criu_images::proto::{
    CoreEntry, PagemapBlocks, PagemapEntry, PstreeEntry, TaskCoreEntry, ThreadCoreEntry,
    ThreadInfoX86, VmaEntry,
};
use criu_images::source::{InMemory, Source};
use criu_images::{Image, ImageSet};
use prost::Message;

const BASE: u64 = 0x40_0000;
const PARENT: u32 = 1;
const LAZY: u32 = 2;
const PRESENT: u32 = 4;

fn at(page: u64) -> u64 {
    BASE + page * PAGE
}

/// A task with this stack pointer, these runs, and mappings of two kinds: pages 0 to 7 can be lazy,
/// pages 8 and 9 are locked, pages 10 to 15 can be lazy.
fn set(stack_pointer: u64, runs: &[PagemapEntry]) -> InMemory {
    let locked = VmaEntry { flags: 0x2022, ..vma(at(8), 2, ANON) };
    let mut files = one_task(vec![vma(at(0), 8, ANON), locked, vma(at(10), 6, ANON)]);
    let mut info = ThreadInfoX86::default();
    info.gpregs.sp = stack_pointer;
    let core = CoreEntry {
        mtype: 1,
        thread_info: Some(info),
        tc: Some(TaskCoreEntry { task_state: 1, comm: b"one".to_vec(), ..Default::default() }),
        thread_core: Some(ThreadCoreEntry::default()),
        ..Default::default()
    };
    files.insert(kind::CORE.file_name(1), image(kind::CORE, &[core.encode_to_vec()]));
    files.insert("pagemap-1.img", pagemap(1, runs));
    files.insert("pages-1.img", (0..16).flat_map(|page| pattern(at(page))).collect::<Vec<_>>());
    files
}

/// The entries of a pagemap, without its head.
fn entries(bytes: &[u8]) -> Vec<PagemapEntry> {
    let mut image = Image::parse("pagemap-1.img", bytes, kind::PAGEMAP).unwrap();
    image.next_entry().unwrap();
    let mut all = Vec::new();
    while let Some(entry) = image.next_entry().unwrap() {
        all.push(entry.decode().unwrap());
    }
    all
}

/// The entries after a mark.
fn marked(files: &InMemory) -> Vec<PagemapEntry> {
    let edited = edit(&ImageSet::new(files.clone()).unwrap(), &[Edit::MarkLazy]).unwrap();
    let [pagemap] = &edited[..] else { panic!("{edited:?}") };
    assert_eq!(pagemap.name, "pagemap-1.img");
    let entries = entries(&pagemap.bytes);
    let count = entries.iter().filter(|entry| entry.flags() & LAZY != 0).count();
    assert_eq!(pagemap.changes, count);
    entries
}

fn bytes(set: &ImageSet) -> Vec<u8> {
    let memory = set.checkpoint().unwrap().root().memory().unwrap().unwrap();
    let mut bytes = vec![0; usize::try_from(16 * PAGE).unwrap()];
    memory.read_at(at(0), &mut bytes).unwrap();
    bytes
}

#[test]
fn all_pages_but_those_of_stacks_and_locked_memory_are_marked() {
    let files = set(at(3), &[run(at(0), 16, PRESENT)]);
    let before = ImageSet::new(files.clone()).unwrap();
    let found = unmarked(&before).unwrap();
    assert_eq!(found.len(), 1);
    let task = found[0];
    assert_eq!((task.pid, task.tid, task.stack_pointer, task.pages), (1, 1, at(3), 13));

    let directory = scratch("marks");
    store(&files, &directory);
    edit_directory(&directory, &[Edit::MarkLazy, Edit::MarkLazy]).unwrap();
    let after = ImageSet::open(&directory).unwrap();
    let memory = after.checkpoint().unwrap().root().memory().unwrap().unwrap();
    let (plain, later) = (PageFlags::PRESENT, PageFlags::PRESENT | PageFlags::LAZY);
    let runs: Vec<_> = memory.runs().map(|run| (run.start, run.pages, run.flags)).collect();
    let want = [
        (at(0), 3, later),
        (at(3), 1, plain),
        (at(4), 4, later),
        (at(8), 2, plain),
        (at(10), 6, later),
    ];
    assert_eq!(runs, want);
    drop(memory);
    assert_eq!(bytes(&before), bytes(&after));
    assert_eq!(unmarked(&after).unwrap(), []);
    // A second mark finds nothing to do.
    assert!(edit_directory(&directory, &[Edit::MarkLazy]).unwrap().is_empty());
    assert!(!criu_lab::names(&directory).iter().any(|name| name.starts_with('.')));
    fs::remove_dir_all(directory).unwrap();
}

/// The inventory of a complete checkpoint is never away, not even between two pagemaps.
#[test]
fn marks_of_several_tasks_leave_the_inventory_where_it_is() {
    let mut files = set(at(3), &[run(at(0), 16, PRESENT)]);
    for kind in [kind::CORE, kind::IDS, kind::MM, kind::PAGEMAP] {
        let blob = files.open(&kind.file_name(1)).unwrap().unwrap();
        let bytes = blob.to_vec(u64::MAX).unwrap();
        files.insert(kind.file_name(2), bytes);
    }
    let task = |pid, ppid| PstreeEntry { pid, ppid, threads: vec![pid], ..Default::default() };
    let tree = [task(1, 0), task(2, 1)].map(|task| task.encode_to_vec());
    files.insert(kind::PSTREE.file_name(1), image(kind::PSTREE, &tree));
    let directory = scratch("marks-inventory");
    store(&files, &directory);
    let changed = |path: &Path| {
        let found = fs::metadata(path).unwrap();
        (found.ctime(), found.ctime_nsec())
    };
    let inventory = directory.join("inventory.img");
    let before = changed(&inventory);
    // Times of files have ticks: from here on a change of the inventory shows.
    let clock = directory.with_extension("clock");
    assert!(criu_lab::soon(|| {
        fs::write(&clock, "").unwrap();
        changed(&clock) > before
    }));
    fs::remove_file(clock).unwrap();
    let edited = edit_directory(&directory, &[Edit::MarkLazy]).unwrap();
    let names: Vec<_> = edited.iter().map(|image| &*image.name).collect();
    assert_eq!(names, ["pagemap-1.img", "pagemap-2.img"]);
    // A rename would change it.
    assert_eq!(changed(&inventory), before);
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn a_pagemap_keeps_the_form_of_its_criu() {
    let old = |first, pages, flags| PagemapEntry {
        compat_nr_pages: pages,
        nr_pages: None,
        ..run(at(first), 0, flags)
    };
    // The oldest form has no flags.
    let oldest = PagemapEntry { flags: None, ..old(12, 1, 0) };
    let runs = [old(0, 2, PRESENT), old(2, 3, PRESENT), old(5, 2, PARENT), oldest];
    let want = [
        old(0, 2, PRESENT | LAZY),
        old(2, 1, PRESENT | LAZY),
        old(3, 1, PRESENT),
        old(4, 1, PRESENT | LAZY),
        old(5, 2, PARENT),
        old(12, 1, PRESENT | LAZY),
    ];
    assert_eq!(marked(&set(at(3), &runs)), want);

    let new = [run(at(0), 2, PRESENT), run(at(2), 3, PRESENT)];
    let want = [
        run(at(0), 2, PRESENT | LAZY),
        run(at(2), 1, PRESENT | LAZY),
        run(at(3), 1, PRESENT),
        run(at(4), 1, PRESENT | LAZY),
    ];
    assert_eq!(marked(&set(at(3), &new)), want);
}

#[test]
fn compressed_runs_are_marked_as_a_whole_or_not_at_all() {
    let packed = |first, pages: u32, flags| {
        let size = u32::try_from(PAGE).unwrap();
        let blocks = PagemapBlocks {
            block_sizes: vec![size; pages as usize],
            total_payload_size: u64::from(pages) * PAGE,
            pages_per_block: 1,
        };
        PagemapEntry { blocks: Some(blocks), ..run(at(first), pages.into(), flags) }
    };
    let runs = [packed(0, 2, PRESENT), packed(2, 3, PRESENT), packed(6, 4, PRESENT)];
    let want = [packed(0, 2, PRESENT | LAZY), runs[1].clone(), runs[2].clone()];
    assert_eq!(marked(&set(at(3), &runs)), want);
}

#[test]
fn sets_with_marks_and_sets_without_a_reason_stay() {
    let all = run(at(0), 16, PRESENT);
    let with_mark = [run(at(0), 2, PRESENT | LAZY), run(at(2), 14, PRESENT)];
    let locked = [run(at(8), 2, PRESENT)];
    let without_pagemap = {
        let mut files = set(at(3), std::slice::from_ref(&all));
        files.remove("pagemap-1.img");
        files
    };
    let sets = [
        // No stack pointer is at the start of a page.
        set(at(3) + 16, &[all]),
        set(at(3), &with_mark),
        // No page could be marked.
        set(at(3), &locked),
        // The pagemap is elsewhere, as after a dump to a page server.
        without_pagemap,
    ];
    for files in sets {
        let set = ImageSet::new(files).unwrap();
        assert_eq!(unmarked(&set).unwrap(), []);
        assert_eq!(edit(&set, &[Edit::MarkLazy]).unwrap(), []);
    }
}
