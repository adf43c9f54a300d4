//! `cargo xtask asan`: tests with AddressSanitizer, which nightly Rust has.
//!
//! Overflow is checked by every test anyway: they are built without optimisation.

use std::process::Command;

use crate::criu::with_library;
use crate::steps::step;
use crate::{Result, process, setup, workspace};

/// Tests of a package that run with AddressSanitizer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    package: &'static str,
    features: &'static str,
    /// The integration tests. The unit tests run, too.
    tests: &'static [&'static str],
    /// The tests that are left out: those with one of these words in their names.
    skipped: &'static [&'static str],
}

/// The tests of criu-images, which read input from outside.
pub(crate) const IMAGES: Part = Part {
    package: "criu-images",
    features: "json,search,serde",
    tests: &["bounds", "check", "edit", "found", "hostile", "memory"],
    // It looks at the size of the address space, and the sanitizer reserves most of it.
    skipped: &["no_lie_makes_the_reader_reserve_much_memory"],
};

/// The tests of criu-rs that run without CRIU.
pub(crate) const CRIU_RS: Part = Part {
    package: "criu-rs",
    features: "libcriu,oci,tls",
    tests: &["fake", "pages", "tls", "libcriu"],
    // A guard unmaps all memory that is not its own, and with it that of the sanitizer.
    skipped: &["guard::"],
};

/// Runs the tests.
pub(crate) fn run() -> Result<()> {
    setup::for_tests(false)?;
    for part in [IMAGES, CRIU_RS] {
        step(&format!("asan {}", part.package), &mut part.command(false)?)?;
    }
    Ok(())
}

impl Part {
    /// Makes the command that builds the tests, and runs them unless `only_build` is set.
    ///
    /// # Errors
    /// If there is no nightly toolchain.
    pub(crate) fn command(self, only_build: bool) -> Result<Command> {
        let nightly = Command::new("rustup").args(["run", "nightly", "rustc", "-vV"]).output();
        let version = nightly.ok().filter(|output| output.status.success()).ok_or(
            "AddressSanitizer is in nightly Rust: `rustup toolchain install nightly` brings it",
        )?;
        let version = process::said(&version);
        let host = version.lines().find_map(|line| line.strip_prefix("host: "));
        let host = host.ok_or("rustc does not name its host")?;
        let mut tests = Command::new("rustup");
        tests
            .args(["run", "nightly", "cargo", "test", "--target", host])
            .args(["--package", self.package, "--features", self.features, "--lib"])
            .args(self.tests.iter().flat_map(|test| ["--test", test]))
            .current_dir(workspace::root())
            .env("CARGO_TARGET_DIR", workspace::target_dir())
            .env("RUSTFLAGS", "-Zsanitizer=address")
            // libcriu does not free all that it is given, see CONTRIBUTING.md.
            .env("ASAN_OPTIONS", "detect_leaks=0")
            // They name the toolchain that runs us.
            .env_remove("RUSTUP_TOOLCHAIN")
            .env_remove("CARGO");
        if only_build {
            tests.arg("--no-run");
        } else {
            tests.arg("--").args(self.skipped.iter().flat_map(|test| ["--skip", test]));
        }
        with_library(&mut tests);
        Ok(tests)
    }
}
