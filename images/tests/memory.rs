//! Memory of sets made by hand, in which each byte names its address.

#![allow(
    clippy::cast_possible_truncation,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod common;

use std::fs;
use std::os::unix::fs::symlink;

use common::{ANON, PAGE, check_chunks, image, one_task, pagemap, pattern, run, vma};
use criu_images::memory::{Content, Memory, PageSource};
use criu_images::proto::{
    FdTypes, FileEntry, MemfdFileEntry, MemfdInodeEntry, MmEntry, PagemapEntry,
};
use criu_images::source::InMemory;
use criu_images::{Error, ErrorKind, ImageSet, NoPage, kind};
use prost::Message;

const PARENT: u32 = 1;
const LAZY: u32 = 2;
const PRESENT: u32 = 4;
const BASE: u64 = 0x1_0000;

fn pages(addresses: impl IntoIterator<Item = u64>) -> Vec<u8> {
    addresses.into_iter().flat_map(pattern).collect()
}

fn with_memory<T>(files: InMemory, look: impl FnOnce(&Memory<'_>) -> T) -> T {
    let set = ImageSet::new(files).unwrap();
    let memory = set.checkpoint().unwrap().root().memory().unwrap();
    look(&memory.unwrap())
}

fn page(memory: &Memory<'_>, address: u64) -> criu_images::Result<Vec<u8>> {
    let mut page = vec![0xee; PAGE as usize];
    memory.read_at(address, &mut page).map(|()| page)
}

#[test]
fn a_program_that_replaced_its_auxiliary_vector_is_read() {
    // Without a page size, with one that Linux does not have, and with one that the mappings do not
    // have.
    for auxv in [vec![], vec![33, 0], vec![6, 12], vec![6, 4 * PAGE, 0, 0]] {
        let mut files = one_task(vec![vma(BASE, 1, ANON), vma(BASE + 4 * PAGE, 3, ANON)]);
        let vmas = vec![vma(BASE, 1, ANON), vma(BASE + 4 * PAGE, 3, ANON)];
        let mm = MmEntry { mm_saved_auxv: auxv.clone(), vmas, ..Default::default() };
        files.insert("mm-1.img", image(kind::MM, &[mm.encode_to_vec()]));
        files.insert("pagemap-1.img", pagemap(1, &[run(BASE + 5 * PAGE, 1, PRESENT)]));
        files.insert("pages-1.img", pages([BASE + 5 * PAGE]));
        with_memory(files, |memory| {
            assert_eq!(memory.page_size().bytes(), PAGE, "{auxv:?}");
            assert_eq!(page(memory, BASE + 5 * PAGE).unwrap(), pattern(BASE + 5 * PAGE));
        });
    }
}

#[test]
fn both_ways_to_count_pages_and_the_old_flags_read_alike() {
    let old = |vaddr, pages, in_parent, flags| PagemapEntry {
        vaddr,
        compat_nr_pages: pages,
        in_parent,
        flags,
        ..Default::default()
    };
    let entries = [
        old(BASE, 2, None, None),
        old(BASE + 2 * PAGE, 1, Some(false), Some(PRESENT | LAZY)),
        run(BASE + 4 * PAGE, 1, PRESENT),
    ];
    let mut files = one_task(vec![vma(BASE, 6, ANON)]);
    files.insert("pagemap-1.img", pagemap(9, &entries));
    let present = [0, 1, 2, 4].map(|i| BASE + i * PAGE);
    files.insert("pages-9.img", pages(present));
    with_memory(files, |memory| {
        for address in (0..6).map(|i| BASE + i * PAGE) {
            let want =
                if present.contains(&address) { pattern(address) } else { vec![0; PAGE as usize] };
            assert!(page(memory, address).unwrap() == want, "{address:#x}");
        }
        assert_eq!(check_chunks(memory), 4 * PAGE);
        let totals = memory.totals();
        assert_eq!((totals.mapped, totals.present, totals.zero), (6, 4, 2));
    });
}

#[test]
fn a_read_crosses_pages_runs_and_mappings_but_no_gap() {
    let vmas = vec![vma(BASE, 3, ANON), vma(BASE + 3 * PAGE, 1, ANON)];
    let mut files = one_task(vmas);
    let entries = [run(BASE, 1, PRESENT), run(BASE + 2 * PAGE, 2, PRESENT)];
    files.insert("pagemap-1.img", pagemap(1, &entries));
    files.insert("pages-1.img", pages([0, 2, 3].map(|i| BASE + i * PAGE)));
    with_memory(files, |memory| {
        let mut all = pages([0, 1, 2, 3].map(|i| BASE + i * PAGE));
        all[PAGE as usize..2 * PAGE as usize].fill(0);
        for (from, to) in [(0, 4 * PAGE), (5, 3 * PAGE + 1), (PAGE - 1, PAGE + 1)] {
            let mut buf = vec![0xee; (to - from) as usize];
            memory.read_at(BASE + from, &mut buf).unwrap();
            assert!(buf == all[from as usize..to as usize]);
        }
        let error = memory.read_at(BASE + 3 * PAGE + 1, &mut [0; 4096]);
        let error = error.unwrap_err();
        let ErrorKind::NoPage { address, why } = error.kind() else { panic!("{error}") };
        assert_eq!((*address, *why), (BASE + 4 * PAGE, NoPage::Unmapped), "{error}");
        memory.read_at(u64::MAX, &mut []).unwrap();
        assert_eq!(check_chunks(memory), 3 * PAGE);
    });
}

#[test]
fn what_is_not_in_the_set_says_where_it_is() {
    const FILE_PRIVATE: u32 = 1 | 1 << 6;
    const VVAR: u32 = 1 | 1 << 9 | 1 << 12;
    const GUARD: u32 = 1 << 16;
    let vmas = vec![
        vma(BASE, 1, FILE_PRIVATE),
        vma(BASE + PAGE, 1, VVAR),
        vma(BASE + 2 * PAGE, 4, ANON),
        // Guard pages follow all mappings, and lie inside one.
        vma(BASE + 5 * PAGE, 1, GUARD),
    ];
    let mut files = one_task(vmas);
    files.insert("pagemap-1.img", pagemap(1, &[run(BASE + 2 * PAGE, 1, LAZY)]));
    with_memory(files, |memory| {
        let why = |i| {
            let error = page(memory, BASE + i * PAGE).unwrap_err();
            match error.kind() {
                ErrorKind::NoPage { why, .. } => *why,
                other => panic!("{other}"),
            }
        };
        check_chunks(memory);
        assert_eq!(why(0), NoPage::File);
        assert_eq!(why(1), NoPage::Kernel);
        assert_eq!(why(2), NoPage::Lazy);
        assert_eq!(page(memory, BASE + 4 * PAGE).unwrap(), [0; 4096]);
        assert_eq!(why(5), NoPage::Guard);
        let totals = memory.totals();
        assert_eq!((totals.vmas, totals.mapped), (3, 6));
        assert_eq!((totals.file, totals.kernel, totals.lazy), (1, 2, 1));
        assert_eq!((totals.present, totals.zero), (0, 2));
        assert_eq!(
            totals.to_string(),
            "3 mappings of 6 pages: 1 kept back, 2 untouched, 1 of files, 2 of the kernel"
        );
    });
}

/// Three sets: page N has its bytes in the set N % 3 levels up.
fn three_levels() -> [InMemory; 3] {
    const PAGES: u64 = 9;
    [0, 1, 2].map(|level| {
        let mut files = one_task(vec![vma(BASE, PAGES, ANON)]);
        let at = |i: u64| BASE + i * PAGE;
        let here = |i: u64| i % 3 == level;
        let entries = (0..PAGES)
            .filter(|i| i % 3 >= level)
            .map(|i| if here(i) { run(at(i), 1, PRESENT) } else { run(at(i), 1, PARENT) });
        files.insert("pagemap-1.img", pagemap(1, &entries.collect::<Vec<_>>()));
        files.insert("pages-1.img", pages((0..PAGES).filter(|&i| here(i)).map(at)));
        files
    })
}

fn joined([mut child, mut parent, grandparent]: [InMemory; 3]) -> InMemory {
    parent.set_parent(grandparent);
    child.set_parent(parent);
    child
}

#[test]
fn pages_come_from_any_level_of_the_parent_chain() {
    with_memory(joined(three_levels()), |memory| {
        for address in (0..9).map(|i| BASE + i * PAGE) {
            assert!(page(memory, address).unwrap() == pattern(address));
        }
        assert_eq!(check_chunks(memory), 9 * PAGE);
        let totals = memory.totals();
        assert_eq!((totals.present, totals.parent, totals.zero), (3, 6, 0));
    });
}

#[test]
fn a_page_the_parent_lacks_is_an_error_not_zero() {
    let mut levels = three_levels();
    levels[2].insert("pagemap-1.img", pagemap(1, &[run(BASE + 2 * PAGE, 1, PRESENT)]));
    with_memory(joined(levels), |memory| {
        assert!(page(memory, BASE + 2 * PAGE).is_ok());
        let error = page(memory, BASE + 5 * PAGE).unwrap_err();
        assert_eq!(
            error.to_string(),
            "parent/pagemap-1.img: leaves 0x15000 to a parent set, which lacks it"
        );
    });
    let [child, ..] = three_levels();
    with_memory(child, |memory| {
        assert!(page(memory, BASE).is_ok());
        let error = page(memory, BASE + PAGE).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::BrokenParent { address: 0x11000 }));
        assert_eq!(error.image(), "pagemap-1.img");
    });
}

