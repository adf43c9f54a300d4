//! Reads of the live machine: process trees, namespaces, mounts, netlink, seccomp filters.

mod mountinfo;
pub(crate) mod namespaces;
pub(crate) mod netlink;
mod seccomp;
pub(crate) mod tree;

pub(crate) use mountinfo::MountInfo;
pub(crate) use namespaces::Namespaces;
pub use namespaces::NestedNamespace;
pub use seccomp::{
    SeccompChange, SeccompDifference, SeccompFilter, SeccompMode, SeccompState, ThreadSeccomp,
};
