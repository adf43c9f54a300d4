//! Namespaces of a tree, and those that CRIU cannot give back.

use std::collections::BTreeMap;
use std::fs;

use super::tree;
use crate::value::Pid;

/// The kinds of namespaces that a process is in, as `/proc` names them.
pub(crate) const KINDS: [&str; 8] = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];

/// The time namespace of the children that a process will have.
const TIME_FOR_CHILDREN: &str = "time_for_children";

/// Returns `true` if a process is in another user namespace than this process. `false` also if that
/// cannot be read.
pub(crate) fn in_user_namespace(pid: Pid) -> bool {
    let theirs = Namespaces::of(pid).inodes.get("user").copied();
    theirs.is_some() && theirs != Namespaces::of(Pid::this()).inodes.get("user").copied()
}

/// A process in a namespace that CRIU cannot give back: the root of the tree is in another, and
/// CRIU restores the whole tree in the root's.
///
/// CRIU restores a second mount or network namespace of a tree only if the root has a namespace of
/// that kind of its own, apart from criu's. Of every other kind, all processes have to be in the
/// root's namespace. CRIU dumps some trees that break these rules, but does not restore them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "process {pid} is in the {kind} namespace {inode}, which is {whose}; no restore could bring \
     the tree back"
)]
#[non_exhaustive]
pub struct NestedNamespace {
    /// The process, by its id in the pid namespace of this process.
    pub pid: Pid,
    /// The kind of the namespace, as `/proc/PID/ns` names it, such as `mnt`.
    pub kind: &'static str,
    /// The inode of the namespace.
    pub inode: u64,
    whose: &'static str,
}

impl NestedNamespace {
    /// The relation of the namespace to those of the root and of criu, as a phrase.
    pub fn whose(&self) -> &'static str {
        self.whose
    }

    /// The first such process of a tree that a criu would dump. `None` also if namespaces cannot be
    /// read.
    pub(crate) fn find(root: Pid, criu: Pid) -> Option<Self> {
        let (here, of_root) = (Namespaces::of(criu), Namespaces::of(root));
        let mut tasks = tree::descendants(root).into_iter().map(|pid| (pid, Namespaces::of(pid)));
        tasks.find_map(|(pid, task)| task.nested(pid, &of_root, &here).into_iter().next())
    }
}

/// The namespaces of a process, by kind. A kind is left out if it cannot be read: the process has
/// ended, or belongs to another user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Namespaces {
    inodes: BTreeMap<&'static str, u64>,
}

impl Namespaces {
    pub(crate) fn of(pid: Pid) -> Self {
        let kinds = KINDS.into_iter().chain([TIME_FOR_CHILDREN]);
        let inode = |kind| Some((kind, number(&format!("/proc/{pid}/ns/{kind}"))?));
        Self { inodes: kinds.filter_map(inode).collect() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.inodes.is_empty()
    }

    pub(crate) fn get(&self, kind: &str) -> Option<u64> {
        self.inodes.get(kind).copied()
    }

    /// The namespaces of this process that no restore of the tree gives back.
    pub(crate) fn nested(&self, pid: Pid, root: &Self, here: &Self) -> Vec<NestedNamespace> {
        let nested = |kind, inode, whose| NestedNamespace { pid, kind, inode, whose };
        let mut found = Vec::new();
        for kind in KINDS {
            let (Some(own), Some(of_root)) = (self.get(kind), root.get(kind)) else { continue };
            let Some(whose) = (own != of_root).then(|| fault(kind, own, of_root, here)).flatten()
            else {
                continue;
            };
            found.push(nested(kind, own, whose));
        }
        let children = self.get(TIME_FOR_CHILDREN).filter(|&inode| Some(inode) != self.get("time"));
        if let (Some(inode), true) = (children, found.is_empty()) {
            found.push(nested(TIME_FOR_CHILDREN, inode, "not the one that it is in itself"));
        }
        found
    }
}

/// Says why a namespace that is not the root's cannot be given back.
fn fault(kind: &str, own: u64, of_root: u64, here: &Namespaces) -> Option<&'static str> {
    let here = here.get(kind)?;
    match kind {
        "mnt" | "net" if of_root == here => {
            Some("its own, and CRIU restores it only if the root has one of its own, too")
        }
        _ if own == here => Some("criu's and not the root's"),
        "mnt" | "net" => None,
        _ => Some("not the root's"),
    }
}

/// Reads the number in a link such as `net:[4026531840]`.
pub(crate) fn number(path: &str) -> Option<u64> {
    let link = fs::read_link(path).ok()?;
    let (_, number) = link.to_str()?.split_once(":[")?;
    number.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(kinds: &[(&'static str, u64)]) -> Namespaces {
        let all = KINDS.into_iter().chain([TIME_FOR_CHILDREN]).map(|kind| (kind, 1));
        Namespaces { inodes: all.chain(kinds.iter().copied()).collect() }
    }

    /// The kinds that are at fault, for the namespaces of the root and of a child that differ from
    /// criu's.
    fn faults(root: &[(&'static str, u64)], child: &[(&'static str, u64)]) -> Vec<&'static str> {
        let found = with(child).nested(Pid::this(), &with(root), &with(&[]));
        found.iter().map(|nested| nested.kind).collect()
    }

    #[test]
    fn a_namespace_is_nested_where_criu_gives_none_back() {
        for kind in ["mnt", "net"] {
            assert_eq!(faults(&[], &[(kind, 2)]), [kind]);
            assert_eq!(faults(&[(kind, 2)], &[(kind, 2)]), [""; 0]);
            assert_eq!(faults(&[(kind, 2)], &[(kind, 3)]), [""; 0]);
            assert_eq!(faults(&[(kind, 2)], &[]), [kind]);
        }
        assert_eq!(faults(&[("net", 2)], &[("net", 2), ("mnt", 2)]), ["mnt"]);
        for kind in ["cgroup", "ipc", "pid", "user", "uts"] {
            assert_eq!(faults(&[], &[(kind, 2)]), [kind]);
            assert_eq!(faults(&[(kind, 2)], &[(kind, 2)]), [""; 0]);
            assert_eq!(faults(&[(kind, 2)], &[(kind, 3)]), [kind]);
            assert_eq!(faults(&[(kind, 2)], &[]), [kind]);
        }
        let time = |inode| [("time", inode), (TIME_FOR_CHILDREN, inode)];
        assert_eq!(faults(&time(2), &time(2)), [""; 0]);
        assert_eq!(faults(&time(2), &[]), ["time"]);
        assert_eq!(faults(&[], &[(TIME_FOR_CHILDREN, 2)]), [TIME_FOR_CHILDREN]);
    }

    #[test]
    fn a_process_that_shows_no_namespace_is_left_out() {
        let (none, here) = (Namespaces::default(), with(&[]));
        assert!(none.is_empty() && none.nested(Pid::this(), &here, &here).is_empty());
        assert_eq!(Namespaces::of(Pid::this()).nested(Pid::this(), &none, &here), []);
        assert_eq!(NestedNamespace::find(Pid::this(), Pid::this()), None);
    }
}
