//! Lazy restores of an oracle, a process that knows what each page of its memory has to hold.
//!
//! `cargo test` restores it from every source with each CRIU while its threads touch, discard and
//! move pages. `cargo xtask lazy` measures, and `cargo xtask lazy --faults` kills daemons, servers
//! and tasks. All need root and the CRIUs of `cargo xtask setup --tests`.

#![allow(clippy::unwrap_used, unreachable_pub)]

mod carried;
mod copies;
mod daemon;
mod faults;
mod handler;
mod measure;
mod scene;
mod source;
mod trials;

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use criu_lab::harness::{self, Trial};
use criu_lab::payload::{self, Payload};
use criu_lab::{oracle, place};
use criu_rs::{Criu, Version};

use scene::Scene;

/// The version of CRIU that made its headers of pages larger.
const OLD: Version = Version::new(4, 2, 0);

/// The process that is restored.
const PAYLOADS: &[Payload] = &[("oracle", oracle::run)];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let rest = words.get(1..).unwrap_or_default();
    match words.first().map(String::as_str) {
        Some(copies::INIT) => return copies::init(rest),
        Some(daemon::DAEMON) => return daemon::run(rest),
        Some(source::SERVE) => return source::serve(rest),
        Some("--faults") => return faults::run(rest),
        Some("--measure") => return measure::run(rest),
        Some(measure::SPIN) => measure::spin(rest),
        _ => {}
    }
    if harness::own_word(trials::ALL, |words| payload::run(words, PAYLOADS), Scene::new) {
        return ExitCode::SUCCESS;
    }
    let crius = place::crius(|path| Criu::at(path).version());
    let mut trials = harness::with_each(crius, |version, criu: PathBuf| {
        let trial = |name: &'static str| {
            let criu = criu.clone();
            let run = move || harness::finish(&mut harness::one(name, &criu));
            Trial::test(format!("{version}::{name}"), run)
        };
        let is_old = version < OLD;
        let names = trials::ALL.iter().map(|(name, _)| *name);
        names.filter(|name| trials::is_wanted(name, is_old)).map(trial).collect()
    });
    trials.push(Trial::test("whoever_is_killed_no_page_is_wrong", || {
        let mut rounds = Command::new("timeout");
        rounds.args(["--kill-after=5", "80"]).arg(std::env::current_exe()?);
        // Each victim once with each CRIU.
        harness::finish(rounds.args(["--faults", "10", "1"]))
    }));
    harness::run(trials)
}
