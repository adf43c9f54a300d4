//! The counters of a page server.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};

/// The counters that all connections of a server share.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) bytes: AtomicU64,
    pub(super) pages: AtomicU64,
    pub(super) holes: AtomicU64,
    pub(super) served: AtomicU64,
    pub(super) done: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) waiting: AtomicUsize,
    pub(super) refused: AtomicU64,
    pub(super) unused: AtomicU64,
    pub(super) displaced: AtomicU64,
    pub(super) shortages: AtomicU64,
    /// Tells that open connections are being ended.
    pub(super) stopping: AtomicBool,
    /// Tells that the server accepts no more connections.
    pub(super) finishing: AtomicBool,
}

/// The counters of a page server at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metrics {
    /// Bytes received, including headers.
    pub bytes: u64,
    /// Pages received.
    pub pages: u64,
    /// Pages that clients left to parent sets.
    pub holes: u64,
    /// Pages sent on request.
    pub served: u64,
    /// Sessions that run.
    pub open: usize,
    /// Connections that are not sessions yet.
    pub waiting: usize,
    /// Connections of users who may not connect.
    pub refused: u64,
    /// Connections that ended before their first header, took too long for it or sent anything
    /// else.
    pub unused: u64,
    /// Connections that were silent and gave way to others, or found no place.
    pub displaced: u64,
    /// Attempts to accept a connection, or to begin a session, that failed for want of descriptors,
    /// memory or threads. An attempt is repeated after a tenth of a second.
    pub shortages: u64,
    /// Sessions that succeeded.
    pub done: u64,
    /// Sessions that failed.
    pub failed: u64,
}
