//! Notices: events of a proxy, for its log.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// A receiver of notices.
pub type Tell = Arc<dyn Fn(Notice) + Send + Sync>;

/// An event of a proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// The engine at a socket has been connected to.
    Connected(PathBuf),
    /// The engine at a socket cannot be reached, for a reason. Told once until it is reached again.
    Unreachable(PathBuf, String),
    /// The connection to the engine at a socket has ended, perhaps for a reason.
    Ended(PathBuf, Option<String>),
    /// A process of another user has connected, and was turned away: its user and process id.
    Stranger(u32, Option<i32>),
    /// A client speaks something else than HTTP/2.
    Foreign,
    /// An accept has failed, for a reason.
    Accept(String),
    /// The proxy ends, and waits for calls: their number.
    Ending(usize),
    /// Calls were cut off at the end: their number.
    Cut(usize),
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connected(socket) => write!(f, "connected to the engine at {}", socket.display()),
            Self::Unreachable(socket, reason) => {
                write!(f, "cannot reach the engine at {}: {reason}", socket.display())
            }
            Self::Ended(socket, reason) => {
                write!(f, "the connection to the engine at {} has ended", socket.display())?;
                reason.as_ref().map_or(Ok(()), |reason| write!(f, ": {reason}"))
            }
            Self::Stranger(user, process) => {
                write!(f, "turned away user {user}")?;
                process.map_or(Ok(()), |process| write!(f, ", process {process}"))?;
                f.write_str(": the socket is for root and the proxy's own user")
            }
            Self::Foreign => f.write_str("turned away a client that does not speak HTTP/2"),
            Self::Accept(reason) => write!(f, "cannot take a connection: {reason}"),
            Self::Ending(0) => f.write_str("ends"),
            Self::Ending(calls) => write!(f, "ends when {calls} calls have ended"),
            Self::Cut(calls) => write!(f, "cut off {calls} calls that did not end in time"),
        }
    }
}
