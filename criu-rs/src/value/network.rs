//! What becomes of TCP connections.

use std::str::FromStr;

use super::InvalidValue;

/// What to do with connected TCP sockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Tcp {
    /// A connected socket makes the dump fail.
    #[default]
    Refuse,
    /// Save and restore connections as they are. The restore needs it too; until then no packet may
    /// reach the peer, which CRIU sees to: see [`NetworkLock`].
    ///
    /// A dump that fails or is cancelled leaves the connections working. One whose criu somebody else kills
    /// leaves them open, too, but a task that reads from one at that moment gets `EPERM`.
    Established,
    /// Drop connections: restored sockets are closed. A dump made so restores only so.
    Close,
}

/// How CRIU keeps packets of saved connections away while their tasks are frozen: what
/// `criu --network-lock` takes.
///
/// What it makes is there until a restore has brought the connections back, and goes with a dump that fails:
/// should criu itself not take it away any more, this crate does, from Linux 5.6 on. A table of nftables that keeps
/// nothing away, because criu ended before it came to the first connection, may stay.
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
