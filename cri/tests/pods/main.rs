//! Pods of a real containerd, checkpointed and restored. The tests need root, and the programs that
//! `cargo xtask setup --tests` unpacks.
//!
//! Each test runs in a sandbox as `runc::4.3::NAME`, with the newest CRIU. The containers run this
//! program, as payloads.

#![allow(clippy::unwrap_used, unreachable_pub)]

mod begun;
mod checkpoint;
mod kill;
mod restore;
mod scene;

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
        tests: [checkpoint::TESTS, restore::TESTS, kill::TESTS, begun::TESTS].concat(),
        criu: |path| Criu::at(path),
        version: |criu| criu.version().map_err(|error| error.to_string()),
    };
    match suite.main(&words) {
        Some(code) => code,
        None => {
            let rest: Vec<&str> = words[2..].iter().map(String::as_str).collect();
            if words[1] == RESTORER {
                return begun::restorer(&rest);
            }
            assert_eq!(words[1], "--own-saver", "there is no other word");
            kill::saver(&rest)
        }
    }
}

/// A test with the newest CRIU and runc.
pub const fn case(name: &'static str, test: fn(&Bed)) -> Case {
    Case { name, test, runtimes: &["runc"], newest_only: true }
}

/// The word that makes this program restore a pod.
pub const RESTORER: &str = "--own-restorer";
