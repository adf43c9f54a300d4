//! Descriptors that a command line names by number.

use std::fs::File;
use std::os::fd::{OwnedFd, RawFd};

use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout};

use crate::fault::Fault;

/// Duplicates the descriptor that an option names by number.
///
/// The kernel looks the number up as for another process (`pidfd_getfd(2)`, Linux 5.6), so that
/// nothing here claims to own a descriptor that somebody else gave.
///
/// # Errors
/// Fails if there is no such descriptor.
pub(crate) fn by_number(option: &str, number: RawFd) -> Result<OwnedFd, Fault> {
    let own = pidfd_open(getpid(), PidfdFlags::empty());
    own.and_then(|own| pidfd_getfd(own, number, PidfdGetfdFlags::empty())).map_err(|error| {
        let why = std::io::Error::from(error);
        Fault::usage(format!("{option} {number}: cannot use the descriptor: {why}"))
    })
}

/// Opens `/dev/null` in the place of a standard stream.
pub(crate) fn to_null(number: RawFd) -> Result<(), Fault> {
    let failed = |source| Fault::system(format!("close descriptor {number}"), source);
    let null = File::options().read(true).write(true).open("/dev/null").map_err(failed)?;
    let done = match number {
        0 => dup2_stdin(null),
        1 => dup2_stdout(null),
        _ => dup2_stderr(null),
    };
    done.map_err(|errno| failed(errno.into()))
}
