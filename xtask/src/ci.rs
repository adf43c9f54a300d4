//! `cargo xtask ci`: what a maintainer runs before a release.

use crate::test::{self, Extent};
use crate::{Result, demo};

/// Runs every test with nothing left out, then shows the demo.
pub(crate) fn run() -> Result<()> {
    test::run(Extent::Release)?;
    demo::run_as_step()
}
