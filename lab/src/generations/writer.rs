//! Writers: each has pages of its own, and writes generation after generation to their ends.

use std::sync::Arc;
use std::time::Duration;

use super::board::{Board, Word};
use super::shape::Shape;
use crate::oracle::memory::{Area, PAGE};

/// Starts the writer of this number.
pub(super) fn start(board: &Arc<Board>, number: usize, shape: &Shape) {
    let (board, shape) = (Arc::clone(board), *shape);
    std::thread::spawn(move || {
        let area = Area::private((shape.mib << 20) / shape.writers / PAGE * PAGE);
        area.huge(0, area.pages(), shape.huge);
        fill(&area);
        board.set_region(number, area.address(0), area.pages());
        if shape.idle {
            loop {
                std::thread::sleep(Duration::from_secs(1));
            }
        }
        for generation in 1.. {
            write(&board, &area, generation);
        }
    });
}

/// Fills an area with generation 0.
pub(super) fn fill(area: &Area) {
    for page in 0..area.pages() {
        area.store(page * PAGE, token(page, 0));
        area.store(page * PAGE + TAIL, token(page, 0));
    }
}

/// Writes a generation to both ends of every page that holds the one before.
pub(super) fn write(board: &Board, area: &Area, generation: u64) {
    for page in 0..area.pages() {
        let (wanted, next) = (token(page, generation - 1), token(page, generation));
        for at in [page * PAGE, page * PAGE + TAIL] {
            let found = area.load(at);
            if found != wanted {
                board.wrong(area.address(at), found, wanted);
            }
        }
        area.store(page * PAGE, next);
        area.store(page * PAGE + TAIL, next);
        if page % BATCH == BATCH - 1 {
            board.add(Word::Written, BATCH as u64);
        }
    }
}

/// The word at both ends of a page: the number of the page, and the generation.
pub(super) fn token(page: usize, generation: u64) -> u64 {
    MARK ^ (generation << PAGE_BITS | page as u64)
}

/// The page and the generation of a token.
pub(super) fn told(token: u64) -> (u64, u64) {
    let plain = token ^ MARK;
    (plain & ((1 << PAGE_BITS) - 1), plain >> PAGE_BITS)
}

/// The place of a page's last word.
pub(super) const TAIL: usize = PAGE - 8;
/// Bytes of a huge page.
pub(super) const HUGE: usize = 2 << 20;
/// Bits of the number of a page: 64 GiB.
const PAGE_BITS: u32 = 24;
/// No page of zeros is a page of generation 0.
const MARK: u64 = 0xa55a_0000_0000_0000;
/// Pages after which the board is told.
const BATCH: usize = 64;
