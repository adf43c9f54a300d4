//! The service manager that may have started this program: its socket, and what it is told.

use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use crate::fault::Fault;
use crate::fd::by_number;

/// Returns the socket that the manager has handed over (`LISTEN_FDS` of `sd_listen_fds(3)`).
///
/// # Errors
/// Fails for more than one socket, and for a descriptor that is not open.
pub(super) fn socket() -> Result<Option<OwnedFd>, Fault> {
    let number = |name: &str| -> Option<u32> { std::env::var(name).ok()?.parse().ok() };
    // The variables may be meant for a process that has started this one.
    if number("LISTEN_PID") != Some(std::process::id()) {
        return Ok(None);
    }
    match number("LISTEN_FDS") {
        None | Some(0) => Ok(None),
        Some(1) => by_number("LISTEN_FDS: descriptor", FIRST).map(Some),
        Some(count) => Err(Fault::usage(format!("LISTEN_FDS: expected one socket, found {count}"))),
    }
}

/// Tells the manager a state, such as `READY=1`. Nothing is told if no manager asks for it.
pub(super) fn tell(state: &str) {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let name = name.to_string_lossy();
    let address = match name.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&*name),
    };
    // A manager that does not listen waits for its own time-out, and says so.
    let _ = address
        .and_then(|address| UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address));
}

/// `SD_LISTEN_FDS_START`.
const FIRST: i32 = 3;
