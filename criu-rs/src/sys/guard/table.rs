//! The spaces that a guard knows, and the news that it gets of them.

use std::ops::Range;
use std::os::fd::BorrowedFd;

use super::missing::{News, RANGES};
use crate::sys::list::List;
use crate::sys::raw;

/// The words of one message.
pub(super) const WORDS: usize = 2 * RANGES + 4;

/// A message.
pub(super) type Words = [u64; WORDS];

/// A space that a guard knows.
#[derive(Clone, Copy)]
pub(super) struct Space {
    pub(super) id: u64,
    pub(super) uffd: i32,
    /// A descriptor of the process, or -1.
    pub(super) process: i32,
    /// The process id here, or 0.
    pub(super) pid: i32,
}

/// A range of a space whose pages may be missing.
#[derive(Clone, Copy)]
pub(super) struct Piece {
    pub(super) space: u64,
    pub(super) start: u64,
    pub(super) end: u64,
}

/// The spaces, and their ranges.
pub(super) struct Table {
    pub(super) spaces: List<Space>,
    pub(super) pieces: List<Piece>,
    /// The number of forks that this guard has seen.
    forks: u64,
}

/// The answer to a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Answer {
    /// More news may come.
    Listen,
    /// More news may come. The descriptor of a space is missing.
    Unguarded,
    /// The guard is not needed any more.
    End,
}

/// Makes the message of news, and the descriptors that go with it.
pub(super) fn encode(news: News<'_>) -> (Vec<u64>, Vec<BorrowedFd<'_>>) {
    match news {
        News::Begins { space, uffd, process } => {
            let pid = process.map_or(0, |(_, pid)| u64::try_from(pid).unwrap_or(0));
            let fds = [uffd].into_iter().chain(process.map(|(process, _)| process));
            (vec![BEGINS, space, pid, 0], fds.collect())
        }
        News::Missing { space, ranges } => {
            let ranges = ranges.iter().take(RANGES);
            let words = ranges.flat_map(|range| [range.start, range.end]);
            ([MISSING, space, 0, 0].into_iter().chain(words).collect(), Vec::new())
        }
        News::Moved { space, from, to, bytes } => {
            (vec![MOVED, space, 0, 0, from, to, bytes, 0], Vec::new())
        }
        News::Gone { space, start, end } => (vec![GONE, space, 0, 0, start, end], Vec::new()),
        News::Ends { space } => (vec![ENDS, space, 0, 0], Vec::new()),
        News::Done => (vec![DONE, 0, 0, 0], Vec::new()),
    }
}

impl Table {
    /// Makes an empty table.
    pub(super) const fn new() -> Self {
        Self { spaces: List::new(), pieces: List::new(), forks: 0 }
    }

    /// Takes a message of so many words, with its descriptors, which are -1 if they are missing.
    pub(super) fn take(&mut self, words: &Words, count: usize, fds: [i32; 2]) -> Answer {
        let [kind, space, pid, _, a, b, c, ..] = *words;
        match kind {
            BEGINS if fds[0] < 0 => return Answer::Unguarded,
            BEGINS => {
                let pid = i32::try_from(pid).unwrap_or(0);
                let new = Space { id: space, uffd: fds[0], process: fds[1], pid };
                if !self.spaces.push(new) {
                    // Without memory for it the space is lost, and its tasks must not run on.
                    raw::signal(new.process, libc::SIGKILL);
                }
                return Answer::Listen;
            }
            MISSING => {
                let ranges = words.get(4..count.min(WORDS)).unwrap_or_default();
                for pair in ranges.chunks_exact(2) {
                    if let [start, end] = *pair {
                        self.pieces.push(Piece { space, start, end });
                    }
                }
            }
            MOVED => self.moved(space, a, b, c),
            GONE => self.gone(space, a, b),
            ENDS => self.end(space),
            DONE => return Answer::End,
            _ => {}
        }
        for fd in fds {
            raw::close(fd);
        }
        Answer::Listen
    }

    /// Forgets a space.
    pub(super) fn end(&mut self, space: u64) {
        let mut at = 0;
        while let Some(known) = self.spaces.get(at) {
            if known.id == space {
                raw::close(known.uffd);
                raw::close(known.process);
                self.spaces.remove(at);
            } else {
                at += 1;
            }
        }
        self.gone(space, 0, u64::MAX);
    }

