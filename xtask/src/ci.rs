//! `cargo xtask ci`: all that a maintainer runs before a release.

use crate::Result;
use crate::test::{self, Extent};

/// Runs every test with nothing left out, and the demo.
pub(crate) fn run() -> Result<()> {
    test::run(Extent::Release, &[])
}
