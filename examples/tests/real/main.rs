//! The built programs, run on real processes. The tests need root, and the CRIUs that `cargo xtask setup
//! --tests` puts into `target/criu`.
//!
//! Each test runs in a process of its own, once with each CRIU: `4.3::dump_and_restore`. This program is
//! also the process that is dumped (`payload.rs`).

#![allow(clippy::unwrap_used, unreachable_pub)]

mod lab;
mod payload;
mod preflight;

mod check;
mod crit;
mod dump;
mod memory;
mod nonsense;
mod options;
mod programs;
mod restore;
mod terminal;

use std::path::Path;
use std::process::ExitCode;

use criu_lab::harness::{self, Trial};
use criu_lab::place;
use criu_rs::Criu;

use lab::TestFn;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    match words.get(1).map(String::as_str) {
        Some("--payload") => {
            payload::run(&words[2..]);
            ExitCode::SUCCESS
        }
        Some("--one") => {
            let test = all().into_iter().find(|(name, _)| *name == words[2]);
            let (name, test) = test.expect("a test of this name");
            lab::run_one(name, test, Path::new(&words[3]));
            ExitCode::SUCCESS
        }
        _ => run_all(),
    }
}

fn all() -> Vec<(&'static str, TestFn)> {
    [
        check::TESTS,
        preflight::TESTS,
        crit::TESTS,
        dump::TESTS,
        memory::TESTS,
        nonsense::TESTS,
        options::TESTS,
        programs::TESTS,
        restore::TESTS,
        terminal::TESTS,
    ]
    .concat()
}

fn run_all() -> ExitCode {
    let crius = place::crius(|path| Criu::at(path).version());
    harness::run(harness::with_each(crius, |version, criu| {
        let trial = |name| {
            let criu = criu.clone();
            let run = move || harness::finish(&mut harness::one(name, &criu));
            Trial::test(format!("{version}::{name}"), run)
        };
        all().into_iter().map(|(name, _)| trial(name)).collect()
    }))
}
