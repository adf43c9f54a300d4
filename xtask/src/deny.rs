//! cargo-deny: licences, sources and known vulnerabilities of the dependencies. `deny.toml` says what is allowed.

use std::path::PathBuf;
use std::process::Command;

use crate::steps::step;
use crate::workspace::cargo;
use crate::{Result, process, workspace};

/// A cargo-deny that runs.
#[derive(Debug)]
pub(crate) struct Deny(PathBuf);

/// Finds one: installed, or in the target directory.
///
/// # Errors
/// If there is none.
pub(crate) fn find() -> Result<Deny> {
    let programs = [PathBuf::from("cargo-deny"), ours()];
    let runs = |program: &PathBuf| process::read(Command::new(program).arg("--version")).is_ok();
    programs.into_iter().find(runs).map(Deny).ok_or_else(|| {
        "cargo-deny is not installed: run `cargo install --locked cargo-deny`".into()
    })
}

/// Finds one, or puts one into the target directory, which takes minutes.
pub(crate) fn provide() -> Result<Deny> {
    find().or_else(|_| {
        let mut install = cargo(&["install", "--quiet", "--debug", "--locked", "--root"]);
        install.arg(folder()).arg(PACKAGE);
        step("cargo-deny", &mut install)?;
        find()
    })
}

impl Deny {
    /// Checks licences and sources of the workspace and of the fuzz targets; then what is known of vulnerabilities, unless
    /// that cannot be fetched and `all` is not asked for.
    pub(crate) fn check(&self, all: bool) -> Result<()> {
        for (name, manifest) in [("deny", "Cargo.toml"), ("deny fuzz", "fuzz/Cargo.toml")] {
            let mut deny = self.command(manifest);
            step(name, deny.args(["check", "bans", "licenses", "sources"]))?;
        }
        if !all {
            if let Err(reason) = process::read(self.command("Cargo.toml").args(["fetch", "db"])) {
                let reason = reason.to_string();
                let last = reason.trim_end().lines().last().unwrap_or_default();
                eprintln!("advisories left out: {last}");
                return Ok(());
            }
        }
        step("advisories", self.command("Cargo.toml").args(["check", "advisories"]))
    }

    fn command(&self, manifest: &str) -> Command {
        let mut command = Command::new(&self.0);
        command.arg("--manifest-path").arg(workspace::root().join(manifest)).arg("--locked");
        command.arg("--config").arg(workspace::root().join("deny.toml"));
        command
    }
}

/// Where ours is installed.
fn folder() -> PathBuf {
    workspace::target_dir().join("tools")
}

fn ours() -> PathBuf {
    folder().join("bin/cargo-deny")
}

/// The one that `deny.toml` is written for.
const PACKAGE: &str = "cargo-deny@0.20.2";
