//! The loopback interface, which CRIU needs to find out what the kernel can do, and copies need in
//! a network of their own.

use std::io;
use std::path::PathBuf;

use nix::sys::socket::SockProtocol;

use super::netlink::{ACK, Socket, request, word};

/// Returns true if the loopback interface of this thread's network namespace is down. A kernel that
/// does not answer says nothing: false.
pub(crate) fn is_down() -> bool {
    flags().is_ok_and(|flags| flags.is_some_and(|flags| flags & UP == 0))
}

/// Starts the loopback interface of this thread's network namespace.
///
/// # Errors
/// The errno with which the kernel refuses that.
pub(crate) fn bring_up() -> io::Result<()> {
    let socket = Socket::open(SockProtocol::NetlinkRoute)?;
    let mut body = about_loopback();
    // The flags, and which of them are meant.
    body[8..12].copy_from_slice(&UP.to_ne_bytes());
    body[12..].copy_from_slice(&UP.to_ne_bytes());
    socket.send(&request(NEW_LINK, ACK, &body))?;
    socket.hear_one(|_, _| true)
}

/// Returns the file in which an earlier criu has kept its findings about the kernel. `None` if the
/// file does not exist: criu then connects over the loopback interface.
///
/// An unprivileged criu has the file in `$XDG_RUNTIME_DIR` and nowhere else, any other criu has it
/// in `/run` (`get_kerndat_filename` in CRIU's `kerndat.c`).
pub(crate) fn findings(unprivileged: bool) -> Option<PathBuf> {
    let folder = if unprivileged {
        PathBuf::from(std::env::var_os("XDG_RUNTIME_DIR")?)
    } else {
        PathBuf::from("/run")
    };
    Some(folder.join("criu.kdat")).filter(|file| file.exists())
}

fn flags() -> io::Result<Option<u32>> {
    let socket = Socket::open(SockProtocol::NetlinkRoute)?;
    socket.send(&request(GET_LINK, 0, &about_loopback()))?;
    let mut found = None;
    socket.hear(|_, body| {
        found = body.get(8..).and_then(word);
        false
    })?;
    Ok(found)
}

/// Returns the body of a request: family, padding, type, index, flags, change. Loopback is the
/// first interface of a namespace.
fn about_loopback() -> [u8; 16] {
    let mut body = [0; 16];
    body[4..8].copy_from_slice(&1i32.to_ne_bytes());
    body
}

/// `RTM_NEWLINK`.
const NEW_LINK: u16 = 16;

/// `RTM_GETLINK`.
const GET_LINK: u16 = 18;

/// `IFF_UP`.
const UP: u32 = 1;
