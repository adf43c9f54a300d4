//! `cargo xtask test`: all that must be green.

use std::env;
use std::process::Command;

use crate::criu::{EXPERIMENTAL, STABLE, folder, of_suite, with_library};
use crate::prefix::LINKED;
use crate::steps::step;
use crate::vm::Machine;
use crate::workspace::cargo;
use crate::{Result, asan, deny, msrv, process, session, setup};

/// How much is run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Extent {
    /// While working: without the documentation, the virtual machine and the MSRV.
    Quick,
    /// Before a commit. The virtual machine and the MSRV are left out where they cannot be had.
    Full,
    /// Before a release: nothing may be left out.
    Release,
}

/// Runs every step, up to the first that fails.
pub(crate) fn run(extent: Extent) -> Result<()> {
    if !process::is_root() {
        return Err("the tests dump and restore processes, which takes root; \
                    what runs without: cargo test --lib"
            .into());
    }
    setup::for_tests(false)?;
    step("fmt", &mut cargo(&["fmt", "--all", "--check"]))?;
    let clippy =
        ["clippy", "--workspace", "--all-features", "--all-targets", "--", "-D", "warnings"];
    step("clippy", with_library(&mut cargo(&clippy)))?;
    if extent != Extent::Quick {
        let mut doc = cargo(&["doc", "--workspace", "--all-features", "--no-deps"]);
        step("doc", with_library(doc.env("RUSTDOCFLAGS", "-D warnings")))?;
    }
    let mut tests = cargo(&["test", "--workspace", "--all-features", "--no-fail-fast"]);
    step("test", &mut session::isolated(with_library(&mut tests)))?;
    if extent == Extent::Quick {
        return Ok(());
    }
    dependencies(extent)?;
    over_libcriu()?;
    step("fuzz", Command::new("/proc/self/exe").args(["fuzz", "--ci"]))?;
    // Not every machine can do the others.
    let vm = Machine::provide().map(|_| ());
    if extent.wants("vm", vm)?.is_some() {
        step("vm", Command::new("/proc/self/exe").arg("vm"))?;
    }
    if extent.wants("asan", asan::find())?.is_some() {
        asan::check()?;
    }
    match extent.wants("msrv", msrv::find())? {
        Some(toolchain) => msrv::check(&toolchain),
        None => Ok(()),
    }
}

/// What the dependencies are; with cargo-deny, which is left out where it cannot be had, but for a release.
fn dependencies(extent: Extent) -> Result<()> {
    let in_ci = env::var_os("CI").is_some() || extent == Extent::Release;
    match if in_ci { deny::provide() } else { deny::find() } {
        Ok(deny) => deny.check(extent == Extent::Release),
        Err(reason) if extent == Extent::Release => Err(reason),
        Err(reason) => {
            eprintln!("deny       left out: {reason}");
            Ok(())
        }
    }
}

/// The tests of criu-rs with libcriu between it and CRIU: loaded, linked, and with each libcriu linked statically.
fn over_libcriu() -> Result<()> {
    let real = ["test", "--package", "criu-rs", "--all-features", "--test", "real"];
    for way in ["loaded", "linked"] {
        let mut tests = cargo(&real);
        with_library(&mut tests).env(WAY, way);
        step(&format!("libcriu {way}"), &mut session::isolated(&tests))?;
    }
    for suite in [STABLE, EXPERIMENTAL] {
        let mut tests = cargo(&real);
        let (library, criu) = (folder().join(suite).join(LINKED), of_suite(suite));
        tests.env("CRIU_LIB_DIR", library).env("CRIU_STATIC", "1");
        tests.env(WAY, "linked").env("CRIU_RS_TEST_CRIU", criu);
        step(&format!("libcriu.a {suite}"), &mut session::isolated(&tests))?;
    }
    Ok(())
}

/// How tests reach CRIU.
const WAY: &str = "CRIU_RS_TEST_LIBCRIU";

impl Extent {
    /// What a step needs, or nothing where that cannot be had and the step may be left out: on a
    /// person's machine.
    fn wants<T>(self, step: &str, found: Result<T>) -> Result<Option<T>> {
        match found {
            Ok(found) => Ok(Some(found)),
            Err(reason) if self == Self::Full && env::var_os("CI").is_none() => {
                eprintln!("{step:10} left out: {reason}");
                Ok(None)
            }
            Err(reason) => Err(reason),
        }
    }
}
