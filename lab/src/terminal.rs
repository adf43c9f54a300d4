//! Pseudo terminals.

use std::fs;
use std::os::fd::OwnedFd;

use nix::fcntl::{FcntlArg, FdFlag, Flock, fcntl};

use crate::place::alone;

/// A pseudo terminal. Nobody inherits its ends by accident. No other test has one meanwhile,
/// because a restored terminal gets the number it had.
#[derive(Debug)]
pub struct Terminal {
    /// The end of whoever shows the terminal.
    pub master: fs::File,
    /// The end that programs have.
    pub slave: OwnedFd,
    /// The path of the slave.
    pub path: String,
    /// Keeps other tests from having one.
    pub alone: Flock<fs::File>,
}

impl Terminal {
    /// Opens a terminal, once no other test has one.
    pub fn open() -> Self {
        let alone = alone("terminal");
        let pty = nix::pty::openpty(None, None).unwrap();
        for fd in [&pty.master, &pty.slave] {
            fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).unwrap();
        }
        let path = nix::unistd::ttyname(&pty.slave).unwrap().into_os_string();
        let path = path.into_string().unwrap();
        Self { master: pty.master.into(), slave: pty.slave, path, alone }
    }
}
