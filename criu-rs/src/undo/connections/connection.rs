//! The socket of a TCP connection that a task holds.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use nix::sys::socket::{getsockopt, setsockopt, sockopt};
use nix::sys::stat::fstat;
use procfs::net::TcpState;
use procfs::process::Process;

use crate::sys::fd;
use crate::value::Pid;

/// A TCP connection, and the place of its socket.
#[derive(Debug)]
pub(super) struct Connection {
    /// Both ends, this one first. An IPv4 address in an IPv6 socket counts as an IPv4 address.
    pub(super) ends: Ends,
    inode: u64,
    /// The process and the number of its descriptor.
    place: (Pid, i32),
    /// The value of `SO_REUSEADDR` before the dump. Repair mode clears it.
    pub(super) was_reused: bool,
    /// True if the socket was already in repair mode, by a dump that has left its tasks stopped.
    pub(super) was_in_repair: bool,
}

/// The address and port of both ends, this end first.
pub(super) type Ends = [(IpAddr, u16); 2];

/// The ends of all connected TCP sockets in the network of a process, by inode.
pub(super) fn connected(process: &Process) -> HashMap<u64, Ends> {
    let tables = [process.tcp(), process.tcp6()];
    let all = tables.into_iter().flatten().flatten();
    let connected =
        all.filter(|entry| !matches!(entry.state, TcpState::Listen | TcpState::TimeWait));
    let end = |address: SocketAddr| (address.ip().to_canonical(), address.port());
    connected
        .map(|entry| (entry.inode, [end(entry.local_address), end(entry.remote_address)]))
        .collect()
}

impl Connection {
    pub(super) fn new(ends: Ends, inode: u64, place: (Pid, i32)) -> Self {
        let mut new = Self { ends, inode, place, was_reused: false, was_in_repair: false };
        if let Some(socket) = new.socket() {
            new.was_reused = getsockopt(&socket, sockopt::ReuseAddr).unwrap_or(false);
            new.was_in_repair = is_in_repair(&socket);
        }
        new
    }

    fn socket(&self) -> Option<OwnedFd> {
        let (pid, number) = self.place;
        let socket = fd::copy_of(pid.nix(), number).ok()?;
        // The task may have opened something else there.
        (fstat(&socket).ok()?.st_ino == self.inode).then_some(socket)
    }

    /// Takes the socket out of repair mode.
    pub(super) fn end_repair(&self) {
        let Some(socket) = self.socket() else { return };
        if is_in_repair(&socket) {
            let _ = setsockopt(&socket, sockopt::TcpRepair, &0);
        }
    }

    /// Sets `SO_REUSEADDR` to `on`.
    pub(super) fn reuse(&self, on: bool) {
        let Some(socket) = self.socket() else { return };
        if getsockopt(&socket, sockopt::ReuseAddr).is_ok_and(|now| now != on) {
            let _ = setsockopt(&socket, sockopt::ReuseAddr, &on);
        }
    }
}

fn is_in_repair(socket: &OwnedFd) -> bool {
    getsockopt(socket, sockopt::TcpRepair).is_ok_and(|mode| mode != 0)
}
