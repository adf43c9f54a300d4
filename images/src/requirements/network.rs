//! Requirements of sockets: addresses, names, interfaces.

use std::net::SocketAddr;

use super::Requirement;
use crate::checkpoint::Checkpoint;
use crate::error::Result;
use crate::file::File;
use crate::namespaces::NamespaceKind;
use crate::proto::InetSkEntry;
use crate::sockets::UnixAddress;
use crate::text::Text;

/// An address that an internet socket is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BoundAddress {
    /// The protocol, such as `tcp`. `None` is unknown.
    pub protocol: Option<&'static str>,
    /// The address and port.
    pub local: SocketAddr,
    /// The address of the other end. `None` if the socket is not connected.
    pub remote: Option<SocketAddr>,
    /// The socket waits for connections.
    pub is_listening: bool,
    /// The socket accepts IPv6 only.
    pub is_v6_only: bool,
    /// Other sockets may have the same address: `SO_REUSEPORT`, or `SO_REUSEADDR` of a datagram
    /// socket.
    pub is_shared: bool,
    /// The address may be that of another host: `IP_FREEBIND`.
    pub is_free: bool,
    /// Interface of a link-local address.
    pub interface: Option<String>,
    /// The tree has a network namespace of its own.
    pub own_namespace: bool,
}

/// The name of a unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnixName {
    /// The path, or the abstract name.
    pub name: Vec<u8>,
    /// The name is abstract, and not a path.
    pub is_abstract: bool,
    /// The directory that a relative path begins at.
    pub directory: Option<Vec<u8>>,
    /// The socket is outside the tree: the restore connects to it.
    pub is_outside: bool,
    /// The tree has a mount namespace of its own (for a path) or a network namespace of its own
    /// (for an abstract name).
    pub own_namespace: bool,
}

/// A network interface that a socket or a device file needs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Interface {
    /// Name of the interface.
    pub name: String,
    /// The restore makes the interface (a tun device). Otherwise the interface must be there.
    pub is_made: bool,
    /// The tree has a network namespace of its own.
    pub own_namespace: bool,
}

pub(super) fn walk(checkpoint: Checkpoint<'_>, all: &mut Vec<Requirement>) -> Result<()> {
    let own = checkpoint.root().namespaces()?;
    let own = |kind| own.iter().any(|of| of.kind == kind && !of.host);
    let (net, mnt) = (own(NamespaceKind::Net), own(NamespaceKind::Mnt));
    for file in checkpoint.files()? {
        match file.file() {
            File::Inet(socket) => {
                all.extend(address(socket, net).map(Requirement::Address));
                let device = socket.opts.so_bound_dev.as_ref();
                all.extend(device.map(|name| interface(name, false, net)));
            }
            File::Packet(socket) => {
                let device = socket.opts.so_bound_dev.as_ref();
                all.extend(device.map(|name| interface(name, false, net)));
            }
            File::Tun(tun) => {
                all.extend(tun.netdev.as_ref().map(|name| interface(name, true, net)));
            }
            File::Unix(socket) => {
                // CRIU binds a socket that has an address unless it is connected.
                let is_outside = socket.uflags & USK_EXTERN != 0;
                let is_connected = socket.state == ESTABLISHED && socket.r#type != SOCK_DGRAM;
                if socket.uflags & USK_CALLBACK != 0 || is_connected || socket.deleted() {
                    continue;
                }
                let (name, is_abstract) = match socket.address() {
                    None => continue,
                    Some(UnixAddress::Path(path)) => (path.to_vec(), false),
                    Some(UnixAddress::Abstract(name)) => (name.to_vec(), true),
                };
                let directory = socket.name_dir.clone();
                let own_namespace = if is_abstract { net } else { mnt };
                let name = UnixName { name, is_abstract, directory, is_outside, own_namespace };
                all.push(Requirement::UnixName(name));
            }
            _ => {}
        }
    }
    Ok(())
}

fn interface(name: &[u8], is_made: bool, own_namespace: bool) -> Requirement {
    let name = Text(name.strip_suffix(b"\0").unwrap_or(name)).to_string();
    Requirement::Interface(Interface { name, is_made, own_namespace })
}

fn address(socket: &InetSkEntry, own_namespace: bool) -> Option<BoundAddress> {
    let local = socket.local()?;
    let is_tcp = socket.protocol() == Some("tcp");
    let opts = &socket.opts;
    Some(BoundAddress {
        protocol: socket.protocol(),
        local,
        remote: socket.remote(),
        is_listening: socket.state == LISTEN,
        is_v6_only: socket.v6only(),
        is_shared: opts.so_reuseport() || !is_tcp && opts.reuseaddr(),
        is_free: socket.ip_opts.as_ref().is_some_and(|opts| opts.freebind()),
        interface: socket.ifname.as_ref().map(|name| Text(name).to_string()),
        own_namespace,
    })
}

const USK_EXTERN: u32 = 1;
const USK_CALLBACK: u32 = 4;
const SOCK_DGRAM: u32 = 2;
const ESTABLISHED: u32 = 1;
const LISTEN: u32 = 10;
