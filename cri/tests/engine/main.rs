//! Tests of the engines with real containers, of runc and of gVisor. They need root, and the
//! programs that `cargo xtask setup --tests` unpacks below `target`.
//!
//! Each test runs in a sandbox of its own; see `criu-rs/tests/containers`.

#![allow(clippy::unwrap_used, unreachable_pub)]

mod moments;
mod runc;
mod runsc;

use std::process::ExitCode;

use criu_lab::containers::Suite;
use criu_rs::{Criu, Pid};

/// A bed, in this crate's types.
pub type Bed = criu_lab::containers::Bed<Pid, Criu>;

/// A test, in this crate's types.
pub type Case = criu_lab::containers::Case<Pid, Criu>;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    let suite = Suite {
        tests: [runc::TESTS, runsc::TESTS].concat(),
        criu: |path| Criu::at(path),
        version: |criu| criu.version().map_err(|error| error.to_string()),
    };
    suite.main(&words).unwrap_or(ExitCode::FAILURE)
}
