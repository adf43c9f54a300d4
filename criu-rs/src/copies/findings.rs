//! CRIU's findings about the kernel, where one criu alone sees them.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;

use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// A small file system over `/run` that holds the findings. Dropped, it is gone.
#[derive(Debug)]
pub(super) struct Findings(());

impl Findings {
    /// Covers `/run` in the mount namespace of this process.
    pub(super) fn show(bytes: &[u8]) -> io::Result<Self> {
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount(Some("tmpfs"), RUN, Some("tmpfs"), flags, Some("mode=755,size=2m"))?;
        let shown = Self(());
        let mut file = OpenOptions::new();
        let mut file = file.write(true).create_new(true).mode(0o600).open(FILE)?;
        file.write_all(bytes)?;
        Ok(shown)
    }
}

impl Drop for Findings {
    fn drop(&mut self) {
        let _ = umount2(RUN, MntFlags::MNT_DETACH);
    }
}

const RUN: &str = "/run";

/// The name under which CRIU looks for the findings.
const FILE: &str = "/run/criu.kdat";
