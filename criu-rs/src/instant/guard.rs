//! The guard of a capture: a process that ends the holders if this process is killed.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use crate::error::{Error, Result};
use crate::sys::fd;
use crate::sys::guard::HolderGuard;
use crate::value::Pid;

/// A guard of holders. Dropped, it ends, and leaves the holders alone.
///
/// The guard reads the journal only when this process is gone, so it also ends holders of which
/// this process has not heard. It has all of them reaped within a second after criu has ended, if
/// no other process traces their tasks. If somebody kills the guard, too, the next dump of the tree
/// clears up.
#[derive(Debug)]
pub(super) struct Guard(HolderGuard);

impl Guard {
    /// Starts a guard. `journal` is the file of the journal.
    ///
    /// # Errors
    /// The kernel starts no process, or has no clone3(2) and no clone(2) for this process.
    pub(super) fn start(journal: BorrowedFd<'_>) -> io::Result<Self> {
        HolderGuard::start(journal).map(Self)
    }

    /// Names the criu that makes the holders, before it is asked to. While it runs, the guard does
    /// nothing: criu may not bear the end of a holder.
    ///
    /// # Errors
    /// The guard is gone.
    pub(super) fn wait_for(&self, criu: Option<Pid>) -> Result<()> {
        let Some(criu) = criu else { return Ok(()) };
        let told = fd::open(criu.nix()).and_then(|criu| self.0.wait_for(criu.as_fd()));
        told.map_err(|source| Error::system("tell the guard of holders about criu", source))
    }
}
