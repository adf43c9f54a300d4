//! Failures of restores, each provoked with a real CRIU: the cause, what it names, and the advice.

mod files;
mod images;
mod limits;
mod network;
mod outside;
mod rights;

use std::fs;
use std::path::{Path, PathBuf};

use criu_lab::names;
use criu_rs::{Cause, Criu, Dump, Error, Restore};

use crate::lab::{Lab, Target, TestFn};

pub fn tests() -> Vec<(&'static str, TestFn)> {
    [files::TESTS, images::TESTS, limits::TESTS, network::TESTS, outside::TESTS, rights::TESTS]
        .concat()
}

/// The expectation for a failed restore.
struct Expected<'a> {
    cause: Cause,
    /// A part of what the failure names. Empty if CRIU names nothing.
    seen: &'a str,
    /// A part of the advice.
    advice: &'a str,
}

/// Shortens the making of an expectation.
fn cause<'a>(cause: Cause, seen: &'a str, advice: &'a str) -> Expected<'a> {
    Expected { cause, seen, advice }
}

/// Asserts that a restore fails as expected, that a look foresees it, that the error is one line
/// with the advice, and that no process is left.
#[track_caller]
fn fails(criu: &Criu, restore: &Restore<'_>, expected: &Expected<'_>) -> Error {
    let report = restore.preflight(criu).unwrap();
    let error = restore.run(criu).unwrap_err();
    is_told(&error, expected);
    // A look does not see the rights and limits of a criu that is started through another program.
    let is_seen = !NOT_FORESEEN.contains(&expected.cause);
    assert!(report.foresees(expected.cause) || !is_seen, "{error}\n{report}");
    error
}

/// Causes that no look foresees, because the host does not tell (an open program file, too little
/// memory), because criu alone meets them here, or because the look names another cause (damaged
/// images).
const NOT_FORESEEN: &[Cause] = &[
    Cause::ProgramBusy,
    Cause::NoMemory,
    Cause::DiedInRestore,
    Cause::MissingCapability,
    Cause::CapabilityNotHeld,
    Cause::TooFewDescriptors,
];

#[track_caller]
fn is_told(error: &Error, expected: &Expected<'_>) {
    let failure = error.failure().unwrap_or_else(|| panic!("{error:#?}"));
    assert_eq!(failure.cause, Some(expected.cause), "{error}\n{failure:#?}");
    let seen = failure.seen.as_deref().unwrap_or_default();
    assert!(seen.contains(expected.seen), "{seen:?}: {failure:#?}");
    assert_eq!(seen.is_empty(), expected.seen.is_empty(), "{seen:?}: {failure:#?}");
    let text = error.to_string();
    assert!(text.contains(expected.advice) && !text.contains('\n'), "{text}");
    assert!(text.contains(expected.cause.hint()), "{text}");
    let message = failure.message.as_deref().unwrap_or_default();
    assert!(!message.contains("RLIMIT_NOFILE"), "{message}");
}

/// A process that was saved and has ended.
struct Saved {
    images: PathBuf,
}

/// Saves a process with the options that `set` sets, and ends it.
#[track_caller]
fn saved(lab: &Lab, mut target: Target, set: impl for<'a> FnOnce(Dump<'a>) -> Dump<'a>) -> Saved {
    let images = lab.fresh("images");
    let dump = set(Dump::new(target.pid, &images));
    dump.run(&lab.criu).unwrap_or_else(|error| panic!("{error}\n{:#?}", error.failure()));
    target.is_gone();
    Saved { images }
}

/// Saves a Python program that runs this code before it counts.
#[track_caller]
fn python(lab: &Lab, code: &str) -> Saved {
    saved(lab, lab.python(code), |dump| dump)
}

/// A path as Python has it.
fn quoted(path: &Path) -> String {
    format!("{:?}", path.to_str().unwrap())
}

/// A path as CRIU names it: from the root on, without the first slash.
fn from_root(path: &Path) -> &str {
    path.to_str().unwrap().trim_start_matches('/')
}

/// The only file in a directory with this beginning.
fn only(dir: &Path, beginning: &str) -> PathBuf {
    let all = names(dir);
    let mut found = all.iter().filter(|name| name.starts_with(beginning));
    let first = found.next().unwrap_or_else(|| panic!("{beginning}: {all:?}"));
    dir.join(first)
}

/// A path whose file is gone until this value is dropped.
struct Away {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl Away {
    fn take(path: PathBuf) -> Self {
        let bytes = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        Self { path, bytes }
    }
}

impl Drop for Away {
    fn drop(&mut self) {
        fs::write(&self.path, &self.bytes).unwrap();
    }
}
