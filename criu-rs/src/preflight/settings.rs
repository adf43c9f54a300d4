//! The settings of CRIU's configuration files, which count as options.

use super::finding::{Finding, Severity};
use crate::criu::Criu;
use crate::error::{Error, Result};
use crate::options::Common;

/// Returns the options of an operation together with all settings of files.
pub(super) fn settle<'a>(common: &Common<'a>, criu: &Criu) -> Result<Common<'a>> {
    criu.configure(common)?.into_owned().with_lists()
}

/// Returns the finding for a file that cannot be used.
pub(super) fn unusable(error: Error) -> Finding {
    let what = "a configuration file of CRIU's cannot be used";
    Finding::new(Severity::Blocks, what).detail(error.to_string())
}
