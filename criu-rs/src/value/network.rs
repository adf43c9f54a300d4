//! Ways to handle TCP connections.

use std::str::FromStr;

use super::InvalidValue;

/// The way connected TCP sockets are handled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Tcp {
    /// Refuses the dump if a socket is connected.
    #[default]
    Refuse,
    /// Saves connections and restores them. The restore needs this option too. Until then no packet
    /// may reach the peer; CRIU sees to that with a [`NetworkLock`].
    ///
    /// A dump that fails or is cancelled leaves the connections working. If somebody else kills the
    /// criu of a dump, its connections stay open, but a task that reads from one at that moment
    /// gets `EPERM`.
    Established,
    /// Drops connections: restored sockets are closed. A dump made with this option can only be
    /// restored with it.
    Close,
}

/// The way CRIU keeps packets of saved connections away while their tasks are frozen (`criu
/// --network-lock`).
///
/// The rules stay until a restore has brought the connections back. After a failed dump they are
/// removed: by CRIU, or by this crate if CRIU no longer can (Linux 5.6 and later). If criu ended
/// before it came to the first connection, an nftables table that blocks nothing may stay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NetworkLock {
    /// Rules made by iptables-restore, which must be installed.
    #[default]
    Iptables,
    /// A table made by libnftables, which CRIU must have been built with.
    Nftables,
    /// No rules: the caller keeps packets away. Needs CRIU 3.19.
    Skip,
}

impl FromStr for NetworkLock {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        match text {
            "iptables" => Ok(Self::Iptables),
            "nftables" => Ok(Self::Nftables),
            "skip" | "none" => Ok(Self::Skip),
            _ => {
                let want = "iptables, nftables or skip";
                Err(InvalidValue::new("a network lock", text, want))
            }
        }
    }
}
