//! Bounds of a page server.

use std::time::Duration;

/// What a client may take.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerLimits {
    /// Connections at once; more wait until one ends.
    pub connections: usize,
    /// How long nothing may come.
    pub idle: Option<Duration>,
    /// How long a session may take.
    pub total: Duration,
    /// Bytes of pages in a session.
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
