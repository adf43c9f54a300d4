//! The built programs, run on real processes. They need root, and a CRIU under `target/criu`, where
//! `cargo xtask setup --tests` puts them.
//!
//! Each test runs in a process of its own, once with each CRIU: `4.3::dump_and_restore`. The same
//! binary is also the process that is dumped (`payload.rs`).

#![allow(clippy::unwrap_used, unreachable_pub)]

#[path = "../../../criu-rs/tests/common/certs.rs"]
mod certs;
mod lab;
mod payload;
mod preflight;

mod check;
mod crit;
mod dump;
mod foreign;
mod links;
mod memory;
mod nonsense;
mod options;
mod programs;
mod restore;
mod terminal;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use libtest_mimic::{Arguments, Failed, Trial};

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
        foreign::TESTS,
        links::TESTS,
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
    let mut arguments = Arguments::from_args();
    // Tests wait for processes more than they compute.
    arguments.test_threads.get_or_insert(4);
    let mut trials = Vec::new();
    match lab::crius() {
        Ok(crius) => {
            for (version, criu) in crius {
                for (name, _) in all() {
                    let criu = criu.clone();
                    let run = move || run_apart(name, &criu);
                    trials.push(Trial::test(format!("{version}::{name}"), run));
                }
            }
        }
        Err(why) => trials.push(Trial::test("setup", move || Err(Failed::from(why)))),
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Runs a test in a process of its own, with a time limit.
fn run_apart(name: &str, criu: &PathBuf) -> Result<(), Failed> {
    let output = Command::new("timeout")
        .args(["--kill-after=5", "60"])
        .arg(std::env::current_exe()?)
        .args(["--one", name])
        .arg(criu)
        .stdin(Stdio::null())
        .output()?;
    if output.status.success() {
        return Ok(());
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Err(format!("{}\n{}{}", output.status, text(&output.stdout), text(&output.stderr)).into())
}
