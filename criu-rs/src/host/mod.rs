//! Reads of the live machine: process trees, mounts, netlink, seccomp filters.

#[cfg(feature = "oci")]
mod mount_space;
mod mountinfo;
pub(crate) mod netlink;
mod seccomp;
pub(crate) mod tree;

#[cfg(feature = "oci")]
pub(crate) use mount_space::MountSpace;
pub(crate) use mountinfo::MountInfo;
pub use seccomp::{
    SeccompChange, SeccompDifference, SeccompFilter, SeccompMode, SeccompState, ThreadSeccomp,
};
