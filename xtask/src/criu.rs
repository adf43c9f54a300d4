//! Which `criu` will do.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, iter};

use crate::prefix::LINKED;
use crate::process::{self, finish, said};
use crate::version::Version;
use crate::{Result, workspace};

/// The oldest CRIU that setup accepts: the first whose RPC has every option of 4.1.1. On kernels
/// since 6.13 it takes 4.1, but that `criu check` finds out.
const OLDEST: Version = Version(3, 19, 0);

/// A `criu` that does what is asked of it.
#[derive(Debug)]
pub(crate) struct Criu {
    pub(crate) path: PathBuf,
    pub(crate) version: Version,
    /// Whether the kernel was checked as well, which takes root.
    pub(crate) is_checked: bool,
}

impl Criu {
    /// Tries one: it starts, it is new enough, and it works on this kernel.
    ///
    /// # Errors
    /// Why it will not do, for a person who has it installed.
    pub(crate) fn judge(path: &Path) -> Result<Self> {
        let version = version(path)?;
        let show = path.display();
        if version < OLDEST {
            return Err(format!("{show} is CRIU {version}, older than {OLDEST}").into());
        }
        let check = finish(Command::new(path).arg("check"))?;
        let is_checked = check.status.success();
        if !is_checked && process::is_root() {
            return Err(format!(
                "{show} (CRIU {version}) does not work here, `criu check` says:\n{}",
                process::indent(&said(&check))
            )
            .into());
        }
        Ok(Self { path: path.into(), version, is_checked })
    }
}

/// The version of the `criu` at `path`.
pub(crate) fn version(path: &Path) -> Result<Version> {
    let output = process::read(Command::new(path).arg("--version"))
        .map_err(|error| format!("{} does not start: {error}", path.display()))?;
    Version::parse(&output)
        .ok_or_else(|| format!("{} is no CRIU: --version says {output:?}", path.display()).into())
}

/// The folder that holds what setup installs, a directory a suite.
pub(crate) fn folder() -> PathBuf {
    workspace::target_dir().join("criu")
}

/// The `criu` of an installed suite.
pub(crate) fn of_suite(suite: &str) -> PathBuf {
    folder().join(suite).join(PROGRAM)
}

/// Makes a cargo, and what it runs, use the libcriu that `setup` gives a person.
pub(crate) fn with_library(cargo: &mut Command) -> &mut Command {
    let folder = folder().join(STABLE).join(LINKED);
    let others = env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let folders = iter::once(folder.clone()).chain(env::split_paths(&others));
    // Only a folder with a colon in its name cannot be in the list.
    let path = env::join_paths(folders).unwrap_or(others.clone());
    cargo.env("CRIU_LIB_DIR", folder).env("LD_LIBRARY_PATH", path)
}

/// Every `criu` below [`folder`]; unfinished ones lie in hidden directories.
pub(crate) fn unpacked() -> Vec<PathBuf> {
    let mut suites: Vec<_> = fs::read_dir(folder())
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| !name.starts_with('.'))
        .collect();
    suites.sort();
    let mut found: Vec<_> = suites.iter().map(|suite| of_suite(suite)).collect();
    found.retain(|path| path.exists());
    found
}

/// CRIU below the directory of its suite.
pub(crate) const PROGRAM: &str = "usr/sbin/criu";

/// The Debian suite whose CRIU a person gets.
pub(crate) const STABLE: &str = "trixie";
/// The Debian suite with the newest CRIU: for the tests, and for a person whose kernel needs it.
pub(crate) const EXPERIMENTAL: &str = "experimental";
/// The Debian suite with the oldest CRIU that the tests look at.
pub(crate) const OLD: &str = "bookworm";
