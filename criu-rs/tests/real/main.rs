//! Tests against a real CRIU, on real processes. They need root, and the CRIUs that `cargo xtask
//! setup --tests` puts into `target/criu`.
//!
//! Each test runs in a process of its own, once with each CRIU: `4.3::dump_then_restore`. This
//! program is also the payloads that are dumped (`payload.rs`).

#![allow(clippy::unwrap_used, unreachable_pub)]

#[cfg(feature = "archive")]
mod archives;
mod container;
mod freezer;
mod lab;
mod lazy;
mod libcriu;
mod locks;
mod payload;

mod apparmor;
mod basics;
mod causes;
mod copies;
mod decoys;
mod descriptors;
#[cfg(feature = "instant")]
mod holders;
mod hooks;
#[cfg(feature = "instant")]
mod instant;
#[cfg(feature = "instant")]
mod instant_pages;
#[cfg(feature = "instant")]
mod instant_tasks;
mod labels;
mod lazy_sources;
mod namespaces;
mod network;
mod old;
mod pages;
mod places;
mod pod;
mod pre_dump;
mod preflight;
mod probe_cache;
mod requests;
mod restore_causes;
#[cfg(feature = "instant")]
mod scarce;
mod seccomp;
mod selinux;
mod service;
mod settings;
mod stopping;
mod stored;
#[cfg(feature = "tls")]
mod tls;
mod working_set;

use std::process::ExitCode;
use std::sync::RwLock;

use criu_lab::harness::{self, Trial};
use criu_lab::place;
use criu_rs::Criu;

use lab::{Lab, TestFn};

fn main() -> ExitCode {
    let payload = |words: &[String]| criu_lab::payload::run(words, payload::OWN);
    if harness::own_word(&all(), payload, Lab::new) { ExitCode::SUCCESS } else { run_all() }
}

fn all() -> Vec<(&'static str, TestFn)> {
    [
        labels::of_guest(),
        #[cfg(feature = "archive")]
        archives::TESTS,
        basics::TESTS,
        causes::TESTS,
        copies::TESTS,
        decoys::TESTS,
        descriptors::TESTS,
        #[cfg(feature = "instant")]
        holders::TESTS,
        hooks::TESTS,
        #[cfg(feature = "instant")]
        instant::TESTS,
        #[cfg(feature = "instant")]
        instant_pages::TESTS,
        #[cfg(feature = "instant")]
        instant_tasks::TESTS,
        labels::TESTS,
        lazy::TESTS,
        lazy_sources::TESTS,
        locks::TESTS,
        namespaces::TESTS,
        network::TESTS,
        pages::TESTS,
        places::TESTS,
        pod::TESTS,
        pre_dump::TESTS,
        &preflight::tests(),
        probe_cache::TESTS,
        requests::TESTS,
        &restore_causes::tests(),
        seccomp::TESTS,
        service::TESTS,
        settings::TESTS,
        stopping::TESTS,
        #[cfg(feature = "tls")]
        tls::TESTS,
        working_set::TESTS,
    ]
    .concat()
}

fn run_all() -> ExitCode {
    let mut trials = vec![Trial::test("what_libcriu_cannot_do_is_in_its_table", libcriu::table)];
    let crius = place::crius(|path| Criu::at(path).version());
    trials.extend(harness::with_each(crius, |version, criu| {
        let names = all().into_iter().map(|(name, _)| name);
        let names = names.filter(|name| libcriu::shows_something(name, version));
        let trial = |name| {
            let criu = criu.clone();
            let run = move || {
                let _cgroups = cgroups(name);
                let mut command = harness::one(name, &criu);
                command.envs(libcriu::environment(&criu));
                libcriu::expect(name, version, harness::finish(&mut command))
            };
            Trial::test(format!("{version}::{name}"), run)
        };
        names.map(trial).collect()
    }));
    harness::run(trials)
}

/// The lock of a test. A restore makes all cgroups again that were there at the dump, of other
/// tests too: so tests that make cgroups run alone.
fn cgroups(name: &str) -> impl Sized {
    static LOCK: RwLock<()> = RwLock::new(());
    let with_cgroups = [
        "a_freezer_is_thawed_after_a_dump_is_ended",
        "an_instant_capture_with_a_memory_limit_holds_what_fits",
        "preflight_foresees_a_missing_hierarchy",
    ];
    if pod::TESTS.iter().any(|test| test.0 == name) || with_cgroups.contains(&name) {
        (Some(LOCK.write().unwrap()), None)
    } else {
        (None, Some(LOCK.read().unwrap()))
    }
}
