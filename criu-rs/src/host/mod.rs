//! Reads of the live machine: process trees, mounts, netlink, seccomp filters.

mod mountinfo;
pub(crate) mod netlink;
mod seccomp;
pub(crate) mod tree;

pub(crate) use mountinfo::MountInfo;
pub use seccomp::{
    SeccompChange, SeccompDifference, SeccompFilter, SeccompMode, SeccompState, ThreadSeccomp,
};
