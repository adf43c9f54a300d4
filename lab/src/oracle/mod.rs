//! The oracle: a process that knows what each page of its memory has to hold.
//!
//! Every page holds its own address in its first, middle and last word, with the number of its
//! generation in the upper bits. Threads touch pages at random and compare. At the same time they
//! write, discard, unmap and move pages, and fork children that compare as well. A record says
//! how many pages were compared and which of them were wrong.
//!
//! The process is told what to do through a file that it has mapped ([`Remote`]), so that a
//! restored process finds its task with its first instruction.

pub(crate) mod memory;
mod pages;
mod record;
mod remote;
pub(crate) mod storm;
mod touch;

pub use remote::{Remote, Report, Storm, Task, Touch};

use std::path::Path;
use std::time::Duration;

use memory::now;
use pages::Pages;
use remote::Orders;

use crate::counter::Counter;

/// `FILE MEBIBYTES [huge|small] [FOLDER]`: the oracle. It counts into FILE while it has nothing to
/// do. With `huge` half of the memory may have huge pages. Reports lie in FOLDER, or beside FILE.
pub fn run(words: &[&str]) {
    let mebibytes: usize = words[1].parse().unwrap();
    let last_words = Path::new(words[0]).with_extension("panic");
    std::panic::set_hook(Box::new(move |panic| {
        let _ = std::fs::write(&last_words, panic.to_string());
    }));
    let orders = Orders::open(words[0], words.get(3).copied());
    let mut pages = Pages::new(mebibytes << 20, words.get(2) == Some(&"huge"));
    let counter = Counter::into(words[0]);
    let mut beats = 2;
    counter.at(beats);
    loop {
        let Some(task) = orders.next() else {
            std::thread::sleep(Duration::from_micros(100));
            beats += 1;
            if beats % 20 == 0 {
                counter.at(beats);
            }
            continue;
        };
        let first = now();
        let report = match task {
            Task::Check => pages.check_all(),
            Task::Storm(storm) => storm::run(&mut pages, storm),
            Task::Sweep => touch::sweep(&pages),
            Task::Touch(touch) => touch::run(&pages, touch),
        };
        orders.done(first, &report);
    }
}