    /// Forgets the pages of a range.
    pub(super) fn gone(&mut self, space: u64, start: u64, end: u64) {
        let mut at = 0;
        while let Some(piece) = self.pieces.get(at) {
            if piece.space != space || piece.end <= start || end <= piece.start {
                at += 1;
                continue;
            }
            self.pieces.remove(at);
            for range in around(&piece, start, end) {
                if range.start < range.end {
                    // Goes to the end of the list, outside of the range.
                    self.pieces.push(Piece { space, start: range.start, end: range.end });
                }
            }
        }
    }

    /// Moves the pages of a range.
    pub(super) fn moved(&mut self, space: u64, from: u64, to: u64, bytes: u64) {
        let end = from.saturating_add(bytes);
        self.gone(space, to, to.saturating_add(bytes));
        let count = self.pieces.items().len();
        for at in 0..count {
            let Some(piece) = self.pieces.get(at) else { break };
            let (start, last) = (piece.start.max(from), piece.end.min(end));
            if piece.space == space && start < last {
                let new = start - from + to;
                self.pieces.push(Piece { space: MOVING, start: new, end: new + (last - start) });
            }
        }
        self.gone(space, from, end);
        for at in 0..self.pieces.items().len() {
            if let Some(piece) = self.pieces.get(at).filter(|piece| piece.space == MOVING) {
                self.pieces.set(at, Piece { space, ..piece });
            }
        }
    }

    /// Takes the child of a space's process, which has the same ranges.
    pub(super) fn fork(&mut self, space: u64, uffd: i32) {
        self.forks += 1;
        let id = FORKED | self.forks;
        self.spaces.push(Space { id, uffd, process: -1, pid: 0 });
        for at in 0..self.pieces.items().len() {
            if let Some(piece) = self.pieces.get(at).filter(|piece| piece.space == space) {
                self.pieces.push(Piece { space: id, ..piece });
            }
        }
    }
}

/// The parts of a piece outside of a range.
fn around(piece: &Piece, start: u64, end: u64) -> [Range<u64>; 2] {
    [piece.start..piece.end.min(start), piece.start.max(end)..piece.end]
}

// The kinds of messages.
const BEGINS: u64 = 1;
const MISSING: u64 = 2;
const MOVED: u64 = 3;
const GONE: u64 = 4;
const ENDS: u64 = 5;
const DONE: u64 = 6;

/// The space of pieces that are being moved.
const MOVING: u64 = u64::MAX;

/// The numbers of spaces that a guard has taken itself.
const FORKED: u64 = 1 << 63;

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(table: &Table, space: u64) -> Vec<Range<u64>> {
        let pieces = table.pieces.items().iter().filter(|piece| piece.space == space);
        let mut ranges: Vec<_> = pieces.map(|piece| piece.start..piece.end).collect();
        ranges.sort_by_key(|range| range.start);
        ranges
    }

    #[test]
    fn ranges_shrink_split_and_move() {
        let mut table = Table::new();
        table.pieces.push(Piece { space: 1, start: 10, end: 20 });
        table.pieces.push(Piece { space: 2, start: 10, end: 20 });
        table.gone(1, 12, 14);
        assert_eq!(ranges(&table, 1), [10..12, 14..20]);
        assert_eq!(ranges(&table, 2), std::iter::once(10..20).collect::<Vec<_>>());
        table.moved(1, 11, 101, 5);
        assert_eq!(ranges(&table, 1), [10..11, 16..20, 101..102, 104..106]);
        // What was at the target is gone.
        table.moved(1, 101, 17, 1);
        assert_eq!(ranges(&table, 1), [10..11, 16..17, 17..18, 18..20, 104..106]);
        table.fork(1, -1);
        assert_eq!(ranges(&table, FORKED | 1).len(), 5);
        table.gone(1, 0, u64::MAX);
        assert!(ranges(&table, 1).is_empty() && ranges(&table, 2).len() == 1);
    }

    #[test]
    fn a_list_grows_past_its_first_memory() {
        let mut list = List::new();
        for number in 0..100_000u64 {
            assert!(list.push(number));
        }
        assert!(list.items().iter().copied().eq(0..100_000));
        list.remove(0);
        assert_eq!((list.items().len(), list.get(0)), (99_999, Some(99_999)));
    }
}
