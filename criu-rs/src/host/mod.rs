//! Reads of the live machine: process trees, namespaces, mounts, netlink, file locks and seccomp
//! filters.

pub(crate) mod held;
pub(crate) mod holders;
mod locks;
pub(crate) mod loopback;
#[cfg(feature = "oci")]
mod mount_space;
mod mountinfo;
pub(crate) mod namespaces;
pub(crate) mod netlink;
pub(crate) mod next_id;
mod own_thread;
mod seccomp;
#[cfg(feature = "pages")]
pub(crate) mod socket_owner;
pub(crate) mod tree;

pub(crate) use held::Held;
pub use holders::{LiveHolder, OwnerState};
pub use locks::{FileLock, LockError, LockKind, LockProblem, LockState};
#[cfg(feature = "oci")]
pub(crate) use mount_space::MountSpace;
pub(crate) use mountinfo::MountInfo;
pub(crate) use namespaces::Namespaces;
pub use namespaces::NestedNamespace;
pub(crate) use own_thread::in_a_thread;
pub use seccomp::{
    SeccompChange, SeccompDifference, SeccompFilter, SeccompMode, SeccompState, ThreadSeccomp,
};
