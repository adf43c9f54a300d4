//! Churn: threads that map, fill, discard, unmap and fork without a pause.

use std::sync::Arc;

use nix::libc;

use super::board::{Board, Word};
use super::writer::{TAIL, fill, token, write};
use crate::oracle::memory::{Area, PAGE, fork, wait};
use crate::oracle::storm::Random;

/// Starts a churn thread, which forks or not.
pub(super) fn start(board: &Arc<Board>, seed: u64, forks: bool) {
    let board = Arc::clone(board);
    std::thread::spawn(move || {
        let mut random = Random(seed);
        loop {
            turn(&board, &mut random, forks);
        }
    });
}

/// Maps memory, uses it, and unmaps it.
fn turn(board: &Board, random: &mut Random, forks: bool) {
    let pages = 1 + random.below(MOST);
    let flags = libc::MAP_PRIVATE | libc::MAP_NORESERVE;
    let Some(area) = Area::flagged(pages * PAGE, flags, None) else { return };
    area.huge(0, pages, random.below(2) == 0);
    fill(&area);
    write(board, &area, 1);
    let first = random.below(pages);
    let gone = 1 + random.below(pages - first);
    area.discard(first, gone);
    check(board, &area, first, gone);
    if forks && random.below(8) == 0 {
        let child = fork(|| {
            check(board, &area, first, gone);
            fill(&area);
            write(board, &area, 1);
            0
        });
        let status = wait(child);
        if status != 0 {
            board.wrong(area.address(0), status.unsigned_abs().into(), 0);
        }
        board.add(Word::Forked, 1);
    }
    check(board, &area, first, gone);
    area.unmap();
    board.add(Word::Churned, 1);
}

/// Checks that the pages are of generation 1, and that the discarded ones are zeros.
fn check(board: &Board, area: &Area, first: usize, gone: usize) {
    for page in 0..area.pages() {
        let is_gone = (first..first + gone).contains(&page);
        let wanted = if is_gone { 0 } else { token(page, 1) };
        for at in [page * PAGE, page * PAGE + TAIL] {
            let found = area.load(at);
            if found != wanted {
                board.wrong(area.address(at), found, wanted);
            }
        }
    }
}

/// Most pages of a mapping.
const MOST: usize = 1024;
