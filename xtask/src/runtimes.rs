//! Container runtimes for the tests, and the shell of root file systems.

use std::process::Command;

use crate::apt::Archive;
use crate::prefix::Prefix;
use crate::workspace::target_dir;
use crate::{Result, process};

/// Unpacks runc, crun, a static busybox, and gVisor's runsc. crun loads whatever libcriu it finds
/// at run time.
///
/// # Errors
/// If they cannot be downloaded, or do not start.
pub(crate) fn install(force: bool) -> Result<()> {
    unpack(SUITE, &["runc", "crun", "busybox-static"], &["usr/sbin/runc", "usr/bin/crun"], force)?;
    // The program is static, and so nothing has to be made to run on the libraries of the packages.
    unpack(SUITE_OF_GVISOR, &["runsc"], &[], force)?;
    let runsc = target_dir().join("runtimes").join(SUITE_OF_GVISOR).join("usr/bin/runsc");
    process::read(Command::new(runsc).arg("--version")).map(drop)
}

fn unpack(
    suite: &str,
    packages: &'static [&'static str],
    programs: &'static [&'static str],
    force: bool,
) -> Result<()> {
    let dir = target_dir().join("runtimes").join(suite);
    let prefix = Prefix { dir, packages, programs, libraries: &[] };
    if prefix.is_installed() && !force {
        return Ok(());
    }
    prefix.install(&Archive::debian(&[suite])?, force)
}

/// The Debian suite whose runtimes know today's seccomp flags.
const SUITE: &str = "sid";

/// The Debian suite whose runsc works. That of sid, built with a newer Go, ends with a panic as
/// soon as a program sleeps.
const SUITE_OF_GVISOR: &str = "trixie";
