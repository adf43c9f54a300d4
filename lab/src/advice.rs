//! A process that changes the flags of its mappings all the time, and says in its memory how far it
//! is.

use std::fs;
use std::path::Path;
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

use nix::libc;

use crate::counter::Counter;
use crate::oracle::memory::{Area, PAGE};
use crate::payload::Payload;

/// The payloads of this file.
pub const PAYLOADS: &[Payload] = &[("advice", run)];

/// A change of a mapping, and the bits in its image after that.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    act: Act,
    /// Bits of advice.
    pub advice: u64,
    /// Tells that the memory is locked.
    pub is_locked: bool,
}

#[derive(Clone, Copy, Debug)]
enum Act {
    Advise(i32),
    Lock,
    Unlock,
}

const fn advise(advice: i32, bits: u64) -> Step {
    Step { act: Act::Advise(advice), advice: bits, is_locked: false }
}

/// The steps of each mapping, over and over. Those of the last [`NOT_INHERITED`] make a mapping
/// that a fork does not have, or not as it is.
pub const KINDS: &[&[Step]] = &[
    &[advise(libc::MADV_DONTDUMP, 1 << 16), advise(libc::MADV_DODUMP, 0)],
    &[advise(libc::MADV_WIPEONFORK, 1 << 18), advise(libc::MADV_KEEPONFORK, 0)],
    &[advise(libc::MADV_HUGEPAGE, 1 << 14), advise(libc::MADV_NOHUGEPAGE, 1 << 15)],
    &[
        advise(libc::MADV_SEQUENTIAL, 1 << 2),
        advise(libc::MADV_RANDOM, 1 << 1),
        advise(libc::MADV_NORMAL, 0),
    ],
    &[advise(libc::MADV_DONTFORK, 1 << 10), advise(libc::MADV_DOFORK, 0)],
    &[
        Step { act: Act::Lock, advice: 0, is_locked: true },
        Step { act: Act::Unlock, advice: 0, is_locked: false },
    ],
];

/// The number of kinds at the end of [`KINDS`] whose flags a fork does not have.
pub const NOT_INHERITED: usize = 2;

/// `FILE KINDS MIB`: the payload. The mappings are in FILE.advice: their addresses, one a line,
/// behind that of two words. The first word is the number of the step that has begun last, the
/// second that of the last one that is done. The mappings take turns.
fn run(words: &[&str]) {
    let (file, kinds) = (Path::new(words[0]), words[1].parse::<usize>().unwrap());
    let area = |bytes| Area::flagged(bytes, libc::MAP_PRIVATE, None).unwrap();
    let ballast = area(words[2].parse::<usize>().unwrap() << 20);
    (0..ballast.pages()).for_each(|page| ballast.store(page * PAGE, 1));
    let state = area(PAGE);
    let mut text = format!("{:x}\n", state.address(0));
    // A page between two mappings keeps them apart, however equal they are.
    let all = area((1 + kinds * 17) * PAGE);
    all.piece(0, 1).protect(libc::PROT_NONE);
    let mappings: Vec<Area> = (0..kinds)
        .map(|number| {
            let mapping = all.piece(1 + number * 17, 16);
            (0..mapping.pages()).for_each(|page| mapping.store(page * PAGE, 1));
            all.piece((1 + number) * 17, 1).protect(libc::PROT_NONE);
            text += &format!("{:x}\n", mapping.address(0));
            mapping
        })
        .collect();
    fs::write(file.with_extension("advice"), text).unwrap();
    std::thread::spawn(move || {
        for (n, number) in (1u64..).zip((0..kinds).cycle()) {
            let (steps, round) = (KINDS[number], round(n, number, kinds));
            state.store(0, n);
            fence(Ordering::SeqCst);
            match steps[(round - 1) % steps.len()].act {
                Act::Advise(advice) => assert!(mappings[number].may_advise(0, 16, advice)),
                Act::Lock => mappings[number].lock(),
                Act::Unlock => mappings[number].unlock(),
            }
            fence(Ordering::SeqCst);
            state.store(8, n);
        }
    });
    let counter = Counter::into(file);
    for n in 2u64.. {
        counter.at(n);
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Returns the steps after one of which a mapping is, by the words of the payload's memory. `None`
/// stands for a mapping that nothing was done to.
pub fn possible(number: usize, kinds: usize, begun: u64, done: u64) -> Vec<Option<Step>> {
    let steps = KINDS[number];
    let last = |count: u64| {
        let round = round(count, number, kinds).checked_sub(1);
        round.map(|round| steps[round % steps.len()])
    };
    if begun == done { vec![last(done)] } else { vec![last(done), last(begun)] }
}

/// Returns the number of steps of a mapping among the first `count` steps of all.
fn round(count: u64, number: usize, kinds: usize) -> usize {
    (usize::try_from(count).unwrap() + kinds - 1 - number) / kinds
}
