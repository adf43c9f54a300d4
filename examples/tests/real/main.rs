//! The built programs, run on real processes. The tests need root, and the CRIUs that `cargo xtask
//! setup --tests` puts into `target/criu`.
//!
//! Each test runs in a process of its own, once with each CRIU: `4.3::dump_and_restore`. This
//! program is also the process that is dumped (`payload.rs`).

#![allow(clippy::unwrap_used, unreachable_pub)]

mod lab;
mod payload;
mod preflight;

mod anonymise;
mod archive;
mod archive_create;
mod check;
mod confine;
mod coordinator;
mod crit;
mod descriptors;
mod dump;
mod foreign;
mod inspect;
mod inspected;
mod instant;
mod instant_archive;
mod keeper;
mod lazy_pages;
mod lazy_peers;
mod links;
mod marks;
mod memory;
mod modes;
mod nonsense;
mod options;
mod output;
mod places;
mod pod;
mod programs;
mod registry;
mod restore;
mod shipped;
mod start;
mod terminal;
mod working_set;

use std::process::ExitCode;

use criu_lab::harness::{self, Trial};
use criu_lab::place;
use criu_rs::Criu;

use lab::{Lab, TestFn};

fn main() -> ExitCode {
    if harness::own_word(&all(), payload::run, Lab::new) { ExitCode::SUCCESS } else { run_all() }
}

fn all() -> Vec<(&'static str, TestFn)> {
    [
        anonymise::TESTS,
        archive::TESTS,
        archive_create::TESTS,
        check::TESTS,
        confine::TESTS,
        coordinator::TESTS,
        preflight::TESTS,
        crit::TESTS,
        descriptors::TESTS,
        dump::TESTS,
        foreign::TESTS,
        inspect::TESTS,
        inspected::TESTS,
        instant::TESTS,
        instant_archive::TESTS,
        keeper::TESTS,
        lazy_pages::TESTS,
        lazy_peers::TESTS,
        links::TESTS,
        marks::TESTS,
        memory::TESTS,
        modes::TESTS,
        nonsense::TESTS,
        options::TESTS,
        output::TESTS,
        registry::TESTS,
        places::TESTS,
        pod::TESTS,
        programs::TESTS,
        restore::TESTS,
        shipped::TESTS,
        start::TESTS,
        terminal::TESTS,
        working_set::TESTS,
    ]
    .concat()
}

fn run_all() -> ExitCode {
    let crius = place::crius(|path| Criu::at(path).version());
    harness::run(harness::with_each(crius, |version, criu| {
        let trial = |name| {
            let criu = criu.clone();
            let run = move || harness::finish(&mut harness::one(name, &criu));
            Trial::test(format!("{version}::{name}"), run)
        };
        all().into_iter().map(|(name, _)| trial(name)).collect()
    }))
}