#[test]
fn a_range_of_chunks_begins_and_ends_where_it_was_asked_to() {
    let mut files = one_task(vec![vma(BASE, 4, ANON)]);
    files.insert("pagemap-1.img", pagemap(1, &[run(BASE, 2, PRESENT)]));
    files.insert("pages-1.img", pages([BASE, BASE + PAGE]));
    with_memory(files, |memory| {
        let chunks: Result<Vec<_>, _> = memory.chunks(BASE + 100..BASE + 3 * PAGE).collect();
        let [stored, zero] = &chunks.unwrap()[..] else {
            panic!("two chunks");
        };
        let both = pages([BASE, BASE + PAGE]);
        assert_eq!(stored.content, Content::Bytes(&both[100..]));
        assert_eq!((stored.start, stored.end), (BASE + 100, BASE + 2 * PAGE));
        assert_eq!(zero.content, Content::Zero);
        assert_eq!((zero.start, zero.end), (BASE + 2 * PAGE, BASE + 3 * PAGE));
        assert_eq!(memory.chunks(BASE..BASE).count(), 0);
    });
}

#[test]
fn a_pages_file_that_ends_early_or_shrinks_is_an_error() {
    let dir = common::scratch("shrinks");
    let mut files = one_task(vec![vma(BASE, 4, ANON)]);
    files.insert("pagemap-1.img", pagemap(1, &[run(BASE, 2, PRESENT)]));
    files.insert("pages-1.img", pages([BASE, BASE + PAGE]));
    common::store(&files, &dir);
    let set = ImageSet::open(&dir).unwrap();
    let memory = set.checkpoint().unwrap().root().memory().unwrap().unwrap();
    assert!(page(&memory, BASE + PAGE).unwrap() == pattern(BASE + PAGE));
    fs::File::options().write(true).open(dir.join("pages-1.img")).unwrap().set_len(PAGE).unwrap();
    assert!(page(&memory, BASE).is_ok());
    let is_early = |error: Error| error.to_string().starts_with("pages-1.img: cannot be read: ");
    assert!(is_early(page(&memory, BASE + PAGE).unwrap_err()));

    // A file that was short from the beginning can be mapped, and says so too.
    let set = common::mapped::open(&dir);
    let memory = set.checkpoint().unwrap().root().memory().unwrap().unwrap();
    assert!(is_early(memory.chunk(BASE).unwrap_err()));
    assert!(page(&memory, BASE).is_ok());
    assert!(is_early(page(&memory, BASE + PAGE).unwrap_err()));
}

