//! The payloads of this suite: those of `criu_lab::payload`, which also note signals.
//!
//! A payload writes the signals it gets into FILE.signals; SIGTERM ends it with status 7.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use criu_lab::payload::{Counter, Pattern, Payload};
use nix::sys::signal::{SigSet, Signal};

/// Runs a payload; it ends when it is killed.
pub fn run(words: &[String]) {
    // A copy handles its signal itself.
    if words[0] != "copy" {
        note_signals(Path::new(&words[1]));
    }
    criu_lab::payload::run(words, &[OWN, criu_lab::generations::PAYLOADS].concat());
}

/// The payloads of this suite.
const OWN: &[Payload] = &[
    ("answer", crate::coordinator::answer),
    ("ask", crate::coordinator::ask),
    ("copy", criu_lab::copy::run),
    ("patterned", patterned),
    ("noise", noise),
];

/// Holds 8 MiB of known memory, and looks at 32 KiB of it whenever it counts.
fn patterned(words: &[&str]) {
    let memory = Pattern::new(1 << 20);
    let count = Counter::into(words[0]);
    for n in 1u64.. {
        if let Some(wrong) = memory.wrong(n, 4096) {
            count.fail(&wrong);
        }
        count.at(n);
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Has memory that no packing makes smaller, so many MiB, and changes a page of it in turn.
fn noise(words: &[&str]) {
    let megabytes: usize = words[1].parse().unwrap();
    let mut state = 1u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut memory: Vec<u64> = (0..megabytes << 17).map(|_| next()).collect();
    let count = Counter::into(words[0]);
    for n in 1u64.. {
        count.at(n);
        let at = usize::try_from(n).unwrap() * 512 % memory.len();
        memory[at] = memory[at].wrapping_add(1);
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn note_signals(file: &Path) {
    let noted: SigSet =
        [Signal::SIGINT, Signal::SIGTERM, Signal::SIGUSR1, Signal::SIGUSR2].into_iter().collect();
    noted.thread_block().unwrap();
    let path = file.with_extension("signals");
    std::thread::spawn(move || {
        loop {
            let signal = noted.wait().unwrap();
            let mut file = OpenOptions::new().append(true).create(true).open(&path).unwrap();
            writeln!(file, "{signal}").unwrap();
            if signal == Signal::SIGTERM {
                std::process::exit(7);
            }
        }
    });
}
