//! The page server under attack: another user, or a user who may connect, tries to read, write, end
//! and starve a server that takes honest dumps.
//!
//! `cargo test` runs a short form. `cargo xtask attack` measures 16 dumps beside 1,000 hostile
//! connections. Both need root and the CRIUs of `cargo xtask setup --tests`.

#![allow(clippy::unwrap_used, unreachable_pub)]

mod attack;
mod measure;
mod scene;
mod trials;

use std::process::ExitCode;

use criu_lab::harness::{self, Trial};
use criu_lab::{payload, place};
use criu_rs::Criu;

use scene::Scene;

fn main() -> ExitCode {
    if harness::own_word(trials::ALL, |words| payload::run(words, &[]), Scene::new) {
        return ExitCode::SUCCESS;
    }
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.first().is_some_and(|word| word == "--measure") {
        return measure::run(&words[1..]);
    }
    // The newest one is enough: who attacks does not care which CRIU dumps.
    let newest = place::crius(|path| Criu::at(path).version())
        .map(|all| all.into_iter().max_by_key(|(version, _)| *version).into_iter().collect());
    harness::run(harness::with_each(newest, |version, criu: std::path::PathBuf| {
        let trial = |name: &'static str| {
            let criu = criu.clone();
            let run = move || harness::finish(&mut harness::one(name, &criu));
            Trial::test(format!("{version}::{name}"), run)
        };
        trials::ALL.iter().map(|(name, _)| trial(name)).collect()
    }))
}