#[test]
fn a_parent_link_that_comes_back_or_leads_nowhere_is_an_error() {
    let dir = common::scratch("parent_loop");
    let entries = pagemap(1, &[run(BASE, 1, PARENT)]);
    for name in ["a", "b"] {
        fs::create_dir(dir.join(name)).unwrap();
        let files = one_task(vec![vma(BASE, 1, ANON)]);
        common::store(&files, &dir.join(name));
        fs::write(dir.join(name).join("pagemap-1.img"), &entries).unwrap();
    }
    symlink("../b", dir.join("a/parent")).unwrap();
    symlink("../a", dir.join("b/parent")).unwrap();
    let set = ImageSet::open(dir.join("a")).unwrap();
    let memory = set.checkpoint().unwrap().root().memory().unwrap().unwrap();
    let error = page(&memory, BASE).unwrap_err();
    assert_eq!(error.to_string(), "parent/parent: parent sets form a loop or more than 2 levels");

    fs::remove_file(dir.join("b/parent")).unwrap();
    symlink("../nowhere", dir.join("b/parent")).unwrap();
    let set = ImageSet::open(dir.join("a")).unwrap();
    let memory = set.checkpoint().unwrap().root().memory().unwrap().unwrap();
    let error = page(&memory, BASE).unwrap_err();
    assert!(error.to_string().starts_with("parent/parent: cannot be read: "), "{error}");
}

