//! Requirements of namespaces: those to make, file systems, and programs that CRIU calls.

use std::collections::BTreeSet;

use super::Requirement;
use crate::checkpoint::Checkpoint;
use crate::error::Result;
use crate::kind::{self, Kind};
use crate::namespaces::NamespaceKind;
use crate::proto::UsernsEntry;

/// A namespace that a restore makes.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct NewNamespace {
    /// Kind of the namespace.
    pub kind: NamespaceKind,
    /// Id of the namespace in the set.
    pub id: u32,
    /// Ids of users and groups, of a user namespace.
    pub users: Option<UsernsEntry>,
    /// A task that is in the namespace while the tree's root is not in a namespace of this kind of
    /// its own. CRIU cannot restore such a task.
    pub nested: Option<u32>,
}

/// A file system that a restore mounts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct FileSystem {
    /// Kind of file system, such as `tmpfs`.
    pub kind: String,
    /// The device, or any word.
    pub source: String,
    /// Mount point in the tree.
    pub target: String,
}

/// The place of a mount in the tree, which must be there to be mounted on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct MountPoint {
    /// The path in the tree.
    pub target: Vec<u8>,
    /// Id of the mount that the path belongs to.
    pub mount: u32,
}

/// A program that CRIU calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Program {
    /// `ip`, for addresses, routes and rules.
    Ip,
    /// `iptables-restore`, for packet filters.
    IptablesRestore,
    /// `ip6tables-restore`, for packet filters.
    Ip6tablesRestore,
    /// `tar`, for the content of file systems in memory.
    Tar,
}

impl Program {
    /// Returns the name of the program.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ip => "ip",
            Self::IptablesRestore => "iptables-restore",
            Self::Ip6tablesRestore => "ip6tables-restore",
            Self::Tar => "tar",
        }
    }

    /// Returns the purpose of the program.
    #[must_use]
    pub fn purpose(self) -> &'static str {
        match self {
            Self::Ip => "addresses, routes and rules of the network namespace",
            Self::IptablesRestore | Self::Ip6tablesRestore => {
                "packet filters of the network namespace"
            }
            Self::Tar => "the content of file systems in memory",
        }
    }
}

pub(super) fn walk(checkpoint: Checkpoint<'_>, all: &mut Vec<Requirement>) -> Result<()> {
    let names = checkpoint.store().names()?;
    let holds = |kind: &'static Kind| {
        names.iter().any(|name| Kind::of_file(name).is_some_and(|(found, _)| found == kind))
    };
    let root = checkpoint.root().namespaces()?;
    let own = |kind| root.iter().any(|of| of.kind == kind && !of.host);
    let mut programs = BTreeSet::new();
    for saved in checkpoint.namespaces()? {
        let namespace = saved.namespace();
        if namespace.host || saved.external()?.is_some() {
            continue;
        }
        let is_root = root.contains(&namespace);
        // CRIU makes further namespaces of these kinds if the root has one of its own.
        let may_differ = matches!(namespace.kind, NamespaceKind::Mnt | NamespaceKind::Net);
        let is_nested = !(is_root || may_differ && own(namespace.kind));
        let nested = if is_nested && counts(namespace.kind) { saved.pids().first() } else { None };
        all.push(Requirement::Namespace(NewNamespace {
            kind: namespace.kind,
            id: namespace.id,
            users: saved.users()?,
            nested: nested.copied(),
        }));
        if let Some(network) = saved.network()? {
            let filters = [
                (&network.iptables, Program::IptablesRestore),
                (&network.ip6tables, Program::Ip6tablesRestore),
            ];
            programs.extend(filters.iter().filter(|(text, _)| !text.is_empty()).map(|of| of.1));
        }
        if let Some(mounts) = saved.mounts()? {
            for mount in mounts.iter().filter(|mount| mount.depth > 0) {
                let (target, mount) = (mount.entry.mountpoint.clone(), mount.entry.parent_mnt_id);
                all.push(Requirement::MountPoint(MountPoint { target, mount }));
            }
            for mount in mounts.iter().filter(|mount| mount.external().is_none()) {
                let (kind, source) = (mount.fs().to_string(), mount.source().to_string());
                let target = mount.target().to_string();
                // The root of the namespace is there already.
                if target != "/" {
                    all.push(Requirement::FileSystem(FileSystem { kind, source, target }));
                }
            }
        }
    }
    if [kind::IFADDR, kind::ROUTE, kind::ROUTE6, kind::RULE].into_iter().any(holds) {
        programs.insert(Program::Ip);
    }
    if holds(kind::TMPFS) || holds(kind::TMPFS_DEV) {
        programs.insert(Program::Tar);
    }
    all.extend(programs.into_iter().map(Requirement::Program));
    Ok(())
}

/// Returns true for kinds of namespaces in which CRIU looks for nested ones.
fn counts(kind: NamespaceKind) -> bool {
    !matches!(kind, NamespaceKind::Cgroup)
}
