//! Operations that are killed, stopped, starved and cut short at random moments, and what is left afterwards.
//!
//! `cargo test` runs some rounds, `cargo xtask torture [ROUNDS]` as many as one likes. Each round is one operation
//! with one fault in a sandbox (`../containers/sandbox.rs`). It needs root and CRIU, as the other real tests.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, unreachable_pub)]

mod bare;
mod bed;
#[allow(dead_code, reason = "the tests of containers use more of it")]
#[path = "../../../lab/src/cgroups.rs"]
mod cgroups;
mod driver;
mod fuse;
mod judge;
mod payload;
mod raw;
mod rounds;
#[allow(dead_code, reason = "the tests of containers use more of it")]
#[path = "../../../lab/src/sandbox.rs"]
mod sandbox;
mod scene;

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use cgroups::Layout;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    match words.get(1).map(String::as_str) {
        Some("--payload") => payload::run(&words[2..]),
        Some("--drive") => driver::run(&words[2..]),
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
    let temporary = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let temporary = temporary.join(format!("torture-temporary-{}", std::process::id()));
    std::fs::create_dir_all(&temporary).unwrap();
    let status = Command::new(std::env::current_exe().unwrap())
        .arg("--apart")
        .args(words)
        .env("TMPDIR", &temporary)
        .stdin(Stdio::null())
        .status()
        .unwrap();
    let _ = std::fs::remove_dir_all(&temporary);
    if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What the process does that waits outside of the sandbox.
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
