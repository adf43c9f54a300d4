//! Pages in LZ4 blocks: made by hand, hostile, and from real dumps that crit has compressed.
//!
//! Needs root, Debian's python3-lz4 and the CRIUs that `cargo xtask setup --tests` installs.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod common;

use std::fs;
use std::process::Command;

use common::{ANON, PAGE, Payload, dump, image, one_task, pagemap, pattern, python, run, vma};
use criu_images::anonymise::Anonymous;
use criu_images::memory::PageSource;
use criu_images::proto::{MmEntry, PagemapBlocks, PagemapEntry};
use criu_images::source::InMemory;
use criu_images::{Error, ErrorKind, ImageSet, check, kind};
use prost::Message as _;

const BASE: u64 = 0x40_0000;
const PARENT: u32 = 1;
const PRESENT: u32 = 4;
const ALIGNED: u32 = 8;

fn at(page: u64) -> u64 {
    BASE + page * PAGE
}

fn packed(first: u64, pages: u64, flags: u32, sizes: &[usize], per_block: u32) -> PagemapEntry {
    let blocks = PagemapBlocks {
        block_sizes: sizes.iter().map(|&size| size as u32).collect(),
        total_payload_size: sizes.iter().sum::<usize>() as u64,
        pages_per_block: per_block,
    };
    PagemapEntry { blocks: Some(blocks), ..run(at(first), pages, flags) }
}

/// A task of 16 pages with these runs and stored bytes.
fn set(runs: &[PagemapEntry], pages: Vec<u8>) -> ImageSet {
    let mut files: InMemory = one_task(vec![vma(BASE, 16, ANON)]);
    files.insert("pagemap-1.img", pagemap(1, runs));
    files.insert("pages-1.img", pages);
    ImageSet::new(files).unwrap()
}

fn read(set: &ImageSet, address: u64, len: u64) -> Result<Vec<u8>, Error> {
    let memory = set.checkpoint()?.root().memory()?.unwrap();
    let mut bytes = vec![0xee; len as usize];
    memory.read_at(address, &mut bytes)?;
    Ok(bytes)
}

/// Zeros with a few other bytes, so that the page compresses.
fn sparse(address: u64) -> Vec<u8> {
    let mut page = vec![0; PAGE as usize];
    page[100..108].copy_from_slice(&address.to_le_bytes());
    page
}

/// A machine with pages of 64 KiB. The page is in the parent set, which does not say its size.
#[test]
fn an_anonymous_copy_has_large_pages() {
    const LARGE: u64 = 64 << 10;
    let mut page = b"hunter2hunter2".repeat(20);
    page.resize(LARGE as usize, 0);
    let stored = lz4_flex::block::compress(&page);
    let mut parent = InMemory::default();
    let blocks = packed(0, 1, PRESENT, &[stored.len()], 1);
    parent.insert("pagemap-1.img", pagemap(1, &[blocks]));
    parent.insert("pages-1.img", stored.clone());
    let vmas = vec![vma(BASE, LARGE / PAGE, ANON)];
    let mut files = one_task(vmas.clone());
    let mm = MmEntry { mm_saved_auxv: vec![6, LARGE], vmas, ..Default::default() };
    files.insert("mm-1.img", image(kind::MM, &[mm.encode_to_vec()]));
    files.insert("pagemap-1.img", pagemap(1, &[run(BASE, 1, PARENT)]));
    files.set_parent(parent);
    assert!(read(&ImageSet::new(files.clone()).unwrap(), BASE, LARGE).unwrap() == page);
    let copy = ImageSet::new(Anonymous::new(files)).unwrap();
    let new = read(&copy, BASE, LARGE).unwrap();
    assert!(new != page && !new.windows(8).any(|part| part == b"hunter2h"));
}

#[test]
fn blocks_of_every_kind_are_read() {
    // Pages 0-4 in blocks of two: compressed, raw, and one zero page.
    let first = [sparse(at(0)), sparse(at(1))].concat();
    let small = lz4_flex::block::compress(&first);
    assert!(small.len() < 100);
    let raw = [pattern(at(2)), pattern(at(3))].concat();
    let mut pages = [&small[..], &raw].concat();
    let mut runs = vec![packed(0, 5, PRESENT, &[small.len(), raw.len(), 0], 2)];
    // Page 7 raw without blocks, right behind.
    runs.push(run(at(7), 1, PRESENT));
    pages.extend(pattern(at(7)));
    // Page 9 at the next boundary.
    pages.resize(pages.len().next_multiple_of(PAGE as usize), 0);
    runs.push(run(at(9), 1, PRESENT | ALIGNED));
    pages.extend(pattern(at(9)));
    let set = set(&runs, pages);
    let zero = vec![0; PAGE as usize];
    let want = [
        first,
        raw,
        zero.clone(),
        zero.clone(),
        zero.clone(),
        pattern(at(7)),
        zero.clone(),
        pattern(at(9)),
        zero,
    ]
    .concat();
    assert_eq!(read(&set, BASE, 11 * PAGE).unwrap(), want);
    // Any part of it, across blocks and runs.
    for start in (0..10 * PAGE).step_by(1777) {
        for len in [1, 50, 4096, 5000] {
            let part = &want[start as usize..][..len.min(want.len() - start as usize)];
            assert_eq!(read(&set, BASE + start, part.len() as u64).unwrap(), part);
        }
    }
}

