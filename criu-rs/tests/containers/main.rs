//! Tests with real container runtimes: runc and crun, which drive a real CRIU. They need root, and
//! the programs that `cargo xtask setup --tests` unpacks below `target`.
//!
//! Each test runs in a sandbox as `runc::4.3::NAME`, with the runtimes and the CRIUs that can do
//! it.

#![allow(clippy::unwrap_used, unreachable_pub)]

mod aftermath;
mod baseline;
#[path = "../../examples/runtime.rs"]
#[allow(dead_code, reason = "its main function is not called here")]
mod example;
#[cfg(feature = "instant")]
mod generations;
mod hostile;
#[cfg(feature = "instant")]
mod instant;
mod killed;
mod labels;
mod lazy;
mod mounts;
mod oci;
mod options;
mod trip;

use std::process::ExitCode;

use criu_lab::containers::Suite;
use criu_rs::{Criu, Pid};

/// A bed, in this crate's types.
pub type Bed = criu_lab::containers::Bed<Pid, Criu>;

/// A test, in this crate's types.
pub type Case = criu_lab::containers::Case<Pid, Criu>;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    let tests = [
        baseline::TESTS,
        oci::TESTS,
        mounts::TESTS,
        hostile::TESTS,
        #[cfg(feature = "instant")]
        instant::TESTS,
        #[cfg(feature = "instant")]
        generations::TESTS,
        aftermath::TESTS,
        killed::TESTS,
        labels::of_guest(),
        lazy::TESTS,
        options::TESTS,
    ];
    let suite = Suite {
        tests: tests.concat(),
        criu: |path| Criu::at(path),
        version: |criu| criu.version().map_err(|error| error.to_string()),
    };
    suite.main(&words).unwrap_or_else(|| {
        if words[1] == killed::WORD {
            killed::runtime(&words[2..]);
            return ExitCode::SUCCESS;
        }
        let words: Vec<&str> = words[2..].iter().map(String::as_str).collect();
        example::run(&words).unwrap();
        ExitCode::SUCCESS
    })
}
