//! Generations: a process that writes all of its memory at full speed, and knows what each page
//! has to hold before it writes the page.
//!
//! ```text
//!   writer threads   check a page for generation n - 1, write n to both ends of the page
//!   churn threads    map, fill, discard, unmap, fork
//!   zoo thread       checks mappings of all kinds, and writes to those that may be written
//!   beat thread      wakes every 100 microseconds, and keeps the longest time between two beats
//! ```
//!
//! A snapshot that mixes two moments has pages of which the threads do not know, or lacks pages
//! that they do know. So a restored process finds a wrong snapshot by going on. The memory can also
//! be judged from outside, without running it ([`judge`]).
//!
//! The process tells all this in a file that it has mapped, the board. A [`Watch`] reads it.

mod board;
mod churn;
mod judge;
mod shape;
mod watch;
mod writer;
mod zoo;

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::libc;

use crate::counter::{Counter, command};
use crate::filter;
use crate::oracle::memory::fork;
use crate::payload::Payload;

use board::{Board, Order, Word, beside};
pub use judge::{Verdict, judge};
pub use shape::Shape;
pub use watch::{Region, Watch};
use zoo::Zoo;

/// The payloads of this module, for suites that have them.
pub const PAYLOADS: &[Payload] = &[("generations", run), ("generations-member", run)];

/// `FILE [KEY=VALUE ...]`: the payload, in the [`Shape`] that the words say. It counts into FILE,
/// and the board is FILE.board. Each of its children has the same shape without children, and a
/// file whose extension is the number of the child.
pub fn run(words: &[&str]) {
    let (file, shape) = (Path::new(words[0]), Shape::parse(&words[1..]));
    let last_words = beside(file, "panic");
    std::panic::set_hook(Box::new(move |panic| {
        let _ = std::fs::write(&last_words, panic.to_string());
    }));
    let alone = Shape { children: 0, ..shape };
    let _children: Vec<_> = (0..shape.children)
        .map(|n| {
            let file = file.with_extension(n.to_string());
            let words = alone.words();
            let mut words: Vec<&str> = words.iter().map(String::as_str).collect();
            words[0] = "generations-member";
            command(&words, &file).stdin(Stdio::null()).spawn().unwrap()
        })
        .collect();
    let board = Arc::new(Board::make(file));
    for n in 0..shape.writers {
        writer::start(&board, n, &shape);
    }
    for n in 0..shape.churn {
        churn::start(&board, n as u64, !shape.zoo);
    }
    if shape.zoo {
        Zoo::start(&board, file, &shape);
    }
    if shape.beat {
        beat(&board);
    }
    let counter = Counter::into(file);
    let is_ready = || (0..shape.writers).all(|n| board.region(n).is_some());
    while !is_ready() || (shape.zoo && board.load(Word::ZooRounds) == 0) {
        std::thread::sleep(Duration::from_millis(1));
    }
    if shape.sealed {
        let killing = filter::killing(&FORBIDDEN.map(|number| u32::try_from(number).unwrap()));
        filter::install(&killing, libc::SECCOMP_FILTER_FLAG_TSYNC).unwrap();
    }
    for n in 2u64.. {
        counter.at(n);
        if board.order() == Some(Order::Twin) {
            // The child is a copy of this moment. It does nothing.
            let twin = fork(|| {
                loop {
                    std::thread::sleep(Duration::from_secs(60));
                }
            });
            board.store(Word::Twin, twin.unsigned_abs().into());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Starts the thread that beats. It runs before all others, if this process may have it so.
fn beat(board: &Arc<Board>) {
    let board = Arc::clone(board);
    std::thread::spawn(move || {
        crate::raw::run_first();
        let mut last = Instant::now();
        loop {
            std::thread::sleep(BEAT);
            let now = Instant::now();
            let gap = now.duration_since(last).as_nanos();
            board.most(Word::Gap, u64::try_from(gap).unwrap_or(u64::MAX));
            board.add(Word::Beats, 1);
            last = now;
        }
    });
}

/// Time between two beats.
const BEAT: Duration = Duration::from_micros(100);

/// System calls that a sealed process does not make, and that a holder of it is made with.
const FORBIDDEN: [libc::c_long; 8] = [
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_fork,
    libc::SYS_wait4,
    libc::SYS_waitid,
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_close_range,
];

/// `MADV_GUARD_INSTALL` of Linux 6.13, which libc does not have yet.
const GUARD_INSTALL: libc::c_int = 102;
