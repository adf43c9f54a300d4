//! Tests against a real CRIU, on real processes. They need root, and a CRIU under `target/criu`,
//! where `cargo xtask setup --tests` puts them.
//!
//! Each test runs in a process of its own, once with each CRIU: `4.3::dump_then_restore`. The same
//! binary is also the programs that are dumped (`payload.rs`).

#![allow(clippy::unwrap_used, unreachable_pub)]

#[cfg(feature = "tls")]
#[path = "../../../lab/src/certs.rs"]
mod certs;
mod container;
#[path = "../../../lab/src/filter.rs"]
mod filter;
mod freezer;
mod lab;
mod lazy;
mod libcriu;
mod payload;
#[path = "../../../lab/src/rootfs.rs"]
mod rootfs;

mod apparmor;
mod basics;
mod causes;
mod hooks;
mod labels;
mod namespaces;
mod network;
mod old;
mod pages;
mod pod;
mod pre_dump;
mod preflight;
mod probe_cache;
mod requests;
mod seccomp;
mod selinux;
mod service;
mod stopping;
#[cfg(feature = "tls")]
mod tls;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::RwLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

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
        labels::of_guest(),
        basics::TESTS,
        causes::TESTS,
        hooks::TESTS,
        labels::TESTS,
        lazy::TESTS,
        namespaces::TESTS,
        network::TESTS,
        pages::TESTS,
        pod::TESTS,
        pre_dump::TESTS,
        &preflight::tests(),
        probe_cache::TESTS,
        requests::TESTS,
        seccomp::TESTS,
        service::TESTS,
        stopping::TESTS,
        #[cfg(feature = "tls")]
        tls::TESTS,
    ]
    .concat()
}

fn run_all() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Tests wait for processes more than they compute.
    arguments.test_threads.get_or_insert(4);
    let mut trials = vec![Trial::test("what_libcriu_cannot_do_is_in_its_table", libcriu::table)];
    match lab::crius() {
        Ok(crius) => {
            for (version, criu) in crius {
                let named = all().into_iter().map(|(name, _)| name);
                for name in named.filter(|name| libcriu::shows_something(name, version)) {
                    let criu = criu.clone();
                    let run = move || {
                        let _cgroups = cgroups(name);
                        libcriu::expect(name, version, run_apart(name, &criu))
                    };
                    trials.push(Trial::test(format!("{version}::{name}"), run));
                }
            }
        }
        Err(why) => trials.push(Trial::test("setup", move || Err(Failed::from(why)))),
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// A restore makes all cgroups again that were there at the dump, of other tests too: those that make some run alone.
fn cgroups(name: &str) -> impl Sized {
    static LOCK: RwLock<()> = RwLock::new(());
    let with_freezer =
        ["a_freezer_is_thawed_after_a_dump_is_ended", "preflight_foresees_a_missing_hierarchy"];
    match pod::TESTS.iter().any(|test| test.0 == name) || with_freezer.contains(&name) {
        true => (Some(LOCK.write().unwrap()), None),
        false => (None, Some(LOCK.read().unwrap())),
    }
}

/// Runs a test in a process of its own, with a time limit.
fn run_apart(name: &str, criu: &PathBuf) -> Result<(), Failed> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    // Not a pipe: what a test that is killed leaves behind would keep it open.
    let file = format!("said-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(file);
    let said = File::create(&path)?;
    let status = Command::new("timeout")
        .args(["--kill-after=5", &TIME_LIMIT.as_secs().to_string()])
        .arg(std::env::current_exe()?)
        .args(["--one", name])
        .arg(criu)
        .envs(libcriu::environment(criu))
        .stdin(Stdio::null())
        .stdout(said.try_clone()?)
        .stderr(said)
        .status()?;
    let text = String::from_utf8_lossy(&fs::read(&path)?).into_owned();
    fs::remove_file(&path)?;
    if status.success() { Ok(()) } else { Err(format!("{status}\n{text}").into()) }
}

/// The longest test takes some seconds.
const TIME_LIMIT: Duration = Duration::from_secs(90);
