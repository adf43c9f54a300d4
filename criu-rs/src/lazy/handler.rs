//! The handler: threads that fill missing pages.

use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use super::error::LazyError;
use super::options::LazyOptions;
use super::statistics::{LazyProgress, LazyStatistics};
use super::supply::Supply;

/// Threads that fill the missing pages of restored tasks.
#[derive(Debug)]
pub struct Handler {}

/// A restore that a [`Handler`] serves. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Restoration {}

impl Handler {
    /// Starts the threads of a handler.
    ///
    /// # Errors
    /// If a thread cannot be started.
    pub fn new(supply: Arc<dyn Supply>, options: LazyOptions) -> Result<Self, LazyError> {
        let _ = (supply, options);
        todo!()
    }

    /// Begins a restore.
    pub fn restoration(&self) -> Restoration {
        todo!()
    }
}

impl Restoration {
    /// Takes the missing pages of a task: its pid in the images, its userfaultfd, the addresses of
    /// its missing pages, ascending, and a descriptor of the process (pidfd) if there is one.
    /// Faults are served from now on.
    pub fn add(
        &self,
        pid: u32,
        uffd: OwnedFd,
        missing: &[Range<u64>],
        process: Option<OwnedFd>,
    ) -> Result<(), LazyError> {
        let _ = (pid, uffd, missing, process);
        todo!()
    }

    /// Says that all tasks are here and run: pages come in the background from now on.
    pub fn complete(&self) {
        todo!()
    }

    /// Gives the restore up: the tasks are treated as [`OnLoss`](super::OnLoss) says.
    pub fn give_up(&self, why: LazyError) {
        let _ = why;
        todo!()
    }

    /// Returns the progress.
    pub fn progress(&self) -> LazyProgress {
        todo!()
    }

    /// Returns the numbers so far.
    pub fn statistics(&self) -> LazyStatistics {
        todo!()
    }

    /// Waits until no page is missing or no task is left, at most for a time. Returns false if the
    /// time has passed.
    ///
    /// # Errors
    /// The error for which the restore was given up.
    pub fn wait(&self, at_most: Option<Duration>) -> Result<bool, LazyError> {
        let _ = at_most;
        todo!()
    }
}
