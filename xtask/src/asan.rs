//! `cargo xtask asan`: tests with AddressSanitizer, which nightly Rust has.
//!
//! Overflow is checked by every test anyway: they are built without optimisation.

use std::process::Command;

use crate::criu::with_library;
use crate::steps::step;
use crate::{Result, process, setup, workspace};

/// Runs the tests.
pub(crate) fn run() -> Result<()> {
    setup::for_tests(false)?;
    find()?;
    check()
}

/// Looks for a nightly toolchain.
///
/// # Errors
/// If there is none.
pub(crate) fn find() -> Result<()> {
    let nightly = process::read(Command::new("rustup").args(["run", "nightly", "rustc", "-vV"]));
    nightly.map(drop).map_err(|error| {
        format!("AddressSanitizer is in nightly Rust: `rustup toolchain install nightly`\n{error}")
            .into()
    })
}

/// The tests of the files with `unsafe`, and of what reads input from outside.
pub(crate) fn check() -> Result<()> {
    let parts: [&[&str]; 2] = [
        &[
            "--package",
            "criu-images",
            "--features",
            "json,search,serde,tar",
            "--lib",
            "--test",
            "bounds",
            "--test",
            "check",
            "--test",
            "edit",
            "--test",
            "found",
            "--test",
            "hostile",
            "--test",
            "memory",
            "--",
            // It looks at the size of the address space, and the sanitizer reserves most of it.
            "--skip",
            "no_lie_makes_the_reader_reserve_much_memory",
        ],
        &[
            "--package",
            "criu-rs",
            "--features",
            "libcriu,oci,tls",
            "--lib",
            "--test",
            "fake",
            "--test",
            "pages",
            "--test",
            "tls",
            "--test",
            "libcriu",
        ],
    ];
    let rustc = process::read(Command::new("rustc").arg("-vV"))?;
    let host = rustc.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.ok_or("rustc does not name its host")?;
    for part in parts {
        let mut tests = Command::new("rustup");
        tests
            .args(["run", "nightly", "cargo", "test", "--target", host])
            .args(part)
            .current_dir(workspace::root())
            .env("CARGO_TARGET_DIR", workspace::target_dir())
            .env("RUSTFLAGS", "-Zsanitizer=address")
            // libcriu does not free all that it is given, see CONTRIBUTING.md.
            .env("ASAN_OPTIONS", "detect_leaks=0")
            // They name the toolchain that runs us.
            .env_remove("RUSTUP_TOOLCHAIN")
            .env_remove("CARGO");
        step(&format!("asan {}", part[1]), with_library(&mut tests))?;
    }
    Ok(())
}
