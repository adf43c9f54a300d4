//! Unix sockets of a network namespace and their peers, from the kernel's sock_diag.

use std::collections::HashMap;
use std::fs::File;
use std::io;

use nix::sched::{CloneFlags, setns};
use nix::sys::socket::SockProtocol;

use super::proc;
use crate::host::netlink;
use crate::host::netlink::{Socket, attributes, word};
use crate::value::Pid;

/// A unix socket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Unix {
    /// The socket type, such as `SOCK_STREAM`.
    pub(super) kind: u8,
    pub(super) state: u8,
    pub(super) has_name: bool,
    /// The inode of the peer.
    pub(super) peer: Option<u32>,
}

/// The unix sockets of the network namespace of a process, by inode.
pub(super) fn unix(of: Pid, is_here: bool) -> io::Result<HashMap<u64, Unix>> {
    if is_here {
        return ask();
    }
    let namespace = File::open(proc::of(of, "ns/net"))?;
    // The namespace of a thread lasts until the thread ends, and this thread ends at once.
    let thread = std::thread::Builder::new().spawn(move || {
        setns(&namespace, CloneFlags::CLONE_NEWNET)?;
        ask()
    })?;
    thread.join().unwrap_or_else(|_| Err(io::Error::other("a thread panicked")))
}

fn ask() -> io::Result<HashMap<u64, Unix>> {
    let socket = Socket::open(SockProtocol::NetlinkSockDiag)?;
    socket.send(&request())?;
    let mut found = HashMap::new();
    socket.hear(|_, body| {
        found.extend(entry(body));
        found.len() <= MAX_SOCKETS
    })?;
    Ok(found)
}

/// A request for all unix sockets with their names and peers.
fn request() -> Vec<u8> {
    let mut body = Vec::new();
    // Family, protocol, padding; states; inode; attributes to show (name and peer); cookie.
    body.extend([1, 0, 0, 0]);
    body.extend(u32::MAX.to_ne_bytes());
    body.extend([0; 4]);
    body.extend(0b101u32.to_ne_bytes());
    body.extend([0xff; 8]);
    netlink::request(SOCK_DIAG_BY_FAMILY, netlink::DUMP, &body)
}

fn entry(body: &[u8]) -> Option<(u64, Unix)> {
    let inode = word(body.get(4..)?)?;
    let mut socket =
        Unix { kind: *body.get(1)?, state: *body.get(2)?, has_name: false, peer: None };
    for (kind, value) in attributes(body.get(16..)?) {
        match kind {
            NAME => socket.has_name = !value.is_empty(),
            PEER => socket.peer = word(value).filter(|&inode| inode != 0),
            _ => {}
        }
    }
    Some((inode.into(), socket))
}

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NAME: u16 = 0;
const PEER: u16 = 2;

/// Most sockets of a namespace that are listed.
const MAX_SOCKETS: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;
    use std::os::linux::fs::MetadataExt;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_pair_knows_its_peers() {
        let (left, right) = UnixStream::pair().unwrap();
        let inode = |socket: &UnixStream| {
            let path = format!("/proc/self/fd/{}", socket.as_raw_fd());
            std::fs::metadata(path).unwrap().st_ino()
        };
        let all = unix(Pid::this(), true).unwrap();
        let of = all.get(&inode(&left)).unwrap();
        assert_eq!(of.peer.map(u64::from), Some(inode(&right)));
        assert_eq!((of.kind, of.state, of.has_name), (1, 1, false));
    }

    #[test]
    fn truncated_answers_end() {
        assert!(entry(&[0; 15]).is_none());
        let mut body = vec![0; 16];
        body.extend([2, 0, 2, 0]);
        assert_eq!(entry(&body).unwrap().1.peer, None, "an attribute shorter than its head");
    }
}
