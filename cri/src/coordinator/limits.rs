//! Limits of what a coordinator accepts.

use std::time::Duration;

/// The limits of a coordinator.
///
/// ```
/// use criu_cri::coordinator::Limits;
/// use std::time::Duration;
///
/// let mut limits = Limits::default();
/// limits.barrier = Duration::from_secs(120);
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// Time that a member waits for the others at one step: 30 seconds by default, as with
    /// criu-coordinator. At post-dump the members that are saved wait, frozen, for the slowest.
    pub barrier: Duration,
    /// Time from a member's registration to the end of its operation: 10 minutes by default.
    pub total: Duration,
    /// Time from a connection to its whole request: 10 seconds by default.
    pub first: Duration,
    /// Connections at one time: 1024 by default. A connection without a request gives way to a new
    /// one.
    pub connections: usize,
    /// Members that are known at one time: 4096 by default. A member whose operation is over gives
    /// way to a new one.
    pub members: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            barrier: Duration::from_secs(30),
            total: Duration::from_secs(600),
            first: Duration::from_secs(10),
            connections: 1024,
            members: 4096,
        }
    }
}
