//! The packages that are published: they pack, and their API changes as their version says.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::criu::with_library;
use crate::steps::{Start, Step};
use crate::workspace::{cargo, root};
use crate::{Result, process};

/// Makes the command that packs all published packages, and builds each from its packed files.
/// Cargo takes them in the order of their dependencies, and those from each other's packed files.
///
/// # Errors
/// If a manifest cannot be read.
pub(crate) fn command() -> Result<Command> {
    // Changes that are not committed are packed, too: this is a test. It needs no network, because
    // the steps before it have fetched all dependencies.
    let names = published()?;
    forget(&names)?;
    let mut package = cargo(&["package", "--allow-dirty", "--locked", "--offline"]);
    package.args(names.iter().flat_map(|name| ["--package", name]));
    with_library(&mut package);
    Ok(package)
}

/// Removes what cargo has unpacked of earlier packages with these names. Cargo keeps the files of a
/// version for ever, and would build a package against the files of an earlier state of another.
fn forget(names: &[String]) -> Result<()> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let user = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo"));
    let home = home.or_else(user);
    let Some(home) = home else { return Ok(()) };
    for registry in fs::read_dir(home.join("registry/src")).into_iter().flatten().flatten() {
        // The registry of `cargo package` has no host, with which the names of others begin.
        if !registry.file_name().to_string_lossy().starts_with('-') {
            continue;
        }
        for package in fs::read_dir(registry.path())?.flatten() {
            let file = package.file_name();
            let is_ours = |name: &String| {
                let rest = file.to_str().and_then(|file| file.strip_prefix(name.as_str()));
                let version = rest.and_then(|rest| rest.strip_prefix('-'));
                version.is_some_and(|version| version.starts_with(|c: char| c.is_ascii_digit()))
            };
            if names.iter().any(is_ours) {
                fs::remove_dir_all(package.path())?;
            }
        }
    }
    Ok(())
}

/// Makes the step that compares the API with that of the last tag. The step is left out without a
/// tag, and on a person's machine without cargo-semver-checks.
pub(crate) fn semver(in_ci: bool) -> Step {
    Step::decided("semver", move || {
        let mut list = Command::new("git");
        list.args(["tag", "--list", "--merged", "HEAD", "--sort=-creatordate"]);
        let tags = process::read(list.current_dir(root()))?;
        let Some(tag) = tags.lines().next() else {
            return Ok(Start::LeaveOut("no tag to compare the API with".into()));
        };
        match compare(tag) {
            Ok(command) => Ok(Start::Run(Box::new(command))),
            Err(error) if in_ci => Err(error),
            Err(error) => Ok(Start::LeaveOut(error.to_string())),
        }
    })
}

/// Makes the command that compares the libraries with a tag.
///
/// # Errors
/// If cargo-semver-checks is not installed.
fn compare(tag: &str) -> Result<Command> {
    process::read(&mut cargo(&["semver-checks", "--version"])).map_err(|_| {
        "cargo-semver-checks is not installed: \
         `cargo install --locked cargo-semver-checks` brings it"
    })?;
    let mut compare = cargo(&["semver-checks", "--baseline-rev", tag]);
    // criu-sys mirrors a C header, and the program has no API.
    compare.args(["--package", "criu-images", "--package", "criu-rs"]);
    with_library(&mut compare);
    Ok(compare)
}

/// The names of the workspace's packages that do not forbid their publication.
fn published() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(root())? {
        let manifest = entry?.path().join("Cargo.toml");
        if let Ok(text) = fs::read_to_string(&manifest) {
            names.extend(name(&text));
        }
    }
    names.sort();
    Ok(names)
}

/// The name in a manifest; `None` if the package is not published, or not of this workspace.
fn name(manifest: &str) -> Option<String> {
    let mut lines = manifest.lines().map(str::trim);
    let is_ours = manifest.contains("version.workspace = true");
    if !is_ours || lines.clone().any(|line| line == "publish = false") {
        return None;
    }
    let name = lines.find_map(|line| line.strip_prefix("name = "))?;
    Some(name.trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_libraries_and_the_program_are_published_and_the_tools_are_not() {
        let names = published().unwrap();
        let published =
            ["criu-archive", "criu-cli", "criu-images", "criu-plugin", "criu-rs", "criu-sys"];
        for package in published {
            assert!(names.iter().any(|name| name == package), "{package}: {names:?}");
        }
        for tool in ["criu-benches", "criu-fuzz", "criu-lab", "xtask"] {
            assert!(!names.iter().any(|name| name == tool), "{tool}: {names:?}");
        }
    }
}
