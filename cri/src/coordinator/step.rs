//! The moments at which members ask.

use std::fmt;

/// A moment at which a member asks the coordinator, by CRIU's name of the action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Step {
    /// `pre-dump`: the member registers for a dump, and waits until all have registered.
    PreDump,
    /// `network-lock`: the member's network is about to be locked.
    NetworkLock,
    /// `post-dump`: the member's images are written.
    PostDump,
    /// `pre-restore`: the member registers for a restore.
    PreRestore,
    /// `post-restore`: the member's processes are made, and held.
    PostRestore,
    /// `network-unlock`: the member's network is about to be unlocked.
    NetworkUnlock,
    /// `post-resume`: the member's processes run.
    PostResume,
}

impl Step {
    /// Every step.
    pub const ALL: &[Self] = &[
        Self::PreDump,
        Self::NetworkLock,
        Self::PostDump,
        Self::PreRestore,
        Self::PostRestore,
        Self::NetworkUnlock,
        Self::PostResume,
    ];

    /// Returns CRIU's name of the action.
    pub fn name(self) -> &'static str {
        match self {
            Self::PreDump => "pre-dump",
            Self::NetworkLock => "network-lock",
            Self::PostDump => "post-dump",
            Self::PreRestore => "pre-restore",
            Self::PostRestore => "post-restore",
            Self::NetworkUnlock => "network-unlock",
            Self::PostResume => "post-resume",
        }
    }

    /// Tells if the step is one of a dump. The others are those of a restore.
    pub(super) fn is_of_dump(self) -> bool {
        matches!(self, Self::PreDump | Self::NetworkLock | Self::PostDump)
    }

    /// Returns the step with a name, or `None` for an action that is no step.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|step| step.name() == name)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
