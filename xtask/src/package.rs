//! The packages that are published: they pack, and their API changes as their version says.

use std::fs;
use std::process::Command;

use crate::criu::with_library;
use crate::steps::Step;
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
    let mut package = cargo(&["package", "--allow-dirty", "--locked", "--offline"]);
    package.args(published()?.iter().flat_map(|name| ["--package", name]));
    with_library(&mut package);
    Ok(package)
}

/// Makes the step that compares the API with that of the last tag.
pub(crate) fn semver() -> Step {
    Step::optional("semver", compare)
}

/// Makes the command that compares the libraries with the last tag.
///
/// # Errors
/// If there is no tag, or cargo-semver-checks is not installed.
fn compare() -> Result<Command> {
    let mut describe = Command::new("git");
    describe.args(["describe", "--tags", "--abbrev=0"]).current_dir(root());
    let tag = process::read(&mut describe).map_err(|_| "no tag to compare the API with")?;
    process::read(&mut cargo(&["semver-checks", "--version"])).map_err(|_| {
        "cargo-semver-checks is not installed: \
         `cargo install --locked cargo-semver-checks` brings it"
    })?;
    let mut compare = cargo(&["semver-checks", "--baseline-rev", tag.trim()]);
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
    fn the_libraries_are_published_and_the_tools_are_not() {
        let names = published().unwrap();
        for library in ["criu-images", "criu-rs", "criu-sys"] {
            assert!(names.iter().any(|name| name == library), "{library}: {names:?}");
        }
        for tool in ["criu-benches", "criu-fuzz", "xtask"] {
            assert!(!names.iter().any(|name| name == tool), "{tool}: {names:?}");
        }
    }
}
