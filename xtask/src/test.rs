//! `cargo xtask test`: all that must be green.

use std::env;
use std::process::Command;

use crate::criu::{EXPERIMENTAL, STABLE, folder, of_suite, with_library};
use crate::prefix::LINKED;
use crate::steps::{Plan, Step};
use crate::vm::Machine;
use crate::workspace::{BuiltTests, cargo, ourselves};
use crate::{Result, asan, demo, deny, features, msrv, package, process, session, setup};

/// The steps that are run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Extent {
    /// While working: format, lints and tests.
    Quick,
    /// Before a commit. On a person's machine, steps whose tools cannot be had are left out.
    Full,
    /// Before a release: nothing may be left out, and the demo is shown.
    Release,
}

/// Runs every step, or those that are named, whatever fails, and prints the failures at the end.
///
/// # Errors
/// If a step fails, a name is unknown, or the machine cannot run the tests.
pub(crate) fn run(extent: Extent, names: &[&str]) -> Result<()> {
    let plan = plan(extent).only(names)?;
    if !process::is_root() {
        return Err("the tests dump and restore processes, which takes root; \
                    these run without it: cargo test --lib"
            .into());
    }
    setup::for_tests(false)?;
    plan.run()
}

fn plan(extent: Extent) -> Plan {
    let mut plan = Plan::default();
    let mut first = vec![
        Step::new("fmt", cargo(&["fmt", "--all", "--check"])),
        Step::new("clippy", library(&[&["clippy"], ALL, LINTS].concat())),
        Step::new(BUILD, library(&[TESTS, &["--no-run"]].concat())),
        Step::new("test", tests()).needs(BUILD),
    ];
    if extent != Extent::Quick {
        first.extend(over_libcriu());
    }
    plan.stage(vec![first]);
    if extent != Extent::Quick {
        // The guests keep one processor busy, and so do a look at the dependencies, for which CI
        // builds a tool, and the fuzzer. Something else is compiled meanwhile.
        let mut guests = vec![extent.step("vm", machine).needs(BUILD)];
        guests.extend(dependencies(extent).into_iter().map(Step::gently));
        let mut fuzz = Command::new(ourselves());
        fuzz.args(["fuzz", "--ci"]);
        guests.push(Step::new("fuzz", fuzz).gently());
        let beside = beside(extent).into_iter().map(Step::gently).collect();
        plan.stage(vec![guests, beside]);
        plan.stage(vec![last(extent)]);
    }
    plan
}

/// The tests that `cargo test` runs, in a session of their own.
fn tests() -> Command {
    session::isolated(&library(&[TESTS, &["--no-fail-fast"]].concat()))
}

/// The tests of criu-rs with libcriu between it and CRIU: loaded, linked, and with each libcriu
/// linked statically.
fn over_libcriu() -> Vec<Step> {
    let shared = |name, way: &'static str| {
        let make = move || {
            // The program that the step `test` has run: cargo alone would build another one,
            // because a package alone wants fewer features of its dependencies than the workspace.
            let build = library(&[TESTS, &["--no-run"]].concat());
            let mut tests = BuiltTests::make(build)?.program("criu-rs", "real")?;
            Ok(session::isolated(with_library(&mut tests).env(WAY, way)))
        };
        Step::made(name, make).needs(BUILD)
    };
    let fixed = |name, suite| {
        let mut tests =
            cargo(&["test", "--package", "criu-rs", "--all-features", "--test", "real"]);
        let (library, criu) = (folder().join(suite).join(LINKED), of_suite(suite));
        tests.env("CRIU_LIB_DIR", library).env("CRIU_STATIC", "1");
        tests.env(WAY, "linked").env("CRIU_RS_TEST_CRIU", criu);
        Step::new(name, session::isolated(&tests)).needs(BUILD)
    };
    vec![
        shared("libcriu loaded", "loaded"),
        shared("libcriu linked", "linked"),
        fixed("libcriu.a trixie", STABLE),
        fixed("libcriu.a experimental", EXPERIMENTAL),
    ]
}

/// The steps that compile more than they test, and mind no other work on the machine. The first
/// ones have target directories of their own, so that the build of `vm` does not wait for them.
fn beside(extent: Extent) -> Vec<Step> {
    let mut doc = library(&[&["doc", "--no-deps"], &ALL[..2]].concat());
    doc.env("RUSTDOCFLAGS", "-D warnings");
    let mut steps = features::steps();
    steps.extend([
        extent.step("msrv", || Ok(msrv::command(&msrv::find()?))),
        extent.step("asan build criu-images", || asan::IMAGES.command(true)),
        extent.step("asan build criu-rs", || asan::CRIU_RS.command(true)),
        Step::new("doc", doc),
        Step::made("package", package::command),
        package::semver(is_ci(extent)),
    ]);
    steps
}

/// The steps that have the machine for themselves again.
fn last(extent: Extent) -> Vec<Step> {
    let mut steps = vec![
        extent.step("asan criu-images", || asan::IMAGES.command(false)),
        extent.step("asan criu-rs", || asan::CRIU_RS.command(false)),
    ];
    if extent == Extent::Release {
        steps.push(Step::made("demo", demo::as_step));
    }
    steps
}

/// The virtual machines, in a process of their own.
fn machine() -> Result<Command> {
    Machine::provide()?;
    let mut vm = Command::new(ourselves());
    vm.arg("vm");
    Ok(vm)
}

/// Licences and sources of the dependencies, and known vulnerabilities. In CI, cargo-deny is
/// installed if it is missing.
fn dependencies(extent: Extent) -> Vec<Step> {
    let in_ci = is_ci(extent);
    let mut steps = Vec::new();
    if in_ci && deny::find().is_err() {
        steps.push(Step::new("cargo-deny", deny::install()));
    }
    let check = |name, manifest| {
        let make = move || deny::check(manifest);
        if in_ci { Step::made(name, make) } else { Step::optional(name, make) }
    };
    steps.push(check("deny", "Cargo.toml"));
    steps.push(check("deny fuzz", "fuzz/Cargo.toml"));
    steps.push(match extent {
        Extent::Release => Step::made("advisories", || deny::advisories(false)),
        _ => Step::optional("advisories", || deny::advisories(true)),
    });
    steps
}

/// Tells if no step may be left out because a tool is missing.
fn is_ci(extent: Extent) -> bool {
    env::var_os("CI").is_some() || extent == Extent::Release
}

/// `cargo ARGS` with the libcriu of the tests.
fn library(args: &[&str]) -> Command {
    let mut command = cargo(args);
    with_library(&mut command);
    command
}

/// The step that builds the tests.
const BUILD: &str = "build";

/// All packages with all they have.
const ALL: &[&str] = &["--workspace", "--all-features", "--all-targets"];

const LINTS: &[&str] = &["--", "-D", "warnings"];

const TESTS: &[&str] = &["test", "--workspace", "--all-features"];

/// The environment variable that tells tests how to reach CRIU.
const WAY: &str = "CRIU_RS_TEST_LIBCRIU";

impl Extent {
    /// Makes a step that is left out on a person's machine if its command cannot be made.
    fn step(
        self,
        name: &'static str,
        make: impl FnOnce() -> Result<Command> + Send + 'static,
    ) -> Step {
        if self == Self::Full && env::var_os("CI").is_none() {
            Step::optional(name, make)
        } else {
            Step::made(name, make)
        }
    }
}