#[test]
fn blocks_that_lie_are_refused() {
    let good = lz4_flex::block::compress(&sparse(at(0)));
    let entry = |sizes: &[usize], per_block| packed(0, 2, PRESENT, sizes, per_block);
    let with = |run: PagemapEntry| read(&set(&[run], good.repeat(2)), BASE, 2 * PAGE);
    let n = good.len();
    assert!(with(entry(&[n, n], 1)).is_ok());
    for (run, field) in [
        (entry(&[n, n], 0), "pages_per_block"),
        (entry(&[n, n], 1025), "pages_per_block"),
        (entry(&[n], 1), "block_sizes"),
        (entry(&[n, n, n], 1), "block_sizes"),
        (entry(&[n, 4097], 1), "block_sizes"),
        (entry(&[n, n], u32::MAX), "pages_per_block"),
    ] {
        let error = with(run).unwrap_err();
        assert!(error.to_string().contains(&format!("pagemap_blocks.{field}: ")), "{error}");
        assert_eq!(error.image(), "pagemap-1.img");
    }
    let mut lying = entry(&[n, n], 1);
    lying.blocks.as_mut().unwrap().total_payload_size += 1;
    assert!(with(lying).unwrap_err().to_string().contains("total_payload_size: is "));
    // Broken blocks, and one that is too short when unpacked.
    let broken = |bytes: Vec<u8>| {
        let runs = [packed(0, 1, PRESENT, &[bytes.len()], 1)];
        read(&set(&runs, bytes), BASE, PAGE).unwrap_err()
    };
    assert!(matches!(broken(vec![0xff; 20]).kind(), ErrorKind::Malformed(_)));
    let short = broken(lz4_flex::block::compress(&[7; 100]));
    assert_eq!(short.image(), "pages-1.img");
    assert!(short.to_string().contains("0x64"), "{short}");
    // The file ends inside a block.
    let cut = set(&[packed(0, 1, PRESENT, &[n], 1)], good[..n - 1].to_vec());
    assert!(matches!(read(&cut, BASE, 1).unwrap_err().kind(), ErrorKind::Io(_)));
    // Anything at all in a block ends in a result.
    for seed in 0..2000u64 {
        let mut bytes = good.clone();
        let place = (seed * 31) as usize % n;
        bytes[place] ^= (seed % 255) as u8 + 1;
        let runs = [packed(0, 1, PRESENT, &[n], 1)];
        _ = read(&set(&runs, bytes), BASE, PAGE);
    }
}

#[test]
fn a_dump_by_4_1_reads_alike_when_crit_has_compressed_it() {
    compressed_dump("trixie");
}

#[test]
fn a_dump_by_4_3_reads_alike_when_crit_has_compressed_it() {
    compressed_dump("experimental");
}

fn compressed_dump(suite: &str) {
    let directory = common::scratch(&format!("compressed-{suite}"));
    let (plain, packed) = (directory.join("plain"), directory.join("packed"));
    fs::create_dir(&plain).unwrap();
    let payload = Payload::start(&["sleep", "1000"]);
    let pid = payload.0.id();
    while fs::read_to_string(format!("/proc/{pid}/comm")).unwrap() != "sleep\n" {
        std::thread::yield_now();
    }
    dump(suite, pid, "--leave-running", &plain);
    assert!(Command::new("cp").arg("-a").arg(&plain).arg(&packed).status().unwrap().success());
    let output = python("experimental", "from crit.__main__ import main; main()")
        .args(["compress", "--in-place"])
        .arg(&packed)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let (plain, packed) = (ImageSet::open(plain).unwrap(), ImageSet::open(packed).unwrap());
    assert_eq!(packed.inventory().img_version, 3);
    assert!(check(&packed).is_empty(), "{:?}", check(&packed));
    let (a, b) = (plain.checkpoint().unwrap().root(), packed.checkpoint().unwrap().root());
    let (a, b) = (a.memory().unwrap().unwrap(), b.memory().unwrap().unwrap());
    assert!(b.runs().any(|run| run.compressed));
    common::check_chunks(&b);
    let mut alike = 0;
    for vma in a.vmas() {
        for address in
            (vma.start()..vma.end().min(vma.start() + 2048 * PAGE)).step_by(PAGE as usize)
        {
            let (mut one, mut other) = (vec![1; PAGE as usize], vec![2; PAGE as usize]);
            match (a.read_at(address, &mut one), b.read_at(address, &mut other)) {
                (Ok(()), Ok(())) => assert_eq!(one, other, "{address:#x}"),
                (Err(one), Err(other)) => assert_eq!(one.to_string(), other.to_string()),
                different => panic!("{address:#x}: {different:?}"),
            }
            alike += 1;
        }
    }
    assert!(alike > 100, "{alike}");
}
