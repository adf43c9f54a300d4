//! The board of a payload, in the hands of a test.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::board::{self, BOARD, Order, WRITERS, Word, beside};
use crate::within;

/// Pages of a writer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Region {
    /// The address of the first page.
    pub start: u64,
    /// The number of pages.
    pub pages: u64,
}

/// Reads the board of a payload of generations, before and after a restore.
#[derive(Debug)]
pub struct Watch {
    board: File,
    file: PathBuf,
}

impl Watch {
    /// Looks at the payload that counts into `file`.
    pub fn of(file: &Path) -> Self {
        let board = OpenOptions::new().read(true).write(true).open(beside(file, BOARD)).unwrap();
        Self { board, file: file.into() }
    }

    /// Looks at the payload that counts into `file`, and at so many children.
    pub fn of_all(file: &Path, children: usize) -> Vec<Self> {
        let files = (0..children).map(|n| file.with_extension(n.to_string()));
        std::iter::once(file.to_owned()).chain(files).map(|file| Self::of(&file)).collect()
    }

    /// Returns what is wrong, in words, once something is.
    pub fn wrong(&self) -> Option<String> {
        let text = |name| fs::read_to_string(beside(&self.file, name)).ok();
        let told = text("panic").or_else(|| text("wrong"));
        let number = self.load(Word::Wrong);
        (number > 0 || told.is_some()).then(|| {
            let words = [Word::WrongAt, Word::WrongFound, Word::WrongWanted];
            let [at, found, wanted] = words.map(|word| self.load(word));
            format!(
                "{}: {number} words are wrong, first {found:#x} in place of {wanted:#x} at {at:#x} {}",
                self.file.display(),
                told.unwrap_or_default(),
            )
        })
    }

    /// Returns the number of wrong words.
    pub fn wrongs(&self) -> u64 {
        self.load(Word::Wrong)
    }

    /// Returns the longest time between two beats since the last [`Watch::forget`].
    pub fn gap(&self) -> Duration {
        Duration::from_nanos(self.load(Word::Gap))
    }

    /// Returns the number of beats.
    pub fn beats(&self) -> u64 {
        self.load(Word::Beats)
    }

    /// Returns the number of pages that all writers have written.
    pub fn written(&self) -> u64 {
        self.load(Word::Written)
    }

    /// Returns the number of mappings that have come and gone, and of children.
    pub fn churned(&self) -> (u64, u64) {
        (self.load(Word::Churned), self.load(Word::Forked))
    }

    /// Returns the number of checks of the whole zoo.
    pub fn zoo_rounds(&self) -> u64 {
        self.load(Word::ZooRounds)
    }

    /// Forgets the longest time between two beats.
    pub fn forget_gap(&self) {
        self.store(Word::Gap, 0);
    }

    /// Forgets what was wrong and the longest time between two beats: another process is to write
    /// here next.
    pub fn forget(&self) {
        for word in [Word::Wrong, Word::WrongAt, Word::WrongFound, Word::WrongWanted, Word::Gap] {
            self.store(word, 0);
        }
        for name in ["panic", "wrong"] {
            let _ = fs::remove_file(beside(&self.file, name));
        }
    }

    /// Waits until whatever the payload does was done once more: every page written `generations`
    /// times, a mapping made and unmapped, the zoo checked.
    ///
    /// # Errors
    /// The first fault, or the first part that does not go on in `time`.
    pub fn goes_on(&self, generations: u64, time: Duration) -> Result<(), String> {
        let pages: u64 = self.regions().iter().map(|region| region.pages).sum();
        let before = [self.written(), self.churned().0, self.zoo_rounds(), self.beats()];
        let wanted = [pages * generations, 2, 2, 2];
        let after = || [self.written(), self.churned().0, self.zoo_rounds(), self.beats()];
        let done = || {
            let mut parts = before.iter().zip(wanted).zip(after());
            // What has never happened does not have to go on.
            parts.all(|((before, wanted), now)| *before == 0 || now >= before + wanted)
        };
        let goes_on = within(time, || self.wrong().is_some() || done());
        match self.wrong() {
            Some(wrong) => Err(wrong),
            None if goes_on => Ok(()),
            None => Err(format!(
                "{} does not go on: pages, mappings, zoo, beats {before:?} and {:?}",
                self.file.display(),
                after()
            )),
        }
    }

    /// Returns the pages of all writers.
    pub fn regions(&self) -> Vec<Region> {
        let region = |writer| {
            let at = board::region_at(writer);
            Region { start: self.word(at), pages: self.word(at + 8) }
        };
        (0..WRITERS).map(region).filter(|region| region.start != 0).collect()
    }

    /// Has the payload fork a child that is a copy of one moment and does nothing. Returns its id.
    #[track_caller]
    pub fn twin(&self) -> i32 {
        self.store(Word::Twin, 0);
        self.store(Word::Order, Order::Twin as u64);
        let limit = Duration::from_secs(15);
        assert!(within(limit, || self.load(Word::Twin) != 0), "the payload does not fork");
        i32::try_from(self.load(Word::Twin)).unwrap()
    }

    fn load(&self, word: Word) -> u64 {
        self.word(board::offset(word))
    }

    fn word(&self, at: usize) -> u64 {
        let mut bytes = [0; 8];
        self.board.read_exact_at(&mut bytes, at as u64).unwrap();
        u64::from_le_bytes(bytes)
    }

    fn store(&self, word: Word, value: u64) {
        self.board.write_all_at(&value.to_le_bytes(), board::offset(word) as u64).unwrap();
    }
}
