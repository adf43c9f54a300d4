//! Instant captures of real processes with real CRIUs. The tests need root, and the CRIUs that
//! `cargo xtask setup --tests` puts into `target/criu`.
//!
//! Each test runs in a sandbox with process ids of its own: `4.3::soak`. This program is also the
//! processes that are captured (`criu_lab::generations`).
//!
//! With `--soak [DUMPS] [SEED]` or `--faults [ROUNDS] [SEED]` the program does as many rounds as it
//! is told, which `cargo xtask instant` calls.

#![allow(clippy::unwrap_used, unreachable_pub)]

mod control;
mod faults;
mod flags;
mod identity;
mod into;
mod kinds;
mod lab;
mod series;
mod soak;
#[path = "../real/stored.rs"]
mod stored;

use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use criu_lab::cgroups::Layout;
use criu_lab::harness::{self, Failed, TIME_LIMIT, Trial};
use criu_lab::{place, sandbox};
use criu_rs::Criu;

use lab::{Lab, TestFn};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    match words.get(1).map_or("", String::as_str) {
        "--apart" => apart(&words[2..]),
        "--drive" => faults::drive(&words[2..]),
        "--series" => series::drive(&words[2..]),
        sandbox::FIRST => return sandbox::first(&words[2], &words[3..]),
        "--soak" | "--faults" => return long(&words[1..]),
        "--long" => return long_inside(&words[2..]),
        _ => {
            let own = [kinds::PAYLOADS, criu_lab::advice::PAYLOADS];
            let payloads = [own.concat(), criu_lab::generations::PAYLOADS.to_vec()].concat();
            let payload = |words: &[String]| criu_lab::payload::run(words, &payloads);
            if !harness::own_word(&all(), payload, Lab::new) {
                return run_all();
            }
        }
    }
    ExitCode::SUCCESS
}

fn all() -> Vec<(&'static str, TestFn)> {
    [
        control::TESTS,
        faults::TESTS,
        flags::TESTS,
        identity::TESTS,
        into::TESTS,
        kinds::TESTS,
        series::TESTS,
        soak::TESTS,
    ]
    .concat()
}

fn run_all() -> ExitCode {
    let crius = place::crius(|path| Criu::at(path).version());
    let trials = harness::with_each(crius, |version, criu| {
        let trial = |(name, _): (&'static str, TestFn)| {
            let criu = criu.display().to_string();
            let run = move || run_apart(TIME_LIMIT, &["--one", name, &criu]);
            Trial::test(format!("{version}::{name}"), run)
        };
        all().into_iter().map(trial).collect()
    });
    harness::run(trials)
}

/// Runs this program with other words in a sandbox.
fn run_apart(limit: Duration, words: &[&str]) -> Result<(), Failed> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--apart", &limit.as_millis().to_string()]).args(words);
    harness::finish(&mut command)
}

/// The process that waits outside of the sandbox.
fn apart(words: &[String]) {
    let limit = Duration::from_millis(words[0].parse().unwrap());
    if std::env::var_os("TMPDIR").is_none() {
        // A place of its own for temporary files: others' come and go.
        let temporary = place::Short::folder();
        let mut again = Command::new(std::env::current_exe().unwrap());
        again.arg("--apart").args(words).env("TMPDIR", temporary.path());
        let status = again.stdin(std::process::Stdio::null()).status().unwrap();
        drop(temporary);
        std::process::exit(status.code().unwrap_or(1));
    }
    if let Err(error) = sandbox::run(&words[1..], Layout::Machine, limit) {
        eprintln!("{error}");
        std::process::exit(1);
    }
}

/// `--soak [DUMPS] [SEED]` and `--faults [ROUNDS] [SEED]`, with each CRIU.
fn long(words: &[String]) -> ExitCode {
    let crius = match place::crius(|path| Criu::at(path).version()) {
        Ok(crius) => crius,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let mut code = ExitCode::SUCCESS;
    for (version, criu) in crius {
        println!("CRIU {version}");
        let limit = LONG.as_millis().to_string();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--apart", &limit, "--long"]).arg(criu).args(words);
        command.stdin(std::process::Stdio::null());
        if !command.status().is_ok_and(|status| status.success()) {
            code = ExitCode::FAILURE;
        }
    }
    code
}

/// `CRIU --soak|--faults [NUMBER] [SEED]`, in the sandbox.
fn long_inside(words: &[String]) -> ExitCode {
    criu_lab::process::prepare();
    let lab = Lab::new(Path::new(&words[0]), "long".into());
    let number = |n: usize| words.get(n).and_then(|word| word.parse::<u64>().ok());
    let seed = number(3).unwrap_or(1);
    let result = if words[1] == "--soak" {
        soak::run(&lab, number(2).unwrap_or(300), seed).map(|table| table.to_string())
    } else {
        faults::run(&lab, number(2).unwrap_or(500), seed).map(|table| table.to_string())
    };
    match result {
        Ok(table) => {
            println!("{table}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            println!("{why}");
            ExitCode::FAILURE
        }
    }
}

/// 500 rounds take some minutes.
const LONG: Duration = Duration::from_secs(3600);
