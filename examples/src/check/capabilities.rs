//! The capabilities that CRIU wants, and what is lost without each.

use caps::{CapSet, Capability as Cap};

/// A capability that CRIU wants.
pub(super) struct Capability {
    cap: Cap,
    /// What fails without it.
    pub(super) loses: &'static str,
    /// Whether this process has it, and so a criu that it starts.
    pub(super) is_held: bool,
}

impl Capability {
    /// All that CRIU wants.
    pub(super) fn all() -> Vec<Self> {
        let held = caps::read(None, CapSet::Effective).unwrap_or_default();
        let row = |&(cap, loses)| Self { cap, loses, is_held: held.contains(&cap) };
        WANTED.iter().map(row).collect()
    }

    pub(super) fn name(&self) -> String {
        self.cap.to_string()
    }

    /// Whether CRIU does nothing without one of these two.
    pub(super) fn is_basic(&self) -> bool {
        matches!(self.cap, Cap::CAP_SYS_ADMIN | Cap::CAP_CHECKPOINT_RESTORE)
    }
}

const WANTED: &[(Cap, &str)] = &[
    (Cap::CAP_SYS_ADMIN, "namespaces, mounts, seccomp filters, and much else"),
    (Cap::CAP_CHECKPOINT_RESTORE, "restoring process ids, and mappings of deleted files"),
    (Cap::CAP_SYS_PTRACE, "stopping and reading the processes of others"),
    (Cap::CAP_SYS_RESOURCE, "processes of users other than root, those in a user namespace apart"),
    (Cap::CAP_NET_ADMIN, "TCP connections, and network namespaces"),
    (Cap::CAP_SYS_CHROOT, "processes with a root directory of their own"),
    (Cap::CAP_SETUID, "restoring processes of other users"),
    (Cap::CAP_SETGID, "restoring processes of other groups"),
    (Cap::CAP_SETPCAP, "restoring the capability bounding set"),
    (Cap::CAP_KILL, "ending processes of other users after their dump"),
    (Cap::CAP_DAC_OVERRIDE, "files that only others may open"),
];
