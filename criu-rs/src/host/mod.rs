//! A live machine, read: process trees, mounts, sockets, seccomp filters.

mod mountinfo;
pub(crate) mod netlink;
mod seccomp;
pub(crate) mod tree;

pub(crate) use mountinfo::MountInfo;
pub use seccomp::{
    SeccompChange, SeccompDifference, SeccompFilter, SeccompMode, SeccompState, ThreadSeccomp,
};
