//! Container runtimes for the tests, and a root file system's shell.

use crate::Result;
use crate::apt::Archive;
use crate::prefix::Prefix;
use crate::workspace::target_dir;

/// Unpacks runc, crun and a static busybox. crun loads whatever libcriu it finds at run time.
///
/// # Errors
/// If they cannot be downloaded, or do not start.
pub(crate) fn install(force: bool) -> Result<()> {
    let prefix = Prefix {
        dir: target_dir().join("runtimes").join(SUITE),
        packages: &["runc", "crun", "busybox-static"],
        programs: &["usr/sbin/runc", "usr/bin/crun"],
        libraries: &[],
    };
    if prefix.is_installed() && !force {
        return Ok(());
    }
    prefix.install(&Archive::debian(&[SUITE])?, force)
}

/// The Debian suite whose runtimes know today's seccomp flags.
const SUITE: &str = "sid";
