//! Descriptors that a command line names by number.

use std::os::fd::{OwnedFd, RawFd};

use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

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
