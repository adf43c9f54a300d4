//! Container engines, a registry and the tools of others, for the tests of checkpoint archives.

use crate::Result;
use crate::apt::Archive;
use crate::prefix::Prefix;
use crate::workspace::target_dir;

/// Unpacks podman, containerd, a registry, and programs that read or copy checkpoints.
///
/// The engines use the runc of [`crate::runtimes`].
///
/// # Errors
/// If the packages cannot be downloaded, or their programs do not start.
pub(crate) fn install(force: bool) -> Result<()> {
    let prefix = Prefix {
        dir: target_dir().join("engines").join(SUITE),
        packages: PACKAGES,
        programs: PROGRAMS,
        libraries: &[],
    };
    if prefix.is_installed() && !force {
        return Ok(());
    }
    prefix.install(&Archive::debian(&[SUITE])?, force)
}

/// The packages: netavark only because podman wants to find one.
const PACKAGES: &[&str] = &[
    "age",
    "checkpointctl",
    "conmon",
    "containerd",
    "docker-registry",
    "netavark",
    "oras",
    "podman",
    "skopeo",
];

/// The programs that the tests start.
const PROGRAMS: &[&str] = &[
    "usr/bin/age",
    "usr/bin/checkpointctl",
    "usr/bin/conmon",
    "usr/bin/containerd",
    "usr/bin/containerd-shim-runc-v2",
    "usr/bin/ctr",
    "usr/bin/docker-registry",
    "usr/bin/oras",
    "usr/bin/podman",
    "usr/bin/skopeo",
];

/// The Debian suite with the engines that write checkpoints.
const SUITE: &str = "sid";
