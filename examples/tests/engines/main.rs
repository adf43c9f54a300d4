//! Checkpoint archives beside real container engines: podman, containerd, and what else reads them.
//! The tests need root, and the programs that `cargo xtask setup --tests` unpacks.
//!
//! Each test runs in a sandbox as `runc::4.3::NAME`, with the newest CRIU.

#![allow(clippy::unwrap_used, unreachable_pub)]

mod containerd;
mod cri;
mod podman;
mod pods;
mod proxy;

use std::path::Path;
use std::process::{Command, ExitCode};

use criu_lab::containers::Suite;
use criu_lab::engines::{Said, finish};
use criu_rs::{Criu, Pid};

/// A bed, in this crate's types.
pub type Bed = criu_lab::containers::Bed<Pid, Criu>;

/// A test, in this crate's types.
pub type Case = criu_lab::containers::Case<Pid, Criu>;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    let suite = Suite {
        tests: [podman::TESTS, containerd::TESTS, cri::TESTS, pods::TESTS, proxy::TESTS].concat(),
        criu: |path| Criu::at(path),
        version: |criu| criu.version().map_err(|error| error.to_string()),
    };
    suite.main(&words).unwrap_or(ExitCode::FAILURE)
}

/// A test with the newest CRIU and runc.
pub const fn case(name: &'static str, test: fn(&Bed)) -> Case {
    Case { name, test, runtimes: &["runc"], newest_only: true }
}

/// Runs the program with words to its end.
#[track_caller]
pub fn program(words: &[&str]) -> Said {
    finish(Command::new(PROGRAM).args(words))
}

/// Runs the program with words, which must succeed. Returns its output.
#[track_caller]
pub fn done(words: &[&str]) -> String {
    program(words).done()
}

/// The path of the program.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_criu-rs");

/// The text of a path.
pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
