//! Sockets.

use std::collections::HashMap;
use std::fmt;

use crate::checkpoint::Checkpoint;
use crate::error::Result;
use crate::file::File;
use crate::files::OpenFile;
use crate::proto::UnixSkEntry;
use crate::view::{Room, Table};

/// The sockets of all tasks. Displays like ss(8).
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Sockets {
    /// Sockets, by rising file id.
    pub sockets: Vec<Socket>,
}

/// A socket.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Socket {
    /// The file's id in the set.
    pub id: u32,
    /// The protocol in the kernel's words, such as `tcp` or `unix stream`.
    pub protocol: String,
    /// The state as ss(8) names it, such as `ESTAB` or `LISTEN`.
    pub state: &'static str,
    /// Bytes that can be read.
    pub received: u64,
    /// Bytes written to a TCP connection that the other end has not acknowledged.
    pub sent: u64,
    /// Local address, or "*". The inode of a unix socket follows.
    pub local: String,
    /// Address of the other end, in the same form.
    pub peer: String,
    /// File id of the other end, if it belongs to the tree.
    pub peer_id: Option<u32>,
    /// Descriptors that lead to the socket. Empty for a socket that waits in the queue of another.
    pub holders: Vec<Holder>,
}

/// A descriptor that leads to a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Holder {
    /// Id of the task.
    pub pid: u32,
    /// Name of the task.
    pub name: String,
    /// Number of the descriptor.
    pub fd: u32,
}

impl Sockets {
    /// Lists the sockets of a checkpoint.
    ///
    /// # Errors
    /// The errors of reading the tasks' descriptor tables, `files.img`, and the images of what
    /// waits in sockets; [`ErrorKind::TooMany`](crate::ErrorKind::TooMany) above
    /// [`VIEW`](crate::bounds::VIEW).
    pub fn new(checkpoint: Checkpoint<'_>) -> Result<Self> {
        let mut room = Room::new();
        let mut holders: HashMap<u32, Vec<Holder>> = HashMap::new();
        for task in checkpoint.tasks() {
            for fd in &task.files()? {
                if !fd.file.file().is_socket() {
                    // A table that many tasks share is read for each.
                    room.take(0)?;
                    continue;
                }
                let (pid, name, fd, id) =
                    (task.pid(), task.name().to_string(), fd.number, fd.file.id());
                room.take(name.len())?;
                holders.entry(id).or_default().push(Holder { pid, name, fd });
            }
        }
        let queues = checkpoint.queues()?;
        let mut sockets = Vec::new();
        for file in checkpoint.files()? {
            let Some((protocol, state, local, peer)) = ends(&file) else {
                continue;
            };
            // Many sockets may have one peer, with a long name.
            room.take(local.len().saturating_add(peer.len()))?;
            let queued = queues.of(&file)?;
            sockets.push(Socket {
                id: file.id(),
                protocol,
                state,
                received: queued.received,
                sent: queued.sent,
                local,
                peer,
                peer_id: file.peer().map(|peer| peer.id()),
                holders: holders.remove(&file.id()).unwrap_or_default(),
            });
        }
        Ok(Self { sockets })
    }
}

/// Returns the protocol, the state, the local address and the other end's address.
fn ends(file: &OpenFile<'_>) -> Option<(String, &'static str, String, String)> {
    let any = || "*".to_owned();
    Some(match file.file() {
        File::Inet(socket) => {
            let protocol = socket.protocol();
            let protocol = protocol.map_or_else(|| format!("ip {}", socket.proto), str::to_owned);
            let local = socket.local().map_or_else(any, |address| address.to_string());
            let peer = socket.remote().map_or_else(any, |address| address.to_string());
            (protocol, socket.state_name(), local, peer)
        }
        File::Unix(socket) => {
            let name = |socket: &UnixSkEntry| {
                let address = socket.address().map_or_else(any, |address| address.to_string());
                format!("{address} {}", socket.ino)
            };
            let peer = match (file.peer().map(|peer| peer.file()), socket.peer) {
                (Some(File::Unix(peer)), _) => name(peer),
                (_, 0) => "* 0".to_owned(),
                (_, ino) => format!("* {ino}"),
            };
            (format!("unix {}", socket.type_name()), socket.state_name(), name(socket), peer)
        }
        File::Packet(_) => ("packet".to_owned(), "UNCONN", any(), any()),
        File::Netlink(socket) => {
            let end = |port: u32| format!("{}:{port}", socket.protocol);
            let (local, peer) = (end(socket.portid), end(socket.dst_portid));
            ("netlink".to_owned(), "UNCONN", local, peer)
        }
        _ => return None,
    })
}

impl fmt::Display for Sockets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = &["PROTOCOL", "STATE", ">RECV-Q", ">SEND-Q", "LOCAL", "PEER", "PROCESS"];
        let mut table = Table::new(head);
        for socket in &self.sockets {
            let holders = socket.holders.iter();
            let holders: Vec<String> =
                holders.map(|at| format!("{},pid={},fd={}", at.name, at.pid, at.fd)).collect();
            table.row(vec![
                socket.protocol.clone(),
                socket.state.to_owned(),
                socket.received.to_string(),
                socket.sent.to_string(),
                socket.local.clone(),
                socket.peer.clone(),
                holders.join(" "),
            ]);
        }
        table.fmt(f)
    }
}
