//! The packages that are published: they pack, and their API changes as their version says.

use std::process::Command;

use crate::steps::Step;
use crate::workspace::{cargo, root};
use crate::{Result, process};

/// The published packages, each after those that it depends on.
const PUBLISHED: &[&str] = &["criu-sys", "criu-images", "criu-rs", "criu-cli"];

/// Makes the command that packs all published packages. They are not built from the packed files:
/// that takes as long as all of `build`.
pub(crate) fn command() -> Command {
    // Changes that are not committed yet are packed as well: this is a test.
    let mut package = cargo(&["package", "--no-verify", "--allow-dirty", "--locked"]);
    package.args(PUBLISHED.iter().flat_map(|name| ["--package", name]));
    package
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
    let tag =
        process::read(&mut describe).map_err(|_| "there is no tag to compare the API with")?;
    process::read(&mut cargo(&["semver-checks", "--version"])).map_err(|_| {
        "cargo-semver-checks is not installed: `cargo install --locked cargo-semver-checks` brings it"
    })?;
    let mut compare = cargo(&["semver-checks", "--all-features", "--baseline-rev"]);
    compare.arg(tag.trim());
    // criu-sys mirrors a C header, and the program has no API.
    compare.args(["--package", "criu-images", "--package", "criu-rs"]);
    Ok(compare)
}
