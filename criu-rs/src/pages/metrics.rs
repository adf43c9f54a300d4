//! Counts of a page server.

use std::sync::atomic::{AtomicBool, AtomicU64};

/// What has been counted.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) bytes: AtomicU64,
    pub(super) pages: AtomicU64,
    pub(super) holes: AtomicU64,
    pub(super) served: AtomicU64,
    pub(super) done: AtomicU64,
    pub(super) failed: AtomicU64,
    /// Open connections are being ended.
    pub(super) stopping: AtomicBool,
    /// No more connections are taken.
    pub(super) finishing: AtomicBool,
}

/// A look at a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metrics {
    /// Bytes received, headers included.
    pub bytes: u64,
    /// Pages received.
    pub pages: u64,
    /// Pages left to parent sets.
    pub holes: u64,
    /// Pages sent because they were wanted.
    pub served: u64,
    /// Connections that are open.
    pub open: usize,
    /// Sessions that have ended well.
    pub done: u64,
    /// Sessions that have failed.
    pub failed: u64,
}
