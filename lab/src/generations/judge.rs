//! A judgement of a snapshot from outside.
//!
//! A writer writes its pages in order. So at every moment the pages up to some page have a
//! generation, that page may be half written, and all pages after it have the generation before.

use super::watch::Region;
use super::writer::{TAIL, told};
use crate::oracle::memory::PAGE;

/// The findings of a judgement.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Verdict {
    /// Pages that were looked at.
    pub pages: u64,
    /// Pages that were half written, at most one for each writer.
    pub torn: u64,
    /// Pages that are not of the moment of the page before, and those that cannot be read.
    pub wrong: u64,
}

/// Judges the memory that `read` reads: it fills a buffer from an address on, and returns false if
/// it cannot.
pub fn judge(regions: &[Region], mut read: impl FnMut(u64, &mut [u8]) -> bool) -> Verdict {
    let mut verdict = Verdict::default();
    for region in regions {
        let mut moment = Moment::default();
        for first in (0..region.pages).step_by(BATCH) {
            let pages = (region.pages - first).min(BATCH as u64);
            let mut buffer = vec![0; usize::try_from(pages).unwrap() * PAGE];
            let is_read = read(region.start + first * PAGE as u64, &mut buffer);
            verdict.pages += pages;
            if !is_read {
                verdict.wrong += pages;
                continue;
            }
            for (page, bytes) in (first..).zip(buffer.chunks_exact(PAGE)) {
                match moment.look(page, word(bytes, 0), word(bytes, TAIL)) {
                    Look::Right => {}
                    Look::Torn => verdict.torn += 1,
                    Look::Wrong => verdict.wrong += 1,
                }
            }
        }
    }
    verdict
}

/// The progress in a region.
#[derive(Clone, Copy, Debug, Default)]
struct Moment {
    /// The generation of the first page.
    first: Option<u64>,
    /// The pages now are of the generation before.
    is_before: bool,
}

enum Look {
    Right,
    Torn,
    Wrong,
}

impl Moment {
    fn look(&mut self, page: u64, head: u64, tail: u64) -> Look {
        let ((head_page, head), (tail_page, tail)) = (told(head), told(tail));
        // Other bytes than a writer's, such as zeros, tell a generation that nobody reaches.
        if (head_page, tail_page) != (page, page) || head.max(tail) > LAST {
            return Look::Wrong;
        }
        let first = *self.first.get_or_insert(head);
        let before = first.checked_sub(1);
        if !self.is_before && head == first && tail == first {
            return Look::Right;
        }
        let is_torn = !self.is_before && head == first && Some(tail) == before;
        let is_before = Some(head) == before && Some(tail) == before;
        self.is_before |= is_torn || is_before;
        match (is_torn, is_before) {
            (true, _) => Look::Torn,
            (_, true) => Look::Right,
            _ => Look::Wrong,
        }
    }
}

fn word(page: &[u8], at: usize) -> u64 {
    page.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// The last generation.
const LAST: u64 = 1 << 32;
/// Pages that are read at once.
const BATCH: usize = 256;

#[cfg(test)]
mod tests {
    use super::super::writer::token;
    use super::*;

    /// Judges pages of these generations, by the first and the last word.
    fn of(generations: &[(u64, u64)]) -> (u64, u64) {
        let region = Region { start: 0x10000, pages: generations.len() as u64 };
        let verdict = judge(&[region], |address, buffer| {
            let first = usize::try_from(address - 0x10000).unwrap() / PAGE;
            for (n, page) in (first..).zip(buffer.chunks_exact_mut(PAGE)) {
                let (head, tail) = generations[n];
                page[..8].copy_from_slice(&token(n, head).to_le_bytes());
                page[TAIL..].copy_from_slice(&token(n, tail).to_le_bytes());
            }
            true
        });
        assert_eq!(verdict.pages, generations.len() as u64);
        (verdict.torn, verdict.wrong)
    }

    #[test]
    fn a_snapshot_of_one_moment_is_right() {
        assert_eq!(of(&[(4, 4), (4, 4), (4, 4)]), (0, 0));
        assert_eq!(of(&[(4, 4), (3, 3), (3, 3)]), (0, 0));
        assert_eq!(of(&[(4, 4), (4, 3), (3, 3)]), (1, 0));
        assert_eq!(of(&[(1, 0), (0, 0)]), (1, 0));
        assert_eq!(of(&[(0, 0), (0, 0)]), (0, 0));
    }

    #[test]
    fn a_snapshot_of_two_moments_is_wrong() {
        assert_eq!(of(&[(4, 4), (5, 5), (3, 3)]), (0, 1));
        assert_eq!(of(&[(4, 4), (3, 3), (4, 4)]), (0, 1));
        assert_eq!(of(&[(4, 3), (4, 3), (3, 3)]), (1, 1));
        assert_eq!(of(&[(4, 4), (2, 2), (2, 2)]), (0, 2));
        assert_eq!(of(&[(3, 4), (3, 3)]), (0, 1));
    }

    #[test]
    fn a_page_at_another_place_and_a_page_of_zeros_are_wrong() {
        let region = Region { start: 0, pages: 2 };
        let verdict = judge(&[region], |_, buffer| {
            for page in buffer.chunks_exact_mut(PAGE) {
                page[..8].copy_from_slice(&token(0, 7).to_le_bytes());
                page[TAIL..].copy_from_slice(&token(0, 7).to_le_bytes());
            }
            true
        });
        assert_eq!(verdict.wrong, 1);
        assert_eq!(judge(&[region], |_, _| true).wrong, 2);
        assert_eq!(judge(&[region], |_, _| false).wrong, 2);
    }
}
