//! The limits of a page server.

use std::time::Duration;

/// The limits that a page server sets its clients.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerLimits {
    /// Connections at once. More wait until one ends. 64 by default.
    pub connections: usize,
    /// Time that a connection may be silent, if limited. 60 seconds by default.
    pub idle: Option<Duration>,
    /// Time that a session may take. 24 hours by default.
    pub total: Duration,
    /// Bytes of pages in a session. Unlimited by default.
    pub bytes: u64,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            connections: 64,
            idle: Some(Duration::from_secs(60)),
            total: Duration::from_secs(24 * 60 * 60),
            bytes: u64::MAX,
        }
    }
}
