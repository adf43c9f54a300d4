//! System calls: with `transport/libcriu`, the only code of this crate that uses `unsafe`.

pub(crate) mod fd;
#[cfg(any(feature = "instant", feature = "lazy"))]
pub(crate) mod guard;
pub(crate) mod holders;
#[cfg(any(feature = "instant", feature = "lazy"))]
mod list;
pub(crate) mod mounts;
#[cfg(feature = "instant")]
pub(crate) mod pagemap;
pub(crate) mod proc;
pub(crate) mod ptrace;
pub(crate) mod random;
mod raw;
#[cfg(feature = "pages")]
pub(crate) mod scheduling;
pub(crate) mod seqpacket;
#[cfg(feature = "instant")]
pub(crate) mod shared;
pub(crate) mod spawn;
#[cfg(feature = "lazy")]
pub(crate) mod stream;
pub(crate) mod table;
mod text;
#[cfg(feature = "lazy")]
pub(crate) mod turn;
#[cfg(feature = "lazy")]
pub(crate) mod uffd;

use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::PathBuf;

/// Returns the link in /proc to a descriptor's file.
pub(crate) fn proc_link(fd: BorrowedFd<'_>) -> PathBuf {
    format!("/proc/self/fd/{}", fd.as_raw_fd()).into()
}
