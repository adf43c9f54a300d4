//! What a worker is started with: options, and descriptors.

use std::ffi::OsString;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// What a worker is started with.
#[derive(Debug, Default)]
pub(crate) struct Launch<'a> {
    /// Options before its own words.
    pub(crate) arguments: &'a [OsString],
    pub(crate) env: &'a [(OsString, OsString)],
    /// Keep this process's standard input and process group, for a job of its shell.
    pub(crate) shell_job: bool,
}

/// Descriptors that a request speaks of.
///
/// CRIU knows two kinds of descriptor numbers: those it opens through /proc/PEER/fd, for which a
/// descriptor open here suffices, and those of its own process, which have to be put there.
#[derive(Debug, Default)]
pub(crate) struct Handed {
    pub(super) shown: Vec<OwnedFd>,
    pub(super) placed: Vec<OwnedFd>,
}

impl Handed {
    /// Keeps a descriptor open here; its number is valid in /proc/PEER/fd.
    pub(crate) fn show(&mut self, fd: OwnedFd) -> RawFd {
        let number = fd.as_raw_fd();
        self.shown.push(fd);
        number
    }

    /// Gives a descriptor to the worker; the number is the worker's.
    pub(crate) fn place(&mut self, fd: OwnedFd) -> RawFd {
        self.placed.push(fd);
        let index = RawFd::try_from(self.placed.len() - 1).unwrap_or(RawFd::MAX);
        FIRST_PLACED.saturating_add(index)
    }
}

/// The socket's number in a worker; 0 to 2 are its standard streams.
pub(super) const WORKER_SOCKET: RawFd = 3;

/// The first descriptor put into a worker.
const FIRST_PLACED: RawFd = WORKER_SOCKET + 1;
