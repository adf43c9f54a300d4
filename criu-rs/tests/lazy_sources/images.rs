//! Images as a source.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, symlink};
use std::process::Command;
use std::thread;

use criu_archive::Archive;
use criu_images::proto::{PagemapBlocks, PagemapEntry, VmaEntry};

use criu_lab::scratch;
use criu_rs::lazy::{Images, LazyError, Snapshot, Supply, Urgency, Wanted};
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

use crate::set::{
    BASE, LAZY, PAGE, PARENT, PRESENT, addresses, memory, page, pagemap, pages, read, run, tasks,
    vma,
};

#[test]
fn a_snapshot_tells_what_a_restore_leaves_out() {
    let dir = scratch("lazy-snapshot");
    let at = |page: u64| BASE + page * PAGE;
    let flags = |start: u64, flags: u32| VmaEntry { flags, ..vma(at(start), 4) };
    let vmas = vec![
        vma(at(0), 4),
        vma(at(4), 4),
        // Locked, huge, and shared.
        flags(20, 0x2022),
        flags(24, 0x4_0022),
        VmaEntry { status: 1 | 1 << 8, ..flags(28, 0x21) },
        vma(at(40), 4),
    ];
    tasks(&dir, &[(7, vmas), (3, vec![vma(BASE, 1)])], &[9, 8]);
    let lazy = PRESENT | LAZY;
    let runs = [
        // Two runs of one mapping, the second over the next mapping and beyond.
        run(at(1), 1, lazy),
        run(at(2), 10, lazy),
        run(at(20), 12, lazy),
        run(at(40), 1, PRESENT),
        run(at(41), 1, lazy),
        run(at(42), 1, PARENT),
        // Kept back by the dump.
        run(at(43), 1, LAZY),
    ];
    pagemap(&dir, 7, &runs);
    pagemap(&dir, 3, &[]);
    let snapshot = Snapshot::open(&dir).unwrap();
    let pids: Vec<_> = snapshot.tasks().iter().map(|task| task.pid()).collect();
    assert_eq!((pids, snapshot.zombies()), (vec![3, 7], &[8, 9][..]));
    let missing = [at(1)..at(4), at(4)..at(8), at(41)..at(42), at(43)..at(44)];
    assert_eq!(snapshot.task(7).unwrap().missing(), missing);
    assert_eq!((snapshot.pages(), snapshot.task(3).unwrap().pages()), (9, 0));
    assert_eq!(snapshot.task(8), None);
    // The bytes that the dump has kept back are not in the images.
    let error = Images::open(&dir).unwrap_err();
    pages(&dir, 7, addresses(at(0), 30));
    let kept = Images::open(&dir).unwrap_err();
    let LazyError::NoPage { pid: 7, address, .. } = kept else { panic!("{error} {kept}") };
    assert_eq!(address, at(43), "{kept}");
    assert!(error.to_string().contains("pages-7.img: is missing"), "{error}");
}

#[test]
fn images_of_other_pages_are_refused() {
    let dir = scratch("lazy-page-size");
    tasks(&dir, &[(7, vec![vma(BASE, 16)])], &[]);
    memory(&dir, 7, 8192, vec![vma(BASE, 16)]);
    pagemap(&dir, 7, &[]);
    let error = Images::open(&dir).unwrap_err().to_string();
    let said = "the images have pages of 8192 bytes, and this machine has pages of 4096";
    assert_eq!(error, said);
}

