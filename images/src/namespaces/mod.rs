//! Namespaces that tasks lived in.

mod mounts;
mod netlink;
mod network;
mod saved;

use std::fmt;

use crate::proto::TaskKobjIdsEntry;

pub use mounts::{Mount, Mounts};
pub use network::{Address, Network, Route, Rule};
pub use saved::{Ipc, SavedNamespace};

/// A namespace of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Namespace {
    /// Kind of the namespace.
    pub kind: NamespaceKind,
    /// Id in the set. Tasks with equal ids share the namespace. Its images have the id in their
    /// names.
    pub id: u32,
    /// The namespace is CRIU's own, and not part of the checkpoint.
    pub host: bool,
}

/// Kinds of namespaces, by what they isolate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NamespaceKind {
    /// Process ids.
    Pid,
    /// Network devices, addresses and ports.
    Net,
    /// System V objects and POSIX message queues.
    Ipc,
    /// Host and domain name.
    Uts,
    /// Mounts.
    Mnt,
    /// Users, groups and capabilities.
    User,
    /// The root of the cgroup tree.
    Cgroup,
    /// Offsets of the monotonic and boot clocks.
    Time,
}

impl Namespace {
    /// Returns the namespaces that `ids` names. `host` has CRIU's own ids.
    pub(crate) fn all(ids: &TaskKobjIdsEntry, host: Option<&TaskKobjIdsEntry>) -> Vec<Self> {
        let pairs = list(ids).into_iter().zip(list(host.unwrap_or(&NONE)));
        let found = pairs.filter_map(|((kind, id), (_, host))| {
            let (id, host) = (id?, id == host);
            Some(Self { kind, id, host })
        });
        found.collect()
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, id, host } = self;
        let whose = if *host { " (host)" } else { "" };
        write!(f, "{kind} {id}{whose}")
    }
}

impl fmt::Display for NamespaceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pid => "pid",
            Self::Net => "net",
            Self::Ipc => "ipc",
            Self::Uts => "uts",
            Self::Mnt => "mnt",
            Self::User => "user",
            Self::Cgroup => "cgroup",
            Self::Time => "time",
        })
    }
}

fn list(ids: &TaskKobjIdsEntry) -> [(NamespaceKind, Option<u32>); 8] {
    [
        (NamespaceKind::Pid, ids.pid_ns_id),
        (NamespaceKind::Net, ids.net_ns_id),
        (NamespaceKind::Ipc, ids.ipc_ns_id),
        (NamespaceKind::Uts, ids.uts_ns_id),
        (NamespaceKind::Mnt, ids.mnt_ns_id),
        (NamespaceKind::User, ids.user_ns_id),
        (NamespaceKind::Cgroup, ids.cgroup_ns_id),
        (NamespaceKind::Time, ids.time_ns_id),
    ]
}

/// Ids of a task without namespaces.
const NONE: TaskKobjIdsEntry = TaskKobjIdsEntry {
    vm_id: 0,
    files_id: 0,
    fs_id: 0,
    sighand_id: 0,
    pid_ns_id: None,
    net_ns_id: None,
    ipc_ns_id: None,
    uts_ns_id: None,
    mnt_ns_id: None,
    user_ns_id: None,
    cgroup_ns_id: None,
    time_ns_id: None,
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_the_hosts_when_criu_had_the_same() {
        let criu = TaskKobjIdsEntry { pid_ns_id: Some(1), net_ns_id: Some(2), ..NONE };
        let task = TaskKobjIdsEntry { pid_ns_id: Some(9), ..criu };
        let names = |host| {
            let all = Namespace::all(&task, host);
            all.iter().map(Namespace::to_string).collect::<Vec<_>>()
        };
        assert_eq!(names(Some(&criu)), ["pid 9", "net 2 (host)"]);
        assert_eq!(names(None), ["pid 9", "net 2"]);
    }
}
