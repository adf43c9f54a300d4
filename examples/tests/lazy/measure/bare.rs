//! The bare cost of missing pages on this machine.

use std::time::Duration;

use criu_lab::uffd::{copies, faults};

use super::Hall;
use super::figures::{micro, middle};

/// Copies in pieces, and single faults.
pub fn table(hall: &Hall) {
    println!("| UFFDIO_COPY in pieces of | us each | GiB/s |");
    println!("| --- | ---: | ---: |");
    for kibibytes in [4, 16, 64, 256, 1024] {
        let times = (0..hall.rounds).map(|_| copies(BYTES, kibibytes << 10));
        let time = middle(times.collect());
        let number = BYTES / (kibibytes << 10);
        let each = micro(time / u32::try_from(number).unwrap());
        let rate = BYTES as f64 / f64::from(1 << 30) / time.as_secs_f64();
        println!("| {kibibytes} KiB | {each} | {rate:.2} |");
    }
    println!("\n| a fault that a thread of the same process serves | p50 us | p99 us |");
    println!("| --- | ---: | ---: |");
    let rows = [
        ("both threads on one processor", Some((0, 0))),
        ("on two processors", Some((0, 1))),
        ("where the kernel puts them", None),
    ];
    for (name, processors) in rows {
        let all: Vec<Vec<Duration>> =
            (0..hall.rounds).map(|_| faults(FAULTS, processors)).collect();
        let at = |percent: usize| {
            middle(all.iter().map(|times| times[times.len() * percent / 100]).collect())
        };
        println!("| {name} | {} | {} |", micro(at(50)), micro(at(99)));
    }
}

const BYTES: usize = 512 << 20;
const FAULTS: usize = 10_000;
