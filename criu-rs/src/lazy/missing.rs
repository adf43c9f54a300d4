//! The missing pages of one address space.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::error::LazyError;

/// The map of an address space: the pages that are missing, and their addresses in the images.
///
/// Marking a page takes a shared reference, so threads that fill pages need no order among them.
/// Memory that moves or goes takes the map alone.
#[derive(Debug, Default)]
pub(super) struct Missing {
    /// Pieces by their first address. They do not overlap.
    pieces: BTreeMap<u64, Piece>,
    /// The number of missing pages.
    left: AtomicU64,
}

/// Missing pages in a row.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Run {
    /// The address of the first page.
    pub(super) address: u64,
    /// The address of the first page in the images. The pages follow each other there, too.
    pub(super) origin: u64,
    /// The number of pages.
    pub(super) pages: u64,
}

/// Addresses in a row, of which some pages are missing.
#[derive(Clone, Debug)]
struct Piece {
    end: u64,
    /// The first address at the moment of the dump. Memory may have moved since.
    origin: u64,
    /// A bit for each page, set while the page is missing. Pieces that were cut from one piece
    /// share their bits.
    bits: Arc<[AtomicU64]>,
    /// The number of the first page's bit.
    first: u64,
}

impl Missing {
    /// Takes the addresses of missing pages, ascending. Every page of them is missing.
    ///
    /// # Errors
    /// If the ranges are not in order, are no whole pages, or are more than 8 TiB.
    pub(super) fn new(ranges: &[Range<u64>]) -> Result<Self, LazyError> {
        let mut map = Self::default();
        let mut last = 0;
        for range in ranges {
            let Range { start, end } = *range;
            if start % PAGE != 0 || end % PAGE != 0 || start < last || end <= start {
                return Err(LazyError::Ranges { start, end });
            }
            last = end;
            let pages = (end - start) / PAGE;
            let left = map.left.get_mut();
            *left += pages;
            if *left > MOST {
                return Err(LazyError::TooMuch { pages: *left, most: MOST });
            }
            let words = usize::try_from(pages.div_ceil(WORD)).unwrap_or(usize::MAX);
            let bits = (0..words).map(|_| AtomicU64::new(!0)).collect();
            map.pieces.insert(start, Piece { end, origin: start, bits, first: 0 });
        }
        Ok(map)
    }

    /// Returns the number of missing pages.
    pub(super) fn left(&self) -> u64 {
        self.left.load(Ordering::Relaxed)
    }

    /// Returns the missing pages from an address on, at most `most`. `None` if the page at the
    /// address is not missing.
    pub(super) fn at(&self, address: u64, most: u64) -> Option<Run> {
        let (&start, piece) = self.pieces.range(..=address).next_back()?;
        (address < piece.end).then(|| piece.run(start, address, most)).flatten()
    }

    /// Returns the missing pages in a row that hold an address, within the window of so many pages
    /// that holds the address. `None` if the page at the address is not missing.
    ///
    /// The page comes alone if both its neighbours are missing: nobody has been near, so nobody
    /// is likely to come by soon.
    pub(super) fn around(&self, address: u64, window: u64) -> Option<Run> {
        let (&start, piece) = self.pieces.range(..=address).next_back()?;
        let alone = (address < piece.end).then(|| piece.run(start, address, 1)).flatten()?;
        let is_missing = |page: u64| (start..piece.end).contains(&page) && piece.has(start, page);
        let is_there = |page: u64| (start..piece.end).contains(&page) && !piece.has(start, page);
        if window < 2 || !(is_there(address.wrapping_sub(PAGE)) || is_there(address + PAGE)) {
            return Some(alone);
        }
        let bytes = window.saturating_mul(PAGE);
        let lowest = address - address % bytes;
        let mut first = address;
        while first > lowest && is_missing(first - PAGE) {
            first -= PAGE;
        }
        piece.run(start, first, lowest.saturating_add(bytes).saturating_sub(first) / PAGE)
    }

    /// Returns the first missing pages at or above an address, at most `most`.
    pub(super) fn next(&self, from: u64, most: u64) -> Option<Run> {
        let before = self.pieces.range(..from).next_back();
        before.into_iter().chain(self.pieces.range(from..)).find_map(|(&start, piece)| {
            let address = piece.find(start, from.max(start))?;
            piece.run(start, address, most)
        })
    }

