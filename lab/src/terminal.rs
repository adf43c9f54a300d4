//! Pseudo terminals.

use std::fs;
use std::os::fd::OwnedFd;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use crate::mounts::OwnMounts;

/// A pseudo terminal. Nobody inherits its ends by accident.
#[derive(Debug)]
pub struct Terminal {
    /// The end of whoever shows the terminal.
    pub master: fs::File,
    /// The end that programs have.
    pub slave: OwnedFd,
    /// The path of the slave.
    pub path: String,
}

impl Terminal {
    /// Opens a terminal in a `/dev/pts` of this thread's own.
    pub fn open() -> Self {
        own_terminals();
        let pty = nix::pty::openpty(None, None).unwrap();
        for fd in [&pty.master, &pty.slave] {
            fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).unwrap();
        }
        let path = nix::unistd::ttyname(&pty.slave).unwrap().into_os_string();
        let path = path.into_string().unwrap();
        Self { master: pty.master.into(), slave: pty.slave, path }
    }
}

/// Gives this thread and its children a `/dev/pts` of their own, without a terminal.
///
/// A restored terminal gets the number that it had, and a new one the lowest that is free: on a
/// shared `/dev/pts` somebody else may have taken the number.
pub fn own_terminals() {
    let own = OwnMounts::enter();
    own.fresh_with("devpts", "/dev/pts", "newinstance,ptmxmode=0666");
}