#[test]
fn pages_come_from_files_and_parent_sets_and_holes() {
    let dir = scratch("lazy-images");
    let (base, top) = (dir.join("base"), dir.join("top"));
    for set in [&base, &top] {
        fs::create_dir(set).unwrap();
        tasks(set, &[(7, vec![vma(BASE, 512)])], &[]);
    }
    let at = |page: u64| BASE + page * PAGE;
    let lazy = PRESENT | LAZY;
    pagemap(&base, 7, &[run(at(0), 8, lazy), run(at(100), 100, lazy)]);
    pages(&base, 7, addresses(at(0), 8).chain(addresses(at(100), 100)));
    symlink("../base", top.join("parent")).unwrap();
    pagemap(&top, 7, &[run(at(0), 4, lazy), run(at(4), 4, LAZY | PARENT), run(at(200), 300, lazy)]);
    pages(&top, 7, addresses(at(0), 4));
    // The rest of the file: a hole of 200 pages, a page, a small hole, and bytes to the end.
    let file = File::options().write(true).open(top.join("pages-7.img")).unwrap();
    file.write_all_at(&page(at(400)), 204 * PAGE).unwrap();
    for address in addresses(at(408), 92) {
        file.write_all_at(&page(address), (address - at(200)) + 4 * PAGE).unwrap();
    }
    let images = Images::open(&top).unwrap();
    let images = &images;
    let check = |urgency: Urgency| {
        let mut reader = images.reader(urgency).unwrap();
        let reader = &mut *reader;
        let want: Vec<u8> = addresses(at(0), 8).flat_map(page).collect();
        assert_eq!(read(reader, 7, at(0), 8).unwrap(), want);
        assert_eq!(read(reader, 7, at(3), 2).unwrap(), want[3 * 4096..5 * 4096]);
        let zeros = vec![0; 200 * 4096];
        assert_eq!(read(reader, 7, at(200), 200).unwrap(), zeros);
        assert_eq!(read(reader, 7, at(400), 1).unwrap(), page(at(400)));
        assert_eq!(read(reader, 7, at(401), 7).unwrap(), zeros[..7 * 4096]);
        let want: Vec<u8> = addresses(at(408), 92).flat_map(page).collect();
        assert_eq!(read(reader, 7, at(408), 92).unwrap(), want);
        // A request never passes the end of what lies together.
        let wanted = Wanted { pid: 7, address: at(499), pages: 99 };
        assert_eq!(reader.read(wanted).unwrap().size(), PAGE);
        for (pid, address) in [(7, at(500)), (7, at(100)), (7, 0), (8, at(0)), (7, u64::MAX)] {
            match reader.read(Wanted { pid, address, pages: 1 }) {
                Err(LazyError::NoPage { pid: found, address: place, .. }) => {
                    assert_eq!((found, place), (pid, address));
                }
                other => panic!("{other:?}"),
            }
        }
    };
    // Any number of readers at once.
    thread::scope(|scope| {
        for urgency in [Urgency::Fault, Urgency::Background, Urgency::Fault] {
            scope.spawn(move || check(urgency));
        }
    });
}

#[test]
fn the_disk_is_read_before_pages_are_copied() {
    let dir = scratch("lazy-cold");
    tasks(&dir, &[(7, vec![vma(BASE, 512)])], &[]);
    pagemap(&dir, 7, &[run(BASE, 512, PRESENT | LAZY)]);
    pages(&dir, 7, addresses(BASE, 512));
    let file = File::open(dir.join("pages-7.img")).unwrap();
    let images = Images::open(&dir).unwrap();
    for (urgency, first) in [(Urgency::Fault, 64), (Urgency::Background, 320)] {
        file.sync_all().unwrap();
        posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).unwrap();
        let mut reader = images.reader(urgency).unwrap();
        let before = read_from_disk();
        let wanted = Wanted { pid: 7, address: BASE + first * PAGE, pages: 16 };
        let found = reader.read(wanted).unwrap();
        let here = read_from_disk();
        // The kernel would hold the lock of the address space while it reads them.
        assert!(here - before >= 16 * PAGE, "{urgency:?}: {}", here - before);
        found.read_at(0, &mut [0; 16 * 4096]).unwrap();
        assert_eq!(read_from_disk() - here, 0, "{urgency:?}");
    }
}

/// The bytes that this thread has had read from a disk.
fn read_from_disk() -> u64 {
    let text = fs::read_to_string("/proc/thread-self/io").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("read_bytes: "));
    line.unwrap().parse().unwrap()
}

#[test]
fn more_missing_memory_than_any_machine_has_is_refused() {
    let dir = scratch("lazy-endless");
    let tebibyte = (1 << 40) / PAGE;
    let map = |pages: u64| {
        tasks(&dir, &[(7, vec![vma(0x10_0000, pages)]), (8, vec![vma(0x10_0000, pages)])], &[]);
        for pid in [7, 8] {
            pagemap(&dir, pid, &[run(0x10_0000, pages, PRESENT | LAZY)]);
        }
        Snapshot::open(&dir)
    };
    assert_eq!(map(2 * tebibyte).unwrap().pages(), 4 * tebibyte);
    for pages in [2 * tebibyte + 1, 100 * tebibyte] {
        let error = map(pages).unwrap_err();
        assert!(matches!(error, LazyError::TooLarge { pages: found } if found == 2 * pages));
    }
}