    /// Says that pages are there. Pages that are not missing stay as they are. Returns the number
    /// of pages that were missing.
    pub(super) fn mark(&self, address: u64, pages: u64) -> u64 {
        let end = address.saturating_add(pages.saturating_mul(PAGE));
        let before = self.pieces.range(..address).next_back();
        let mut marked = 0;
        for (&start, piece) in before.into_iter().chain(self.pieces.range(address..end)) {
            let (from, to) = (address.max(start), end.min(piece.end));
            if from < to {
                marked += piece.clear(piece.bit(start, from)..piece.bit(start, to));
            }
        }
        self.left.fetch_sub(marked, Ordering::Relaxed);
        marked
    }

    /// Forgets a range: its memory is discarded or unmapped. Returns the number of pages that were
    /// missing there.
    pub(super) fn forget(&mut self, range: &Range<u64>) -> u64 {
        let taken = self.take(range);
        let pages = taken.iter().map(|(start, piece)| piece.count(*start)).sum();
        self.left.fetch_sub(pages, Ordering::Relaxed);
        pages
    }

    /// Moves memory. The memory that was at the target before is gone.
    pub(super) fn shift(&mut self, from: u64, to: u64, bytes: u64) {
        let taken = self.take(&(from..from.saturating_add(bytes)));
        self.forget(&(to..to.saturating_add(bytes)));
        for (start, piece) in taken {
            // The kernel has moved this memory, so the addresses exist.
            let start_now = to.saturating_add(start - from);
            let end = to.saturating_add(piece.end - from);
            self.pieces.insert(start_now, Piece { end, ..piece });
        }
    }

    /// Returns a map of a copy of this address space.
    pub(super) fn fork(&self) -> Self {
        let pieces = self.pieces.iter().map(|(&start, piece)| (start, piece.copy(start)));
        Self { pieces: pieces.collect(), left: AtomicU64::new(self.left()) }
    }

    /// Returns the ranges that have missing pages, ascending. Some of their pages may be there.
    pub(super) fn ranges(&self) -> Vec<Range<u64>> {
        self.pieces.iter().map(|(&start, piece)| start..piece.end).collect()
    }

    /// Takes the pieces of a range out of the map.
    fn take(&mut self, range: &Range<u64>) -> Vec<(u64, Piece)> {
        self.cut(range.start);
        self.cut(range.end);
        if range.is_empty() {
            return Vec::new();
        }
        let starts: Vec<u64> = self.pieces.range(range.clone()).map(|(&start, _)| start).collect();
        starts.into_iter().filter_map(|start| self.pieces.remove_entry(&start)).collect()
    }

    /// Cuts the piece that holds an address in two there.
    fn cut(&mut self, address: u64) {
        let Some((&start, piece)) = self.pieces.range_mut(..address).next_back() else { return };
        if address >= piece.end {
            return;
        }
        let upper = Piece {
            end: piece.end,
            origin: piece.origin + (address - start),
            bits: Arc::clone(&piece.bits),
            first: piece.bit(start, address),
        };
        piece.end = address;
        self.pieces.insert(address, upper);
    }
}

impl Piece {
    /// Returns the number of a page's bit. `start` is the first address of the piece.
    fn bit(&self, start: u64, address: u64) -> u64 {
        self.first + (address - start) / PAGE
    }

    /// Returns the bits of a word from a bit on, of which the lowest is this bit's.
    fn word(&self, bit: u64) -> u64 {
        let word = usize::try_from(bit / WORD).ok().and_then(|word| self.bits.get(word));
        word.map_or(0, |word| word.load(Ordering::Acquire)) >> (bit % WORD)
    }

    /// Returns true if a page is missing.
    fn has(&self, start: u64, address: u64) -> bool {
        self.word(self.bit(start, address)) & 1 == 1
    }

    /// Returns the first missing page at or above an address.
    fn find(&self, start: u64, from: u64) -> Option<u64> {
        if from >= self.end {
            return None;
        }
        let (mut bit, end) = (self.bit(start, from), self.bit(start, self.end));
        while bit < end {
            let word = self.word(bit);
            if word != 0 {
                bit += u64::from(word.trailing_zeros());
                return (bit < end).then(|| start + (bit - self.first) * PAGE);
            }
            bit += WORD - bit % WORD;
        }
        None
    }

