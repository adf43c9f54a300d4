//! Landlock: the files that the process may open, and the processes that it may reach.

use std::io;
use std::os::fd::AsFd;

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use super::places::Place;
use super::raw::{self, Handled};

/// The access that a directory and everything below it is open for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Reads files and lists directories.
    Read,
    /// Also writes files that are there.
    Change,
    /// Also makes, renames and removes regular files and directories.
    Store,
}

/// Restricts this thread to the places. Returns the version of Landlock, and the places that cannot
/// be opened, with the reasons: they are out of reach from now on.
///
/// # Errors
/// The errors of the system calls. Nothing is in force then.
pub(super) fn restrict(places: &[Place]) -> io::Result<(i32, Vec<String>)> {
    let version = raw::landlock_version()?;
    let handled = handled(version);
    let ruleset = raw::new_ruleset(handled)?;
    let mut closed = Vec::new();
    for place in places {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let fd = match open(&place.path, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(error) => {
                closed.push(format!("{} is out of reach: {error}", place.path.display()));
                continue;
            }
        };
        let allowed = rights(place.access) & handled.files;
        raw::add_rule(ruleset.as_fd(), fd.as_fd(), allowed)?;
    }
    raw::restrict_self(ruleset.as_fd())?;
    Ok((version, closed))
}

/// Returns a description of the restrictions that a version of Landlock has.
pub(super) fn holds(version: i32) -> &'static str {
    match version {
        ..4 => "files",
        4..6 => "files and TCP",
        _ => "files, TCP, abstract unix sockets and signals",
    }
}

/// Everything that a version can decide about.
fn handled(version: i32) -> Handled {
    let files = match version {
        ..2 => REFER - 1,
        2 => TRUNCATE - 1,
        3..5 => IOCTL_DEV - 1,
        _ => (IOCTL_DEV << 1) - 1,
    };
    let net = if version >= 4 { BIND_TCP | CONNECT_TCP } else { 0 };
    let scoped = if version >= 6 { ABSTRACT_UNIX_SOCKET | SIGNAL } else { 0 };
    Handled { files, net, scoped }
}

fn rights(access: Access) -> u64 {
    let read = READ_FILE | READ_DIR;
    let change = read | WRITE_FILE | TRUNCATE;
    match access {
        Access::Read => read,
        Access::Change => change,
        Access::Store => change | MAKE_REG | MAKE_DIR | REMOVE_FILE | REMOVE_DIR | REFER,
    }
}

// `LANDLOCK_ACCESS_FS_*`. The first version ends before REFER, the second before TRUNCATE, the
// third and the fourth before IOCTL_DEV.
const WRITE_FILE: u64 = 1 << 1;
const READ_FILE: u64 = 1 << 2;
const READ_DIR: u64 = 1 << 3;
const REMOVE_DIR: u64 = 1 << 4;
const REMOVE_FILE: u64 = 1 << 5;
const MAKE_DIR: u64 = 1 << 7;
const MAKE_REG: u64 = 1 << 8;
const REFER: u64 = 1 << 13;
const TRUNCATE: u64 = 1 << 14;
const IOCTL_DEV: u64 = 1 << 15;

// `LANDLOCK_ACCESS_NET_*`, of version 4.
const BIND_TCP: u64 = 1 << 0;
const CONNECT_TCP: u64 = 1 << 1;

// `LANDLOCK_SCOPE_*`, of version 6.
const ABSTRACT_UNIX_SOCKET: u64 = 1 << 0;
const SIGNAL: u64 = 1 << 1;
