//! Checks of the capabilities that criu has, which it inherits from this process.

use caps::{CapSet, Capability as Cap};

use super::finding::{Finding, Severity};
use super::live::{Task, Tree};
use super::look::Look;
use super::need::Need;
use super::proc;
use crate::diagnosis::Cause;
use crate::transport::Transport;

/// A capability that CRIU needs, and its purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CapabilityUse {
    /// The capability.
    pub capability: Cap,
    /// The things that fail without the capability.
    pub loses: &'static str,
    /// True if dumps and pre-dumps need it.
    pub dump: bool,
    /// True if restores need it.
    pub restore: bool,
}

impl CapabilityUse {
    const fn new(capability: Cap, loses: &'static str, dump: bool, restore: bool) -> Self {
        Self { capability, loses, dump, restore }
    }

    /// Returns true if this process has the capability, and so does a criu that it starts.
    pub fn is_held(&self) -> bool {
        caps::has_cap(None, CapSet::Effective, self.capability).unwrap_or(false)
    }

    /// Returns true if the capability is one of two of which CRIU needs at least one.
    pub fn is_basic(&self) -> bool {
        matches!(self.capability, Cap::CAP_SYS_ADMIN | Cap::CAP_CHECKPOINT_RESTORE)
    }
}

/// All capabilities that CRIU needs. Without `CAP_SYS_ADMIN` it also needs `unprivileged`.
pub const CAPABILITIES: &[CapabilityUse] = &[
    CapabilityUse::new(
        Cap::CAP_SYS_ADMIN,
        "namespaces, mounts, seccomp filters, and much else",
        true,
        true,
    ),
    CapabilityUse::new(
        Cap::CAP_CHECKPOINT_RESTORE,
        "restoring process ids, and mappings of deleted files",
        true,
        true,
    ),
    CapabilityUse::new(
        Cap::CAP_SYS_PTRACE,
        "stopping and reading other users' processes",
        true,
        false,
    ),
    CapabilityUse::new(
        Cap::CAP_SYS_RESOURCE,
        "processes of users other than root, unless in a user namespace",
        true,
        true,
    ),
    CapabilityUse::new(Cap::CAP_NET_ADMIN, "TCP connections, and network namespaces", true, true),
    CapabilityUse::new(
        Cap::CAP_SYS_CHROOT,
        "processes with a root directory of their own",
        false,
        true,
    ),
    CapabilityUse::new(Cap::CAP_SETUID, "restoring processes of other users", false, true),
    CapabilityUse::new(Cap::CAP_SETGID, "restoring processes of other groups", false, true),
    CapabilityUse::new(Cap::CAP_SETPCAP, "restoring the capability bounding set", false, true),
    CapabilityUse::new(
        Cap::CAP_KILL,
        "ending processes of other users after their dump",
        true,
        false,
    ),
    CapabilityUse::new(Cap::CAP_DAC_OVERRIDE, "files that only other users may open", true, true),
];

pub(super) fn look(tree: &Tree, look: &Look<'_>) -> Vec<Finding> {
    let (Some(mine), mut found) = of_criu(look) else { return Vec::new() };
    let lacks = |cap: Cap| mine.effective & cap.bitmask() == 0;
    if lacks(Cap::CAP_SYS_ADMIN) && lacks(Cap::CAP_CHECKPOINT_RESTORE) {
        return found;
    }
    let yama = proc::text("/proc/sys/kernel/yama/ptrace_scope").unwrap_or_default();
    match yama.trim() {
        "3" => {
            let hint = "boot with kernel.yama.ptrace_scope below 3: it cannot be lowered later";
            let detail = "Yama forbids tracing any process";
            found.push(Finding::blocks(Cause::NotTraceable).detail(detail).hint(hint));
        }
        "2" if lacks(Cap::CAP_SYS_PTRACE) => found.push(missing(Cap::CAP_SYS_PTRACE)),
        _ => {}
    }
    let (mut told, mut connected) = (false, false);
    for task in tree.alive() {
        let same = tree.is_here("user", task) || task.namespaces.is_empty();
        connected |= task.fds.iter().flatten().any(|fd| fd.name().starts_with("socket:["));
        if task.fds.is_none() {
            let cause = if lacks(Cap::CAP_SYS_PTRACE) && !mine.owns(task) {
                Cause::MissingCapability
            } else {
                Cause::NotTraceable
            };
            let detail = "its descriptors may not be read";
            found.push(Finding::blocks(cause).pid(task.pid).detail(detail));
        } else if same && lacks(Cap::CAP_SYS_PTRACE) {
            let more = task.capabilities("CapPrm") & !mine.permitted;
            if !mine.owns(task) {
                found.push(missing(Cap::CAP_SYS_PTRACE).pid(task.pid));
            } else if more != 0 {
                let detail = "it holds a capability that criu lacks";
                found.push(Finding::blocks(Cause::NotTraceable).pid(task.pid).detail(detail));
            } else if !told && mine.user == 0 {
                // Even root needs it for files such as /proc/PID/map_files.
                told = true;
                found.push(missing(Cap::CAP_SYS_PTRACE));
            }
        }
        if same && lacks(Cap::CAP_SYS_RESOURCE) && !mine.owns(task) {
            let user = task.ids("Uid").first().copied().unwrap_or_default();
            let detail = format!("it belongs to user {user}");
            let finding = Finding::blocks(Cause::NoResourceCapability).pid(task.pid);
            found.push(finding.detail(detail));
        }
    }
    if lacks(Cap::CAP_NET_ADMIN)
        && (tree.saves("net") || (connected && look.opts.tcp_established()))
    {
        found.push(missing(Cap::CAP_NET_ADMIN));
    }
    let is_filtered = |task: &Task| proc::numbers::<u8>(&task.status, "Seccomp").first() > Some(&0);
    let filtered = tree.alive().any(is_filtered);
    if lacks(Cap::CAP_SYS_ADMIN) && (tree.saves("mnt") || tree.saves("pid") || filtered) {
        found.push(missing(Cap::CAP_SYS_ADMIN));
    }
    if mine.user != 0 && look.opts.unprivileged() {
        let what = "without root CRIU leaves out what it may not see: cgroups and some mounts";
        found.push(Finding::new(Severity::Loses, what));
    }
    found
}

