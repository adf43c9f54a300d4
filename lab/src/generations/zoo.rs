//! A zoo of mappings: one of each kind that a dump treats in its own way.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::libc;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::getpid;

use super::board::{Board, Word, beside};
use super::shape::Shape;
use super::writer::{TAIL, fill, token, write};
use super::{GUARD_INSTALL, writer};
use crate::oracle::memory::{Area, PAGE};

/// The mappings.
#[derive(Debug)]
pub(super) struct Zoo {
    animals: Vec<Animal>,
    /// Tells in words what is wrong.
    wrong: PathBuf,
}

/// A mapping, and what its pages have to hold.
#[derive(Debug)]
struct Animal {
    name: &'static str,
    area: Area,
    holds: Holds,
}

/// The right content of the pages of a mapping.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Holds {
    /// The next generation, whenever it is this one's turn.
    Generations,
    /// Generation 0, for ever. Nobody may write.
    Still,
    /// Generation 0, where nobody may read except now and then.
    Hidden,
    /// Generation 0 in every page of so many, and nothing elsewhere.
    Sparse(usize),
    /// Zeros in all pages.
    Zeros,
    /// Generation 0, and zeros in these pages.
    Hole(usize, usize),
    /// Generation 0, and nothing that can be read in these pages.
    Guarded(usize, usize),
    /// Generation 0 or zeros in each page.
    Freed,
    /// Generation 0 in every second page, and what the file holds in the others.
    Dirty,
}

impl Zoo {
    /// Makes the mappings, and starts the thread that checks them and writes to them.
    pub(super) fn start(board: &Arc<Board>, file: &Path, shape: &Shape) {
        let mut animals = of_memory();
        animals.extend(of_files(file));
        animals.extend(shape.guards.then(guarded));
        animals.extend(shape.pool.then(of_pool));
        let zoo = Self { animals, wrong: beside(file, "wrong") };
        let board = Arc::clone(board);
        std::thread::spawn(move || {
            for generation in 1.. {
                zoo.round(&board, generation);
                board.add(Word::ZooRounds, 1);
                std::thread::sleep(Duration::from_millis(5));
            }
        });
    }

    fn round(&self, board: &Board, generation: u64) {
        for animal in &self.animals {
            match animal.holds {
                Holds::Generations => write(board, &animal.area, generation),
                Holds::Hidden if generation % RARELY != 0 => {}
                _ => {
                    if let Some((at, found, wanted)) = animal.wrong() {
                        let text = format!("{} at {at:#x}: {found:#x}, {wanted:#x}", animal.name);
                        let _ = fs::write(&self.wrong, text);
                        board.wrong(at, found, wanted);
                    }
                }
            }
        }
    }
}

impl Animal {
    /// A mapping that generations are written to.
    fn live(name: &'static str, area: Area) -> Self {
        fill(&area);
        Self { name, area, holds: Holds::Generations }
    }

    /// Private memory with generation 0.
    fn filled(name: &'static str, pages: usize, holds: Holds) -> Self {
        let area = Area::private(pages * PAGE);
        area.huge(0, pages, false);
        fill(&area);
        Self { name, area, holds }
    }

    /// Returns the first wrong word: its address, what it holds, and what it has to hold.
    fn wrong(&self) -> Option<(usize, u64, u64)> {
        if self.holds == Holds::Hidden {
            self.area.protect(libc::PROT_READ);
            let wrong = self.look();
            self.area.protect(libc::PROT_NONE);
            return wrong;
        }
        self.look()
    }

    fn look(&self) -> Option<(usize, u64, u64)> {
        (0..self.area.pages()).find_map(|page| {
            let still = token(page, 0);
            let wanted = match self.holds {
                Holds::Sparse(step) if page % step != 0 => return None,
                Holds::Zeros => 0,
                Holds::Hole(first, end) if (first..end).contains(&page) => 0,
                Holds::Guarded(first, end) if (first..end).contains(&page) => {
                    let is_there = can_be_read(self.area.address(page * PAGE));
                    return is_there.then_some((self.area.address(page * PAGE), 1, 0));
                }
                Holds::Freed if self.area.load(page * PAGE + TAIL) == 0 => 0,
                Holds::Dirty if page % 2 == 1 => in_file(page),
                _ => still,
            };
            [page * PAGE, page * PAGE + TAIL].into_iter().find_map(|at| {
                let found = self.area.load(at);
                // The kernel may take a freed page between two looks.
                let may_be = found == wanted || self.holds == Holds::Freed && found == 0;
                (!may_be).then(|| (self.area.address(at), found, wanted))
            })
        })
    }
}

