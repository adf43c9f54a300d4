//! The record of an oracle: counts, and the first wrong pages. Children share it.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use super::memory::{Area, PAGE};

/// The record of an oracle.
#[derive(Debug)]
pub(crate) struct Record(Area);

/// A count of a record.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Count {
    /// Pages that were compared.
    Checked,
    /// Pages that were compared and have to be zeros.
    Zeros,
    /// Wrong pages.
    Wrong,
    /// Pages that were compared by children.
    ByChildren,
    /// Children that ended well.
    Children,
    /// Children that ended in another way.
    Lost,
    /// Ranges that were discarded.
    Discarded,
    /// Ranges that were unmapped and mapped anew.
    Renewed,
    /// Pairs of ranges that changed places.
    Moved,
    /// Pages that were written.
    Written,
}

impl Record {
    pub(crate) fn new() -> Self {
        Self(Area::shared(PAGE))
    }

    fn count(&self, count: Count) -> &AtomicU64 {
        self.0.word(count as usize * 8)
    }

    /// Adds to a count.
    pub(crate) fn add(&self, count: Count, number: u64) {
        self.count(count).fetch_add(number, Ordering::Relaxed);
    }

    /// Notes a wrong page.
    pub(crate) fn wrong(&self, address: usize, found: u64, wanted: u64) {
        let number = self.count(Count::Wrong).fetch_add(1, Ordering::Relaxed);
        if let Some(at) = usize::try_from(number).ok().filter(|at| *at < KEPT) {
            let row = FIRST + at * 32;
            let own = u64::from(std::process::id());
            for (place, value) in [address as u64, found, wanted, own].into_iter().enumerate() {
                self.0.store(row + place * 8, value);
            }
        }
    }

    /// Writes the record as lines of a name and a value.
    pub(crate) fn write(&self, report: &mut String) {
        for (name, count) in COUNTS {
            let value = self.count(*count).load(Ordering::Relaxed);
            let _ = writeln!(report, "{name} {value}");
        }
        let wrong = self.count(Count::Wrong).load(Ordering::Relaxed);
        for row in (0..KEPT).take(usize::try_from(wrong).unwrap_or(KEPT)) {
            let value = |place: usize| self.0.load(FIRST + row * 32 + place * 8);
            let [address, found, wanted, pid] = [0, 1, 2, 3].map(value);
            let _ = writeln!(
                report,
                "wrong-page process {pid}, {address:#x}: {found:#x}, not {wanted:#x}"
            );
        }
    }

    /// Begins anew.
    pub(crate) fn clear(&self) {
        for at in (0..PAGE).step_by(8) {
            self.0.store(at, 0);
        }
    }
}

const COUNTS: &[(&str, Count)] = &[
    ("checked", Count::Checked),
    ("zeros", Count::Zeros),
    ("wrong", Count::Wrong),
    ("by-children", Count::ByChildren),
    ("children", Count::Children),
    ("lost-children", Count::Lost),
    ("discarded", Count::Discarded),
    ("renewed", Count::Renewed),
    ("moved", Count::Moved),
    ("written", Count::Written),
];

/// Wrong pages that are kept with their contents.
const KEPT: usize = 16;
/// The offset of the first of these.
const FIRST: usize = 512;
