//! Addresses and states of sockets.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::proto::{InetSkEntry, UnixSkEntry};
use crate::text::Text;

/// The address of a unix socket. Displays as in ss(8): an abstract address begins with "@".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnixAddress<'a> {
    /// A path in the file system.
    Path(&'a [u8]),
    /// An abstract name, which is not a path.
    Abstract(&'a [u8]),
}

impl InetSkEntry {
    /// Local address; `None` if the words are not an address.
    pub fn local(&self) -> Option<SocketAddr> {
        address(&self.src_addr, self.src_port)
    }

    /// Address of the other end; `None` if the socket is not connected.
    pub fn remote(&self) -> Option<SocketAddr> {
        match self.state {
            LISTEN => None,
            _ if self.dst_port == 0 => None,
            _ => address(&self.dst_addr, self.dst_port),
        }
    }

    /// Name of the protocol, as `tcp`; `None` for a protocol that this version does not know.
    pub fn protocol(&self) -> Option<&'static str> {
        Some(match self.proto {
            IPPROTO_ICMP => "icmp",
            IPPROTO_TCP => "tcp",
            IPPROTO_UDP => "udp",
            IPPROTO_ICMPV6 => "icmpv6",
            IPPROTO_UDPLITE => "udplite",
            IPPROTO_RAW => "raw",
            _ => return None,
        })
    }

    /// State of the connection, as named by ss(8). A datagram socket is either connected or not.
    pub fn state_name(&self) -> &'static str {
        match self.proto {
            IPPROTO_TCP => state(self.state),
            _ if self.remote().is_some() => state(ESTABLISHED),
            _ => state(CLOSED),
        }
    }
}

impl UnixSkEntry {
    /// Address that the socket is bound to; `None` if it is not bound.
    pub fn address(&self) -> Option<UnixAddress<'_>> {
        match self.name.strip_suffix(b"\0").unwrap_or(&self.name) {
            [] => None,
            [0, name @ ..] => Some(UnixAddress::Abstract(name)),
            path => Some(UnixAddress::Path(path)),
        }
    }

    /// Name of the socket type, as `stream`.
    pub fn type_name(&self) -> &'static str {
        match self.r#type {
            SOCK_STREAM => "stream",
            SOCK_DGRAM => "datagram",
            SOCK_SEQPACKET => "packet",
            _ => "other",
        }
    }

    /// State of the socket, as named by ss(8).
    pub fn state_name(&self) -> &'static str {
        state(self.state)
    }

    /// Returns `true` if the socket waits for connections.
    pub fn is_listening(&self) -> bool {
        self.state == LISTEN
    }
}

impl fmt::Display for UnixAddress<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(f, "{}", Text(path)),
            Self::Abstract(name) => write!(f, "@{}", Text(name)),
        }
    }
}

fn state(number: u32) -> &'static str {
    STATES.get(number as usize).copied().unwrap_or("UNKNOWN")
}

/// Makes an address from CRIU's words, which lie in memory in network order.
fn address(words: &[u32], port: u32) -> Option<SocketAddr> {
    let port = u16::try_from(port).ok()?;
    let ip = match *words {
        [word] => IpAddr::V4(Ipv4Addr::from(word.to_le_bytes())),
        [a, b, c, d] => {
            let mut bytes = [0; 16];
            for (to, word) in bytes.chunks_exact_mut(4).zip([a, b, c, d]) {
                to.copy_from_slice(&word.to_le_bytes());
            }
            IpAddr::V6(Ipv6Addr::from(bytes))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// Names by number.
const STATES: [&str; 13] = [
    "UNKNOWN",
    "ESTAB",
    "SYN-SENT",
    "SYN-RECV",
    "FIN-WAIT-1",
    "FIN-WAIT-2",
    "TIME-WAIT",
    "UNCONN",
    "CLOSE-WAIT",
    "LAST-ACK",
    "LISTEN",
    "CLOSING",
    "SYN-RECV",
];
const ESTABLISHED: u32 = 1;
const CLOSED: u32 = 7;
const LISTEN: u32 = 10;

const IPPROTO_ICMP: u32 = 1;
const IPPROTO_TCP: u32 = 6;
const IPPROTO_UDP: u32 = 17;
const IPPROTO_ICMPV6: u32 = 58;
const IPPROTO_UDPLITE: u32 = 136;
const IPPROTO_RAW: u32 = 255;
const SOCK_STREAM: u32 = 1;
const SOCK_DGRAM: u32 = 2;
const SOCK_SEQPACKET: u32 = 5;
