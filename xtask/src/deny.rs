//! cargo-deny: licences, sources and known vulnerabilities of the dependencies. `deny.toml` says
//! what is allowed.

use std::path::PathBuf;
use std::process::Command;

use crate::workspace::cargo;
use crate::{Result, process, workspace};

/// Finds a cargo-deny that runs: on PATH, or in the target directory.
///
/// # Errors
/// If there is none.
pub(crate) fn find() -> Result<PathBuf> {
    let programs = [PathBuf::from("cargo-deny"), ours()];
    let runs = |program: &PathBuf| process::read(Command::new(program).arg("--version")).is_ok();
    programs.into_iter().find(runs).ok_or_else(|| {
        "cargo-deny is not installed: `cargo install --locked cargo-deny` brings it".into()
    })
}

/// Makes the command that puts a cargo-deny into the target directory, which takes minutes.
pub(crate) fn install() -> Command {
    let mut install = cargo(&["install", "--quiet", "--debug", "--locked", "--root"]);
    install.arg(folder()).arg(PACKAGE);
    install
}

/// Makes the command that checks licences and sources of the workspace with this manifest.
///
/// # Errors
/// If cargo-deny is not there.
pub(crate) fn check(manifest: &str) -> Result<Command> {
    let mut deny = command(manifest)?;
    deny.args(["check", "bans", "licenses", "sources"]);
    Ok(deny)
}

/// Makes the command that looks for known vulnerabilities.
///
/// # Errors
/// If cargo-deny is not there, or `fetch` is set and the list cannot be fetched.
pub(crate) fn advisories(fetch: bool) -> Result<Command> {
    if fetch {
        process::read(command("Cargo.toml")?.args(["fetch", "db"])).map_err(|reason| {
            let reason = reason.to_string();
            reason.trim_end().lines().last().unwrap_or_default().trim().to_owned()
        })?;
    }
    let mut deny = command("Cargo.toml")?;
    deny.args(["check", "advisories"]);
    Ok(deny)
}

fn command(manifest: &str) -> Result<Command> {
    let mut command = Command::new(find()?);
    command.arg("--manifest-path").arg(workspace::root().join(manifest)).arg("--locked");
    command.arg("--config").arg(workspace::root().join("deny.toml"));
    Ok(command)
}

/// The folder of a cargo-deny that we install.
fn folder() -> PathBuf {
    workspace::target_dir().join("tools")
}

fn ours() -> PathBuf {
    folder().join("bin/cargo-deny")
}

/// The release that `deny.toml` is written for.
const PACKAGE: &str = "cargo-deny@0.20.2";
