//! The capabilities that CRIU wants, and whether this process has them.

use criu_rs::preflight::{CAPABILITIES, CapabilityUse};

/// A capability that CRIU wants.
pub(super) struct Capability {
    wanted: CapabilityUse,
    /// What fails without it.
    pub(super) loses: &'static str,
    /// Whether this process has it, and so a criu that it starts.
    pub(super) is_held: bool,
}

impl Capability {
    /// All that CRIU wants.
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

    /// Whether CRIU does nothing without one of these two.
    pub(super) fn is_basic(&self) -> bool {
        self.wanted.is_basic()
    }
}
