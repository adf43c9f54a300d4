//! `cargo xtask msrv`: a check of the workspace with the oldest Rust that it promises to build
//! with.

use std::process::Command;

use crate::apt::Archive;
use crate::prefix::Prefix;
use crate::steps::step;
use crate::{Result, criu, process, setup, workspace};

/// A cargo of exactly the MSRV.
#[derive(Debug)]
pub(crate) enum Toolchain {
    /// The name of a toolchain in rustup.
    Rustup(String),
    /// Debian's packages, unpacked.
    Debian(Prefix),
}

/// Checks the workspace with the toolchain that [`find`] finds.
pub(crate) fn run() -> Result<()> {
    setup::for_tests(false)?;
    step("msrv", &mut command(&find()?))
}

/// Finds a toolchain: rustup's if it has the version, else Debian's.
///
/// # Errors
/// If rustup does not have it and Debian's cannot be installed.
pub(crate) fn find() -> Result<Toolchain> {
    if let Ok(list) = process::read(Command::new("rustup").args(["toolchain", "list"])) {
        if let Some(name) = in_rustup(&list) {
            return Ok(Toolchain::Rustup(name.into()));
        }
    }
    debian().map_err(|error| {
        format!(
            "Rust {MSRV} is not installed: `rustup toolchain install {MSRV} --profile minimal` \
             brings it; Debian's cannot be used: {error}"
        )
        .into()
    })
}

/// Makes the command that checks everything, tests included, in a target directory of its own.
pub(crate) fn command(toolchain: &Toolchain) -> Command {
    let mut cargo = match toolchain {
        Toolchain::Rustup(name) => {
            let mut rustup = Command::new("rustup");
            rustup.args(["run", name, "cargo"]);
            rustup
        }
        Toolchain::Debian(prefix) => {
            let mut cargo = Command::new(prefix.dir.join("usr/bin/cargo"));
            cargo.env("RUSTC", prefix.dir.join("usr/bin/rustc"));
            cargo
        }
    };
    cargo
        .args(["check", "--workspace", "--all-targets", "--all-features", "--locked"])
        .current_dir(workspace::root())
        .env("CARGO_TARGET_DIR", workspace::target_dir().join("msrv"));
    criu::with_library(&mut cargo);
    cargo
}

/// Finds the first toolchain of the MSRV in `rustup toolchain list`.
fn in_rustup(list: &str) -> Option<&str> {
    list.lines().filter_map(|line| line.split_whitespace().next()).find(|name| is_msrv(name))
}

/// Finds or unpacks Debian's rustc and cargo, which need the machine's own linker.
fn debian() -> Result<Toolchain> {
    let prefix = Prefix {
        dir: workspace::target_dir().join("toolchain").join(SUITE),
        packages: &["rustc", "cargo"],
        programs: &["usr/bin/rustc", "usr/bin/cargo"],
        libraries: &[],
    };
    if !prefix.is_installed() {
        eprintln!("{SUITE}: Rust {MSRV} of Debian takes some 120 MB");
        prefix.install(&Archive::debian(&[SUITE])?, false)?;
    }
    let rustc = prefix.dir.join("usr/bin/rustc");
    let version = process::read(Command::new(rustc).arg("--version"))?;
    match version.split_whitespace().nth(1) {
        Some(number) if is_msrv(number) => Ok(Toolchain::Debian(prefix)),
        _ => Err(format!("{SUITE} has {}", version.trim()).into()),
    }
}

/// Tells if a version or toolchain name (`1.85.1`, `1.85-x86_64-unknown-linux-gnu`) has the MSRV.
fn is_msrv(name: &str) -> bool {
    name.strip_prefix(MSRV).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '-']))
}

/// `rust-version` of the workspace.
const MSRV: &str = env!("CARGO_PKG_RUST_VERSION");

/// The Debian suite whose rustc is the MSRV.
const SUITE: &str = "trixie";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_toolchain_of_the_msrv_is_found_by_name() {
        let list =
            |name: &str| format!("stable-x86_64-unknown-linux-gnu (active, default)\n{name}\n");
        for name in [
            format!("{MSRV}-x86_64-unknown-linux-gnu"),
            format!("{MSRV}.1-x86_64-unknown-linux-gnu"),
        ] {
            assert_eq!(in_rustup(&list(&format!("{name} (override)"))), Some(&*name));
        }
        assert_eq!(in_rustup(&list(&format!("{MSRV}0-x86_64-unknown-linux-gnu"))), None);
        assert_eq!(in_rustup("no installed toolchains\n"), None);
    }
}
