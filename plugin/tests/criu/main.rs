//! Tests of the plugin in a real CRIU, on real processes. They need root, and the CRIUs that
//! `cargo xtask setup --tests` puts into `target/criu`.
//!
//! Each test runs in a process of its own, once with each CRIU. This program is also the payload
//! that is dumped (`payload.rs`).

#![allow(clippy::unwrap_used, unreachable_pub)]

mod held;
mod kept;
mod killed;
mod lab;
mod memory;
mod pages;
mod payload;
mod refused;
mod stand_in;
mod unheld;

use std::process::ExitCode;

use criu_lab::harness::{self, Trial};
use criu_lab::place;

use lab::{Lab, TestFn};

fn main() -> ExitCode {
    let payload = |words: &[String]| criu_lab::payload::run(words, payload::OWN);
    if harness::own_word(&all(), payload, Lab::new) { ExitCode::SUCCESS } else { run_all() }
}

fn all() -> Vec<(&'static str, TestFn)> {
    [held::TESTS, kept::TESTS, killed::TESTS, refused::TESTS, stand_in::TESTS, unheld::TESTS]
        .concat()
}

fn run_all() -> ExitCode {
    let crius = place::crius(lab::version);
    harness::run(harness::with_each(crius, |version, criu| {
        let trial = |(name, _): (&'static str, TestFn)| {
            let criu = criu.clone();
            let run = move || harness::finish(&mut harness::one(name, &criu));
            Trial::test(format!("{version}::{name}"), run)
        };
        all().into_iter().map(trial).collect()
    }))
}
