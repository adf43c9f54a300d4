//! The options and descriptors that a worker is started with.

use std::ffi::OsString;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// The settings that a worker is started with.
#[derive(Debug, Default)]
pub(crate) struct Launch<'a> {
    /// Options before the worker's own arguments.
    pub(crate) arguments: &'a [OsString],
    /// Environment variables to set.
    pub(crate) env: &'a [(OsString, OsString)],
    /// The mount namespace to start the worker in, if not this process's.
    #[cfg(feature = "oci")]
    pub(crate) mounts: Option<&'a crate::host::MountSpace>,
    /// Keeps this process's standard input and process group, for a job of its shell.
    pub(crate) shell_job: bool,
}

/// Descriptors that a request names by number.
///
/// CRIU knows two kinds of descriptor numbers. For a number that it opens through /proc/PEER/fd,
/// the descriptor must be open in this process. For a number of its own, the descriptor must be
/// placed inside the criu process.
#[derive(Debug, Default)]
pub(crate) struct Handed {
    /// Descriptors that stay open in this process.
    pub(super) shown: Vec<OwnedFd>,
    /// Descriptors for the worker, in the order of their numbers.
    pub(super) placed: Vec<OwnedFd>,
}

impl Handed {
    /// Keeps a descriptor open in this process. Returns its number, which is valid in
    /// /proc/PEER/fd.
    pub(crate) fn show(&mut self, fd: OwnedFd) -> RawFd {
        let number = fd.as_raw_fd();
        self.shown.push(fd);
        number
    }

    /// Gives a descriptor to the worker. Returns its number inside the worker.
    pub(crate) fn place(&mut self, fd: OwnedFd) -> RawFd {
        self.placed.push(fd);
        let index = RawFd::try_from(self.placed.len() - 1).unwrap_or(RawFd::MAX);
        FIRST_PLACED.saturating_add(index)
    }
}

/// The number of the socket inside a worker; 0 to 2 are the standard streams.
pub(super) const WORKER_SOCKET: RawFd = 3;

/// The number of the first descriptor placed inside a worker.
const FIRST_PLACED: RawFd = WORKER_SOCKET + 1;