#[test]
fn compressed_pages_are_unpacked() {
    let dir = scratch("lazy-packed");
    let at = |page: u64| BASE + page * PAGE;
    tasks(&dir, &[(7, vec![vma(BASE, 16)])], &[]);
    let (a, b) = (packed(b'a'), packed(b'b'));
    let raw = page(at(2));
    let stored = [&a[..], &b, &raw].concat();
    let blocks = PagemapBlocks {
        block_sizes: [a.len(), b.len(), raw.len(), 0].map(|size| size.try_into().unwrap()).to_vec(),
        total_payload_size: stored.len() as u64,
        pages_per_block: 1,
    };
    let run = PagemapEntry { blocks: Some(blocks), ..run(at(0), 4, PRESENT | LAZY) };
    pagemap(&dir, 7, &[run]);
    fs::write(dir.join("pages-7.img"), &stored).unwrap();
    let images = Images::open(&dir).unwrap();
    let mut reader = images.reader(Urgency::Fault).unwrap();
    let want = [vec![b'a'; 4096], vec![b'b'; 4096], raw, vec![0; 4096]].concat();
    assert_eq!(read(&mut *reader, 7, at(0), 4).unwrap(), want);
    assert_eq!(read(&mut *reader, 7, at(1), 1).unwrap(), want[4096..8192]);
    // A broken block is an error with its place.
    fs::write(dir.join("pages-7.img"), vec![0xff; stored.len()]).unwrap();
    let images = Images::open(&dir).unwrap();
    let error = read(&mut *images.reader(Urgency::Fault).unwrap(), 7, at(0), 1).unwrap_err();
    assert_eq!(error.to_string(), "pages-7.img: holds a broken LZ4 block");
}

#[test]
fn files_that_end_early_are_errors_with_a_place() {
    let dir = scratch("lazy-short");
    let at = |page: u64| BASE + page * PAGE;
    tasks(&dir, &[(7, vec![vma(BASE, 64)])], &[]);
    pagemap(&dir, 7, &[run(at(0), 8, PRESENT), run(at(8), 56, PRESENT | LAZY)]);
    pages(&dir, 7, addresses(at(0), 64));
    let file = File::options().write(true).open(dir.join("pages-7.img")).unwrap();
    let whole = Images::open(&dir).unwrap();
    // The last page lacks a byte.
    for (size, lacking) in [(64 * PAGE - 1, 63), (20 * PAGE, 20), (8 * PAGE + 1, 8), (0, 8)] {
        file.set_len(size).unwrap();
        let error = Images::open(&dir).unwrap_err();
        let said = format!(
            "the source has no page {:#x} of task 7: the pages file ends before it",
            at(lacking)
        );
        assert_eq!(error.to_string(), said, "{size}");
        // The file has become shorter since it was opened: no zeros, and no SIGBUS.
        for urgency in [Urgency::Fault, Urgency::Background] {
            let mut reader = whole.reader(urgency).unwrap();
            let error = reader.read(Wanted { pid: 7, address: at(63), pages: 1 }).unwrap_err();
            let said = format!(
                "the source has no page {:#x} of task 7: the pages file has become shorter",
                at(63)
            );
            assert_eq!(error.to_string(), said);
        }
    }
}

#[test]
fn archives_are_read_without_being_unpacked() {
    let dir = scratch("lazy-archive");
    let at = |page: u64| BASE + page * PAGE;
    let set = dir.join("set");
    fs::create_dir(&set).unwrap();
    tasks(&set, &[(7, vec![vma(BASE, 64)])], &[]);
    pagemap(&set, 7, &[run(at(0), 64, PRESENT | LAZY)]);
    pages(&set, 7, addresses(at(0), 64));
    let tar = |options: &str, name: &str| {
        let mut tar = Command::new("tar");
        let done = tar.current_dir(&dir).args([options, name, "set"]).status().unwrap();
        assert!(done.success());
        Archive::open(dir.join(name)).map(|archive| archive.folder("set"))
    };
    let want: Vec<u8> = addresses(at(0), 64).flat_map(page).collect();
    for (options, name) in [("-cf", "plain.tar"), ("-czf", "packed.tar.gz")] {
        let images = Images::new(tar(options, name).unwrap()).unwrap();
        let mut reader = images.reader(Urgency::Background).unwrap();
        assert_eq!(read(&mut *reader, 7, at(0), 64).unwrap(), want, "{name}");
    }
    let error = tar("-cJf", "packed.tar.xz").unwrap_err().to_string();
    assert!(error.ends_with("is compressed with xz, which has to be unpacked first"), "{error}");
}

/// A page of one byte as an LZ4 block: the byte, 4090 repetitions, and five bytes at the end.
fn packed(byte: u8) -> Vec<u8> {
    // 4090 repetitions: 19, 15 times 255, and the rest.
    let repeats = [&[0xff; 15][..], &[246]].concat();
    [&[0x1f, byte, 1, 0][..], &repeats, &[0x50], &[byte; 5]].concat()
}