/// The degree to which Yama restricts tracing. `None` without Yama.
pub(super) fn yama() -> Option<u8> {
    proc::text("/proc/sys/kernel/yama/ptrace_scope").ok()?.trim().parse().ok()
}

/// Checks the capabilities that every operation needs. Returns the credentials of this process, or
/// `None` if a service carries the operation out.
pub(super) fn of_criu(look: &Look<'_>) -> (Option<Credentials>, Vec<Finding>) {
    let mut found = Vec::new();
    // A service has rights of its own, which are not known.
    if matches!(look.criu.transport(), Transport::Service(_) | Transport::Connected(_)) {
        return (None, found);
    }
    let Some(mine) = Credentials::look() else { return (None, found) };
    let basic = [Cap::CAP_SYS_ADMIN, Cap::CAP_CHECKPOINT_RESTORE];
    if basic.iter().all(|cap| mine.effective & cap.bitmask() == 0) {
        found.push(missing(Cap::CAP_SYS_ADMIN));
    } else if mine.user != 0 && !look.opts.unprivileged() {
        let needs = vec![Need::Unprivileged];
        found.push(Finding::needs(Cause::MissingCapability, needs, false).detail("not root"));
    }
    (Some(mine), found)
}

pub(super) fn missing(cap: Cap) -> Finding {
    let of = CAPABILITIES.iter().find(|of| of.capability == cap);
    let loses = of.map_or("", |of| of.loses);
    Finding::blocks(Cause::MissingCapability).detail(format!("{cap}: {loses}"))
}

/// The credentials of this process.
pub(super) struct Credentials {
    user: u32,
    pub(super) effective: u64,
    pub(super) permitted: u64,
    pub(super) inheritable: u64,
    pub(super) bounding: u64,
    pub(super) uids: Vec<u32>,
    pub(super) gids: Vec<u32>,
    /// Supplementary groups.
    pub(super) groups: Vec<u32>,
}

impl Credentials {
    fn look() -> Option<Self> {
        let status = proc::text("/proc/thread-self/status").ok()?;
        let set = |key| u64::from_str_radix(proc::value(&status, key)?, 16).ok();
        let (uids, gids) = (proc::numbers(&status, "Uid"), proc::numbers(&status, "Gid"));
        let user = *uids.get(1)?;
        Some(Self {
            user,
            effective: set("CapEff")?,
            permitted: set("CapPrm")?,
            inheritable: set("CapInh")?,
            bounding: set("CapBnd")?,
            uids,
            gids,
            groups: proc::numbers(&status, "Groups"),
        })
    }

    /// Returns true if all ids of a process are the user and group of this process.
    fn owns(&self, task: &Task) -> bool {
        let all = |ids: Vec<u32>, mine: &[u32]| {
            let first = mine.first();
            ids.len() >= 3 && ids.iter().take(3).all(|id| Some(id) == first)
        };
        all(task.ids("Uid"), &self.uids) && all(task.ids("Gid"), &self.gids)
    }
}
