//! The capabilities that CRIU wants, each with a mark if this process has it.

use criu_rs::preflight::{CAPABILITIES, CapabilityUse};

/// A capability that CRIU wants.
pub(super) struct Capability {
    wanted: CapabilityUse,
    /// The operations that fail without it.
    pub(super) loses: &'static str,
    /// Tells if this process has it, and so a criu that it starts.
    pub(super) is_held: bool,
}

impl Capability {
    /// Returns all capabilities that CRIU wants.
    pub(super) fn all() -> Vec<Self> {
        let row = |&wanted: &CapabilityUse| Self {
            wanted,
            loses: wanted.loses,
            is_held: wanted.is_held(),
        };
        CAPABILITIES.iter().map(row).collect()
    }

    pub(super) fn name(&self) -> String {
        self.wanted.capability.to_string()
    }

    /// Tells if it is one of the two of which CRIU needs at least one.
    pub(super) fn is_basic(&self) -> bool {
        self.wanted.is_basic()
    }
}
