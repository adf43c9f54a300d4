//! System calls: the only folder of this crate with `unsafe` code in it.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::PathBuf;

pub(crate) mod fd;
pub(crate) mod ptrace;
pub(crate) mod seqpacket;
pub(crate) mod spawn;

/// The link to a descriptor's file in /proc.
pub(crate) fn proc_link(fd: BorrowedFd<'_>) -> PathBuf {
    format!("/proc/self/fd/{}", fd.as_raw_fd()).into()
}