#[test]
fn a_chain_too_long_is_an_error() {
    let mut files = InMemory::default();
    for _ in 0..300 {
        let mut child = one_task(vec![vma(BASE, 1, ANON)]);
        child.insert("pagemap-1.img", pagemap(1, &[run(BASE, 1, PARENT)]));
        child.set_parent(files);
        files = child;
    }
    with_memory(files, |memory| {
        let error = page(memory, BASE).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Chain(256)), "{error}");
    });
}

#[test]
fn shared_memory_is_found_through_its_memory_file() {
    const SHARED_MEMFD: u32 = 1 | 1 << 7 | 1 << 14;
    let mut mapping = vma(BASE, 2, SHARED_MEMFD);
    mapping.shmid = 5;
    mapping.pgoff = PAGE;
    let mut files = one_task(vec![mapping]);
    files.insert("pagemap-1.img", pagemap(1, &[]));
    // Offsets in the object: its page 1 is stored, page 2 was never touched.
    files.insert("pagemap-shmem-7.img", pagemap(2, &[run(PAGE, 1, PRESENT)]));
    files.insert("pages-2.img", pages([PAGE]));
    let file = FileEntry {
        r#type: FdTypes::Memfd.into(),
        id: 5,
        memfd: Some(MemfdFileEntry { id: 5, inode_id: 3, ..Default::default() }),
        ..Default::default()
    };
    let inode =
        MemfdInodeEntry { inode_id: 3, shmid: 7, name: b"pool".to_vec(), ..Default::default() };
    files.insert("files.img", image(kind::FILES, &[file.encode_to_vec()]));
    files.insert("memfd.img", image(kind::MEMFD_INODE, &[inode.encode_to_vec()]));
    let set = ImageSet::new(files).unwrap();
    let checkpoint = set.checkpoint().unwrap();
    let memory = checkpoint.root().memory().unwrap().unwrap();
    assert!(page(&memory, BASE).unwrap() == pattern(PAGE));
    assert_eq!(page(&memory, BASE + PAGE).unwrap(), [0; 4096]);
    assert_eq!(check_chunks(&memory), PAGE);
    assert_eq!(memory.totals().shared, 2);
    let [shared] = &checkpoint.shared_memory().unwrap()[..] else {
        panic!("one object");
    };
    assert_eq!(shared.to_string(), "shared memory 7 (pool)");
    assert_eq!(memory.vmas().next().unwrap().to_string(), "10000-12000 rw-p 00001000 pool");
    assert_eq!(checkpoint.file(5).unwrap().unwrap().to_string(), "memfd pool at offset 0");
}
