//! Operations that are killed, stopped, starved and cut short at random moments, and what they
//! leave.
//!
//! `cargo test` runs some rounds, `cargo xtask torture [ROUNDS]` as many as it is told. Each round
//! is one operation with one fault in a sandbox. The test needs root and CRIU.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, unreachable_pub)]

mod bare;
mod driver;
mod fuse;
mod hostile;
mod judge;
mod payload;
mod rounds;
mod scene;

use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use criu_lab::cgroups::Layout;
use criu_lab::{place, sandbox};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    match words.get(1).map(String::as_str) {
        Some("--payload") => payload::run(&words[2..]),
        Some("--drive") => driver::run(&words[2..]),
        Some("--plant") => hostile::plant(&words[2..]),
        Some("--serve") => driver::serve(&words[2..]),
        Some("--apart") => return apart(&words[2..]),
        Some(sandbox::FIRST) => return sandbox::first(&words[2], &words[3..]),
        Some("--rounds") => return rounds::run(&words[2..]),
        // For those that list or filter tests.
        Some("--list") => {}
        _ => return start(&words[1..]),
    }
    ExitCode::SUCCESS
}

/// `[ROUNDS] [SEED] [--bare] [--only FAULT]`, in a sandbox.
fn start(words: &[String]) -> ExitCode {
    let words: Vec<&String> = words.iter().filter(|word| !word.starts_with("--test")).collect();
    // A place of its own for temporary files: others' come and go.
    let temporary = place::Short::folder();
    let status = Command::new(std::env::current_exe().unwrap())
        .arg("--apart")
        .args(words)
        .env("TMPDIR", temporary.path())
        .stdin(Stdio::null())
        .status()
        .unwrap();
    if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The process that waits outside of the sandbox.
fn apart(words: &[String]) -> ExitCode {
    let words = [&["--rounds".to_owned()], words].concat();
    match sandbox::run(&words, Layout::Machine, LIMIT) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// 1,000 rounds take some minutes.
const LIMIT: Duration = Duration::from_secs(3600);
