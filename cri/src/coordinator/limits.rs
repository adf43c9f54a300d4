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
    /// Connections at one time: 8256 by default, which is two for each member and 64 more. A member
    /// holds one for as long as its operation takes, and has a second while it waits at a step. A
    /// connection without a request gives way to a new one. The process needs as many descriptors.
    pub connections: usize,
    /// Members that are known at one time: 4096 by default. A member whose operation is over gives
    /// way to a new one.
    pub members: usize,
}

impl Default for Limits {
    fn default() -> Self {
        let members = 4096;
        Self {
            barrier: Duration::from_secs(30),
            total: Duration::from_secs(600),
            first: Duration::from_secs(10),
            connections: 2 * members + 64,
            members,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_member_has_room_for_two_connections() {
        let Limits { connections, members, .. } = Limits::default();
        assert!(connections > 2 * members, "{connections}");
    }
}
