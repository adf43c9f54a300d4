//! The one who is told of each space, to act when this process is gone.

use std::fmt;
use std::ops::Range;
use std::os::fd::BorrowedFd;

use super::error::LazyError;

/// A watcher of the spaces of a handler.
///
/// Each call comes from the thread that has just read the kernel's message, and other threads wait
/// for this space meanwhile. A watcher must not wait for long.
pub(super) trait Watcher: fmt::Debug + Send + Sync {
    /// Hears of an address space with missing pages. No page has come yet.
    ///
    /// # Errors
    /// If the space cannot be watched, because no descriptor is left.
    fn begins(&self, begun: Begun<'_>) -> Result<(), LazyError>;

    /// Hears that memory of a space has moved or is gone.
    fn changes(&self, space: u64, change: &Change);

    /// Hears that a space has no missing pages any more, or that its process is gone. A copy of the
    /// userfaultfd must be closed now: nobody reads its messages from now on.
    fn ends(&self, space: u64);
}

/// A space that begins.
#[derive(Debug)]
pub(super) struct Begun<'b> {
    /// The number of the space, unique in the handler.
    pub(super) space: u64,
    /// The userfaultfd.
    pub(super) uffd: BorrowedFd<'b>,
    /// The addresses of missing pages. Some of them may be there.
    pub(super) missing: &'b [Range<u64>],
    /// A descriptor of the process, which the child of a task does not have.
    pub(super) process: Option<BorrowedFd<'b>>,
}

/// A change of an address space.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Change {
    /// Memory has moved. The memory that was at the target before is gone.
    Moved { from: u64, to: u64, bytes: u64 },
    /// Memory is discarded or unmapped.
    Gone(Range<u64>),
}
