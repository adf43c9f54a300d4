//! Checks that namespaces of the tree have their images.

use super::findings::{Findings, Severity};
use crate::checkpoint::Checkpoint;
use crate::error::{Error, ErrorKind, Result};
use crate::kind::{self, Kind};
use crate::namespaces::NamespaceKind;
use crate::store::Store;

/// Checks the images of namespaces that belong to the tree.
pub(super) fn check_namespaces(checkpoint: Checkpoint<'_>, findings: &mut Findings) {
    let store = checkpoint.store();
    for saved in findings.take(checkpoint.namespaces()).unwrap_or_default() {
        let namespace = saved.namespace();
        let kind = match namespace.kind {
            _ if namespace.host => continue,
            NamespaceKind::Net => kind::NETNS,
            NamespaceKind::Ipc => kind::IPC_VAR,
            NamespaceKind::Uts => kind::UTSNS,
            NamespaceKind::Mnt => kind::MNTS,
            NamespaceKind::User => kind::USERNS,
            NamespaceKind::Time => kind::TIMENS,
            NamespaceKind::Pid | NamespaceKind::Cgroup => continue,
        };
        let id = namespace.id.into();
        let is_there = findings.take(has(store, kind, id)).unwrap_or(true);
        if !is_there {
            check_missing(store, kind, id, findings);
        }
        findings.take(saved.mounts());
        findings.take(saved.network());
        findings.take(saved.ipc());
    }
}

/// Judges the absence of a namespace's main image. `dump --empty-ns net`, which every dump by runc
/// uses, saves nothing of a network namespace, and a restore succeeds without its images.
fn check_missing(store: &Store, kind: &'static Kind, id: u64, findings: &mut Findings) {
    let name = kind.file_name(id);
    let mut is_saved = |part| findings.take(has(store, part, id)).unwrap_or(false);
    if kind == kind::NETNS && !NETWORK.iter().any(|part| is_saved(part)) {
        let what = "is absent: the network namespace was saved empty, a restore must set it up";
        findings.add(Severity::Note, Error::new(name, ErrorKind::Malformed(what)));
    } else {
        findings.error(Error::new(name, ErrorKind::Missing));
    }
}

fn has(store: &Store, kind: &'static Kind, id: u64) -> Result<bool> {
    Ok(store.level().size(&kind.file_name(id))?.is_some())
}

/// Images that a network namespace has beside its main image, unless it was saved empty. Tracked
/// connections are saved in both cases, so they are not in the list.
const NETWORK: [&Kind; 8] = [
    kind::NETDEV,
    kind::IFADDR,
    kind::ROUTE,
    kind::ROUTE6,
    kind::RULE,
    kind::IPTABLES,
    kind::IP6TABLES,
    kind::NFTABLES,
];
