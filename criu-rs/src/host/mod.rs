//! Reads of the live machine: process trees, namespaces, mounts, netlink, file locks, seccomp filters.

mod locks;
mod mountinfo;
pub(crate) mod namespaces;
pub(crate) mod netlink;
mod seccomp;
pub(crate) mod tree;

pub use locks::{FileLock, LockError, LockKind, LockProblem, LockState};
pub(crate) use mountinfo::MountInfo;
pub(crate) use namespaces::Namespaces;
pub use namespaces::NestedNamespace;
pub use seccomp::{
    SeccompChange, SeccompDifference, SeccompFilter, SeccompMode, SeccompState, ThreadSeccomp,
};