    /// Returns the missing pages from an address on.
    fn run(&self, start: u64, address: u64, most: u64) -> Option<Run> {
        let (first, end) = (self.bit(start, address), self.bit(start, self.end));
        let end = end.min(first.saturating_add(most));
        let mut bit = first;
        while bit < end {
            let ones = u64::from(self.word(bit).trailing_ones());
            let in_word = WORD - bit % WORD;
            bit += ones.min(in_word);
            if ones < in_word {
                break;
            }
        }
        let pages = bit.min(end) - first;
        let origin = self.origin + (address - start);
        (pages > 0).then_some(Run { address, origin, pages })
    }

    /// Clears bits. Returns the number of bits that were set.
    fn clear(&self, bits: Range<u64>) -> u64 {
        self.words(bits)
            .map(|(word, mask)| {
                let before = word.fetch_and(!mask, Ordering::AcqRel);
                u64::from((before & mask).count_ones())
            })
            .sum()
    }

    /// Counts the missing pages.
    fn count(&self, start: u64) -> u64 {
        let bits = self.first..self.bit(start, self.end);
        let words = self.words(bits);
        words
            .map(|(word, mask)| u64::from((word.load(Ordering::Acquire) & mask).count_ones()))
            .sum()
    }

    /// Returns the words that hold bits, each with the mask of the bits.
    fn words(&self, bits: Range<u64>) -> impl Iterator<Item = (&AtomicU64, u64)> {
        let words = bits.start / WORD..bits.end.div_ceil(WORD);
        words.filter_map(move |number| {
            let low = bits.start.saturating_sub(number * WORD);
            let high = (bits.end - number * WORD).min(WORD);
            let mask = (!0 << low) & (!0 >> (WORD - high));
            Some((self.bits.get(usize::try_from(number).ok()?)?, mask))
        })
    }

    /// Returns a piece of the same pages with bits of its own.
    fn copy(&self, start: u64) -> Self {
        let first = self.first % WORD;
        let from = usize::try_from(self.first / WORD).unwrap_or(usize::MAX);
        let to = self.bit(start, self.end).div_ceil(WORD);
        let to = usize::try_from(to).unwrap_or(usize::MAX);
        let words = self.bits.get(from..to).unwrap_or_default();
        let bits = words.iter().map(|word| AtomicU64::new(word.load(Ordering::Acquire)));
        Self { end: self.end, origin: self.origin, bits: bits.collect(), first }
    }
}

/// The size of a page.
pub(super) const PAGE: u64 = 4096;

/// The most missing pages of an address space: 8 TiB, with a map of 256 MiB.
const MOST: u64 = 1 << 31;

