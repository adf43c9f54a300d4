//! The board: numbers of the payload in a file that it has mapped, which a restore leaves alone.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::oracle::memory::Area;

/// A board, in the hands of the payload.
#[derive(Debug)]
pub(crate) struct Board(Area);

/// Numbers of a board.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(usize)]
pub(crate) enum Word {
    /// Beats so far.
    Beats = 0,
    /// The longest time between two beats, in nanoseconds.
    Gap = 1,
    /// Wrong pages and words.
    Wrong = 2,
    /// The address of the first wrong word, what it held, and what it had to hold.
    WrongAt = 3,
    WrongFound = 4,
    WrongWanted = 5,
    /// Pages that the writers have written.
    Written = 6,
    /// Mappings that the churn threads have made and unmapped.
    Churned = 7,
    /// Children that the churn threads have forked and waited for.
    Forked = 8,
    /// Times that the whole zoo was checked.
    ZooRounds = 9,
    /// An [`Order`].
    Order = 10,
    /// Process id of a child that is a copy of one moment.
    Twin = 11,
}

/// An order of a test to the payload.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Order {
    /// A child that is a copy of this moment.
    Twin = 1,
}

impl Board {
    /// Makes the board of a payload that counts into `file`.
    pub(crate) fn make(file: &Path) -> Self {
        let path = beside(file, BOARD);
        let mut options = OpenOptions::new();
        let board = options.read(true).write(true).create(true).truncate(true).open(path).unwrap();
        board.set_len(BYTES as u64).unwrap();
        Self(Area::of_file(&board, BYTES))
    }

    /// Returns a number.
    pub(crate) fn load(&self, word: Word) -> u64 {
        self.at(word).load(Ordering::Relaxed)
    }

    /// Sets a number.
    pub(crate) fn store(&self, word: Word, value: u64) {
        self.at(word).store(value, Ordering::Relaxed);
    }

    /// Adds to a number.
    pub(crate) fn add(&self, word: Word, value: u64) {
        self.at(word).fetch_add(value, Ordering::Relaxed);
    }

    /// Keeps the greatest value.
    pub(crate) fn most(&self, word: Word, value: u64) {
        self.at(word).fetch_max(value, Ordering::Relaxed);
    }

    /// Notes a wrong word.
    pub(crate) fn wrong(&self, at: usize, found: u64, wanted: u64) {
        if self.at(Word::Wrong).fetch_add(1, Ordering::Relaxed) == 0 {
            self.store(Word::WrongAt, at as u64);
            self.store(Word::WrongFound, found);
            self.store(Word::WrongWanted, wanted);
        }
    }

    /// Takes the order that a test has given.
    pub(crate) fn order(&self) -> Option<Order> {
        let order = self.at(Word::Order).swap(0, Ordering::Relaxed);
        (order == Order::Twin as u64).then_some(Order::Twin)
    }

    /// Says where a writer has its pages.
    pub(crate) fn set_region(&self, writer: usize, start: usize, pages: usize) {
        let at = region_at(writer);
        self.0.word(at + 8).store(pages as u64, Ordering::Relaxed);
        self.0.word(at).store(start as u64, Ordering::Release);
    }

    /// Returns where a writer has its pages.
    pub(crate) fn region(&self, writer: usize) -> Option<u64> {
        let start = self.0.word(region_at(writer)).load(Ordering::Acquire);
        (start != 0).then_some(start)
    }

    fn at(&self, word: Word) -> &AtomicU64 {
        self.0.word(offset(word))
    }
}

/// Returns the place of a number in the file.
pub(crate) fn offset(word: Word) -> usize {
    word as usize * 64
}

/// Returns the place of a writer's region: its start and its number of pages.
pub(crate) fn region_at(writer: usize) -> usize {
    assert!(writer < WRITERS, "a writer {writer}");
    REGIONS + writer * 16
}

/// Returns the path of another file of a payload that counts into `file`. A child's file has an
/// extension, which stays.
pub(crate) fn beside(file: &Path, extension: &str) -> PathBuf {
    let mut name = file.file_name().unwrap().to_owned();
    name.push(".");
    name.push(extension);
    file.with_file_name(name)
}

/// The extension of a board.
pub(crate) const BOARD: &str = "board";
/// Bytes of a board.
pub(crate) const BYTES: usize = 8192;
/// Most writers of a payload.
pub(crate) const WRITERS: usize = 64;
/// The place of the first region.
const REGIONS: usize = 4096;
