//! `cargo xtask ci`: what a maintainer runs before a release.

use crate::steps::step;
use crate::test::{self, Extent};
use crate::workspace::cargo;
use crate::{Result, demo, process};

/// Runs every test with nothing left out, shows the demo, then looks at the dependencies.
pub(crate) fn run() -> Result<()> {
    // First, because it says so before the long part.
    process::read(&mut cargo(&["deny", "--version"])).map_err(|_| {
        "cargo-deny checks licences and advisories of the dependencies and is not installed: \
         run `cargo install --locked cargo-deny`"
    })?;
    test::run(Extent::Release)?;
    demo::run_as_step()?;
    step("deny", &mut cargo(&["deny", "check"]))
}