/// The number of bits of a word.
const WORD: u64 = 64;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// A map that is plainly right: a set of the missing pages with their origins.
    type Model = BTreeMap<u64, u64>;

    const ROOM: u64 = 700;

    /// A generator of pseudo-random numbers: xorshift.
    struct Dice(u64);

    impl Dice {
        fn below(&mut self, bound: u64) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0 % bound
        }

        fn range(&mut self) -> Range<u64> {
            let start = self.below(ROOM);
            let end = (start + 1 + self.below(200)).min(ROOM);
            start * PAGE..end * PAGE
        }
    }

    fn pages(range: &Range<u64>) -> impl Iterator<Item = u64> + use<> {
        (range.start / PAGE..range.end / PAGE).map(|page| page * PAGE)
    }

    fn compare(map: &Missing, model: &Model) {
        assert_eq!(map.left(), model.len() as u64);
        let mut seen = Model::new();
        let mut from = 0;
        while let Some(run) = map.next(from, 1000) {
            assert!(run.pages > 0 && run.address >= from);
            seen.extend((0..run.pages).map(|n| (run.address + n * PAGE, run.origin + n * PAGE)));
            from = run.address + run.pages * PAGE;
        }
        assert_eq!(&seen, model);
        for address in (0..ROOM).map(|page| page * PAGE) {
            let run = map.at(address, 3);
            assert_eq!(run.map(|run| run.origin), model.get(&address).copied());
            if let Some(run) = run {
                assert!((1..=3).contains(&run.pages));
                for n in 0..run.pages {
                    assert_eq!(model.get(&(address + n * PAGE)), Some(&(run.origin + n * PAGE)));
                }
            }
        }
        let ranges: BTreeSet<u64> = map.ranges().iter().flat_map(pages).collect();
        assert!(model.keys().all(|address| ranges.contains(address)));
    }

    #[test]
    fn a_map_does_what_a_set_of_pages_does() {
        for seed in 1..60 {
            let mut dice = Dice(0x9e37_79b9_7f4a_7c15 ^ (seed << 32));
            for _ in 0..3 {
                dice.below(2);
            }
            let ranges =
                [3..140, 140..141, 200..460, 500..650].map(|r| r.start * PAGE..r.end * PAGE);
            let mut map = Missing::new(&ranges).unwrap();
            let mut model: Model = ranges.iter().flat_map(pages).map(|page| (page, page)).collect();
            for _ in 0..60 {
                match dice.below(6) {
                    0 => {
                        let range = dice.range();
                        let before = model.len();
                        model.retain(|page, _| !range.contains(page));
                        assert_eq!(map.forget(&range), (before - model.len()) as u64);
                    }
                    1 => {
                        let (range, to) = (dice.range(), dice.below(ROOM) * PAGE);
                        let bytes = (range.end - range.start).min(ROOM * PAGE - to);
                        let range = range.start..range.start + bytes;
                        let moved: Vec<_> = pages(&range)
                            .filter_map(|page| {
                                Some((page - range.start + to, model.remove(&page)?))
                            })
                            .collect();
                        model.retain(|page, _| !(to..to + bytes).contains(page));
                        model.extend(moved);
                        map.shift(range.start, to, bytes);
                    }
                    2 if dice.below(4) == 0 => {
                        // The other map has bits of its own.
                        let child = map.fork();
                        let range = dice.range();
                        map.mark(range.start, (range.end - range.start) / PAGE);
                        compare(&child, &model);
                        map = child;
                    }
                    _ => {
                        let range = dice.range();
                        let before = model.len();
                        model.retain(|page, _| !range.contains(page));
                        let marked = map.mark(range.start, (range.end - range.start) / PAGE);
                        assert_eq!(marked, (before - model.len()) as u64);
                    }
                }
                compare(&map, &model);
            }
        }
    }

    #[test]
    fn neighbours_come_where_somebody_has_been() {
        let map = Missing::new(std::slice::from_ref(&(10 * PAGE..100 * PAGE))).unwrap();
        let around = |page: u64, window| {
            let run = map.around(page * PAGE, window)?;
            assert_eq!(run.origin, run.address);
            Some((run.address / PAGE, run.pages))
        };
        assert_eq!(around(20, 16), Some((20, 1)));
        assert_eq!(around(9, 16), None);
        assert_eq!(around(10, 16), Some((10, 1)));
        assert_eq!(around(100, 16), None);
        map.mark(40 * PAGE, 1);
        assert_eq!(around(40, 16), None);
        assert_eq!(around(41, 16), Some((41, 7)));
        assert_eq!(around(39, 16), Some((32, 8)));
        assert_eq!(around(39, 1), Some((39, 1)));
        assert_eq!(around(42, 16), Some((42, 1)));
        map.mark(11 * PAGE, 1);
        assert_eq!(around(10, 16), Some((10, 1)));
        assert_eq!(around(12, 16), Some((12, 4)));
    }

    #[test]
    fn ranges_that_are_not_in_order_are_refused() {
        assert!(Missing::new(std::slice::from_ref(&(PAGE..PAGE))).is_err());
        assert!(Missing::new(std::slice::from_ref(&(PAGE..PAGE + 1))).is_err());
        assert!(Missing::new(&[4 * PAGE..5 * PAGE, 2 * PAGE..3 * PAGE]).is_err());
        assert!(Missing::new(&[0..2 * PAGE, PAGE..3 * PAGE]).is_err());
        assert!(Missing::new(std::slice::from_ref(&(0..u64::MAX - PAGE + 1))).is_err());
        assert!(Missing::new(&[]).is_ok());
    }

    #[test]
    fn ranges_that_no_machine_has_cost_no_memory() {
        let all = PAGE..1 << 47;
        let error = Missing::new(std::slice::from_ref(&all)).unwrap_err();
        assert!(matches!(error, LazyError::TooMuch { .. }), "{error}");
        let wide = [PAGE..2 * PAGE, 4 * PAGE..(MOST + 4) * PAGE];
        assert!(Missing::new(&wide).is_err());
    }
}