/// The mappings of memory without a file.
fn of_memory() -> Vec<Animal> {
    let private = |pages: usize, huge| {
        let area = Area::private(pages * PAGE);
        area.huge(0, pages, huge);
        area
    };
    let advised = |name, pages, advice| {
        let area = private(pages, false);
        assert!(area.may_advise(0, pages, advice), "{name}: {}", nix::errno::Errno::last());
        Animal::live(name, area)
    };
    let flags = libc::MAP_PRIVATE | libc::MAP_NORESERVE;
    let reserved = Area::flagged(SPARSE * PAGE, flags, None).unwrap();
    reserved.huge(0, SPARSE, false);
    for page in (0..SPARSE).step_by(STEP) {
        reserved.store(page * PAGE, token(page, 0));
        reserved.store(page * PAGE + TAIL, token(page, 0));
    }
    let locked = private(256, false);
    locked.lock();
    let downwards = Area::flagged(64 * PAGE, libc::MAP_PRIVATE | libc::MAP_GROWSDOWN, None);
    let zeros = private(256, false);
    let hole = Animal::filled("DONTNEED hole", 256, Holds::Hole(64, 192));
    hole.area.discard(64, 128);
    let hidden = Animal::filled("PROT_NONE", 256, Holds::Hidden);
    hidden.area.protect(libc::PROT_NONE);
    let code = Animal::filled("r-x", 256, Holds::Still);
    code.area.protect(libc::PROT_READ | libc::PROT_EXEC);
    let freed = Animal::filled("MADV_FREE", 256, Holds::Freed);
    assert!(freed.area.may_advise(0, 256, libc::MADV_FREE));
    vec![
        advised("DONTFORK", 256, libc::MADV_DONTFORK),
        advised("WIPEONFORK, 8 MiB", 2048, libc::MADV_WIPEONFORK),
        advised("WIPEONFORK, 64 KiB", 16, libc::MADV_WIPEONFORK),
        advised("DONTDUMP", 256, libc::MADV_DONTDUMP),
        advised("MERGEABLE", 256, libc::MADV_MERGEABLE),
        Animal { name: "NORESERVE, sparse", area: reserved, holds: Holds::Sparse(STEP) },
        Animal::live("mlock", locked),
        Animal::live("shared", Area::shared(256 * PAGE)),
        Animal::live("GROWSDOWN", downwards.unwrap()),
        Animal::live("THP", private(2048, true)),
        Animal { name: "zero pages", area: zeros, holds: Holds::Zeros },
        hole,
        hidden,
        code,
        freed,
    ]
}

/// A mapping of huge pages from the machine's pool.
fn of_pool() -> Animal {
    let huge = Area::flagged(2 * writer::HUGE, libc::MAP_PRIVATE | libc::MAP_HUGETLB, None);
    Animal::live("HUGETLB", huge.expect("two huge pages in the pool"))
}

/// The mappings of files.
fn of_files(file: &Path) -> Vec<Animal> {
    let path = beside(file, "mapped");
    let mut options = File::options();
    let on_disk = options.read(true).write(true).create(true).truncate(true).open(path).unwrap();
    let memory = File::from(memfd_create("zoo", MFdFlags::MFD_CLOEXEC).unwrap());
    let animal = |name, file: &File| {
        for page in 0..FILE_PAGES {
            let word = in_file(page).to_le_bytes();
            file.write_all_at(&word, (page * PAGE) as u64).unwrap();
            file.write_all_at(&word, (page * PAGE + TAIL) as u64).unwrap();
        }
        let area = Area::flagged(FILE_PAGES * PAGE, libc::MAP_PRIVATE, Some(file)).unwrap();
        for page in (0..FILE_PAGES).step_by(2) {
            area.store(page * PAGE, token(page, 0));
            area.store(page * PAGE + TAIL, token(page, 0));
        }
        Animal { name, area, holds: Holds::Dirty }
    };
    let shared = |name, file: &File| {
        let area = Area::flagged(FILE_PAGES * PAGE, libc::MAP_PRIVATE, Some(file)).unwrap();
        Animal::live(name, area)
    };
    vec![
        animal("pages of a file, half of them written", &on_disk),
        shared("pages of a file", &on_disk),
        animal("pages of a memfd, half of them written", &memory),
        shared("pages of a memfd", &memory),
    ]
}

/// A mapping with a guard region.
fn guarded() -> Animal {
    let animal = Animal::filled("guard region", 256, Holds::Guarded(100, 110));
    // The kernel discards what is there.
    let taken = (100..110).all(|page| animal.area.may_advise(page, 1, GUARD_INSTALL));
    assert!(taken, "guard regions: {}", nix::errno::Errno::last());
    animal
}

/// The word that a file has at both ends of a page.
fn in_file(page: usize) -> u64 {
    !token(page, 1)
}

fn can_be_read(address: usize) -> bool {
    let mut byte = [0];
    let mut into = [std::io::IoSliceMut::new(&mut byte)];
    process_vm_readv(getpid(), &mut into, &[RemoteIoVec { base: address, len: 1 }]).is_ok()
}

/// Pages of the sparse mapping: 1 GiB.
const SPARSE: usize = 1 << 18;
/// Every so many pages of it are written.
const STEP: usize = 1000;
/// Pages of a mapped file.
const FILE_PAGES: usize = 128;
/// Rounds from one look at hidden memory to the next.
const RARELY: u64 = 64;
