//! The limits of a page server.

use std::time::Duration;

/// The limits that a page server sets its clients.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerLimits {
    /// Connections at once. More wait until one ends. 64 by default.
    pub connections: usize,
    /// Time that a client may take for a header or a page, if limited. 60 seconds by default. A
    /// client that sends a byte now and then is no quicker for it.
    pub idle: Option<Duration>,
    /// Time that a session may take. 24 hours by default.
    pub total: Duration,
    /// Bytes that a session may send and fetch, headers included. Unlimited by default. A run of
    /// pages that would pass the limit is refused at its header.
    pub bytes: u64,
    /// Objects that a session may begin. 262,144 by default: more than twice the tasks of the
    /// largest known dumps. Each object makes two files.
    pub objects: u64,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            connections: 64,
            idle: Some(Duration::from_secs(60)),
            total: Duration::from_secs(24 * 60 * 60),
            bytes: u64::MAX,
            objects: 1 << 18,
        }
    }
}
