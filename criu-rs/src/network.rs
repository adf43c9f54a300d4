//! What becomes of TCP connections.

use std::str::FromStr;

use crate::error::InvalidValue;
use crate::rpc::CriuNetworkLockMethod;

/// What to do with connected TCP sockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Tcp {
    /// A connected socket makes the dump fail.
    #[default]
    Refuse,
    /// Save and restore connections as they are. The restore needs it too; until then no packet may
    /// reach the peer, which CRIU sees to for the time of the dump.
    Established,
    /// Drop connections: restored sockets are closed. A dump made so restores only so.
    Close,
}

/// How CRIU keeps packets of saved connections away while their tasks are frozen: what
/// `criu --network-lock` takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NetworkLock {
    /// Rules made by iptables-restore, which must be installed.
    #[default]
    Iptables,
    /// A table made by libnftables, which CRIU must have been built with.
    Nftables,
    /// None: the caller keeps packets away. CRIU 3.19.
    Skip,
}

impl From<NetworkLock> for CriuNetworkLockMethod {
    fn from(lock: NetworkLock) -> Self {
        match lock {
            NetworkLock::Iptables => Self::Iptables,
            NetworkLock::Nftables => Self::Nftables,
            NetworkLock::Skip => Self::Skip,
        }
    }
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
