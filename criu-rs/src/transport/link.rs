//! A connection to one criu.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::sys::socket::{Shutdown, getsockopt, shutdown, sockopt};

use super::handed::Handed;
#[cfg(feature = "libcriu")]
use super::libcriu::Served;
use super::subject::Subject;
use super::worker::Worker;
use crate::bounds;
use crate::error::{Error, Result};
use crate::host::tree;
use crate::rpc::ProtocolError;
use crate::sys::seqpacket::{self, Packet, Received};
use crate::value::Pid;

/// A connection to one criu.
#[derive(Debug)]
pub(crate) struct Link {
    /// The socket on which requests and replies travel.
    pub(super) socket: OwnedFd,
    /// The worker, if this process started one.
    pub(crate) worker: Option<Worker>,
    /// Descriptors kept open until CRIU no longer needs them.
    pub(super) handed: Handed,
    /// The libcriu thread, which checks requests before they are sent.
    #[cfg(feature = "libcriu")]
    pub(super) served: Option<Served>,
}

/// A look at the connection.
#[derive(Debug)]
pub(crate) enum Heard {
    /// A packet.
    Packet(Packet),
    /// No packet has come yet.
    Nothing,
    /// CRIU has closed the connection.
    Closed,
}

impl Link {
    /// Sends a request or an answer.
    pub(crate) fn send(&self, packet: &[u8]) -> std::io::Result<()> {
        #[cfg(feature = "libcriu")]
        if let Some(served) = &self.served {
            served.check(packet).map_err(std::io::Error::other)?;
        }
        seqpacket::send(&self.socket, packet)
    }

    /// Returns the next packet from CRIU if there is one, never waiting.
    pub(crate) fn receive(&self) -> Result<Heard> {
        let received = seqpacket::receive(&self.socket, bounds::length(&bounds::PACKET))
            .map_err(|source| Error::system("receive from criu", source))?;
        match received {
            Received::Packet(packet) => Ok(Heard::Packet(packet)),
            Received::Nothing => Ok(Heard::Nothing),
            Received::Closed => Ok(Heard::Closed),
            Received::TooLarge(size) => {
                Err(ProtocolError::TooLarge { size, limit: bounds::length(&bounds::PACKET) }.into())
            }
        }
    }

    /// Returns the start time of the worker or the libcriu thread, in the kernel's ticks.
    pub(crate) fn since(&self) -> Option<u64> {
        #[cfg(feature = "libcriu")]
        if let Some(served) = &self.served {
            return served.since;
        }
        self.pid().and_then(tree::started_at)
    }

    /// Notes the worker's subject, so that ending the worker early does no harm.
    pub(crate) fn protect(&mut self, subject: Subject) {
        if let Some(worker) = &mut self.worker {
            worker.subject = subject;
        }
    }

    /// Says whether CRIU's process ids mean the same processes here. A service can be in another
    /// pid namespace.
    pub(crate) fn numbers_processes_as_here(&self) -> bool {
        if self.worker.is_some() {
            return true;
        }
        let namespace = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let peer = getsockopt(&self.socket, sockopt::PeerCredentials);
        peer.is_ok_and(|peer| {
            let theirs = namespace(&peer.pid().to_string());
            theirs.is_some() && theirs == namespace("self")
        })
    }

    /// Returns the criu that does the work, if known; otherwise this process, whose child that criu
    /// may be.
    pub(crate) fn criu(&self) -> Pid {
        let peer = || getsockopt(&self.socket, sockopt::PeerCredentials).ok();
        self.pid().or_else(|| Pid::new(peer()?.pid())).unwrap_or_else(Pid::this)
    }

    /// Returns the worker, and a way to tell the other side that nothing more will come from here.
    pub(crate) fn parts(&mut self) -> (Option<&mut Worker>, impl FnOnce() + use<'_>) {
        let socket = self.socket.as_fd();
        let hang_up = move || {
            let _ = shutdown(socket.as_raw_fd(), Shutdown::Write);
        };
        (self.worker.as_mut(), hang_up)
    }

    /// Returns the process id of a worker of ours.
    pub(crate) fn pid(&self) -> Option<Pid> {
        self.worker.as_ref().map(Worker::pid)
    }

    /// Keeps further descriptors open for a later request on this connection.
    ///
    /// The worker is already running, so no descriptor can be placed inside it.
    pub(crate) fn hand(&mut self, handed: Handed) -> Result<()> {
        if !handed.placed.is_empty() {
            let why = "descriptors are placed inside criu when it is started";
            return Err(Error::NotOverSocket { what: "page_server_socket", why });
        }
        self.handed.shown.extend(handed.shown);
        Ok(())
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
