//! Tests of the fork that the plugin makes of a stopped task, on real processes, with a tracer of
//! their own in place of CRIU. They need root.
//!
//! This program is several: the tests, the tasks that are forked (`--victim`), and the tracer
//! (`--tracer`), which a test can kill at each of its system calls.

#![allow(clippy::unwrap_used, unreachable_pub, missing_docs)]

#[cfg(target_arch = "x86_64")]
mod calls;
#[cfg(target_arch = "x86_64")]
mod deaths;
#[cfg(target_arch = "x86_64")]
mod raw;
#[cfg(target_arch = "x86_64")]
mod stage;
#[cfg(target_arch = "x86_64")]
mod states;
#[cfg(target_arch = "x86_64")]
mod storms;
#[cfg(target_arch = "x86_64")]
mod tracer;
#[cfg(target_arch = "x86_64")]
mod victim;

use std::process::ExitCode;

#[cfg(target_arch = "x86_64")]
fn main() -> ExitCode {
    use criu_lab::harness::{self, Trial};

    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.first().map(String::as_str) {
        Some("--victim") => victim::run(&words[1..]),
        Some("--tracer") => tracer::run(&words[1..]),
        _ => {
            let tests = calls::TESTS.iter().chain(states::TESTS).chain(deaths::TESTS);
            let tests = tests.chain(storms::TESTS);
            let trial = |(name, test): &(&'static str, fn())| {
                let test = *test;
                Trial::test(*name, move || {
                    test();
                    Ok(())
                })
            };
            return harness::run(tests.map(trial).collect());
        }
    }
    ExitCode::SUCCESS
}

#[cfg(not(target_arch = "x86_64"))]
fn main() -> ExitCode {
    ExitCode::SUCCESS
}
