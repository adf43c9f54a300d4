//! The errors of page servers and their clients.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use criu_images::WriteError;

use super::deadline::DeadlinePassed;
use super::session::PageProtocolError;

/// The error of a session between a page server and its client.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PagesError {
    /// A call on a socket fails.
    #[error("{what}: {source}")]
    Socket {
        /// The attempt that failed.
        what: &'static str,
        /// The system's error.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("{}: {source}", path.display())]
    File {
        /// The path of the file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A pagemap is in the directory already. A [`Store`](super::Store) replaces none.
    #[error("{}: is there already, and is not replaced: use another directory", path.display())]
    Exists {
        /// The path of the pagemap.
        path: PathBuf,
    },
    /// A certificate, a key or a revocation list cannot be used.
    #[error("TLS: {0}")]
    Tls(String),
    /// The peer breaks the protocol.
    #[error(transparent)]
    Protocol(#[from] PageProtocolError),
    /// The client ends the connection before it closes the session. Holds the number of bytes that
    /// were received until then.
    #[error("the client is gone after {0} bytes, before it closed the session")]
    Gone(u64),
    /// The page server ends the connection before it has answered a request. A server that does not
    /// have the pages does so, too.
    #[error("the page server ends the connection without an answer")]
    NoAnswer,
    /// The client leaves pages to the parent set, which does not have them.
    #[error("{object} leaves {address:#x} to the parent set, which does not have it")]
    Hole {
        /// The name of the pagemap.
        object: String,
        /// The first address that the parent set does not have.
        address: u64,
    },
    /// Pages are added to a [`Store`](super::Store) in which no object has been begun.
    #[error("pages at {address:#x} belong to no object: begin one first")]
    NoObject {
        /// The address of the first page.
        address: u64,
    },
    /// A user connects who may not: only the server's own user and root may
    /// ([`Server::other_users`](super::Server::other_users)).
    #[error("user {user} may not connect: this server is for {}", for_whom(*own))]
    Stranger {
        /// The uid of the client.
        user: u32,
        /// The uid of the server.
        own: u32,
    },
    /// The server cannot find out which user connects, and is not for everybody.
    #[error("the client is not served because its user is not known: {0}")]
    Unknown(io::Error),
    /// A silent connection gives way to others.
    #[error("the connection was silent and gave way to others")]
    Displaced,
    /// The server has no place for one more connection, and none may give way.
    #[error("the server has no place for one more connection")]
    Full,
    /// A session of a [`Server`](super::Server) that was given no directory.
    #[error("this server has no directory to store pages in")]
    NoDirectory,
    /// The client sends pages to a [`Provider`](super::Provider), or asks about its parent set.
    #[error("the client wants to store pages, and this server only serves them")]
    OnlyServes,
    /// The client asks for pages that the server does not have.
    #[error("cannot send pages of task {pid} at {address:#x}: {why}")]
    NoPage {
        /// The pid of the task.
        pid: u32,
        /// The address of the first page.
        address: u64,
        /// The reason.
        why: String,
    },
    /// An image cannot be read.
    #[error(transparent)]
    Image(#[from] criu_images::Error),
    /// The memory of a task cannot be read from the process that holds it.
    #[error("the memory of task {pid} at {address:#x} cannot be read from its holder: {source}")]
    Holder {
        /// The pid of the task, in its own pid namespace.
        pid: u32,
        /// The first address.
        address: u64,
        /// The system's error.
        source: io::Error,
    },
    /// The process that holds the memory of a task has other pages than at the dump.
    #[error(
        "the holder of task {pid} has {found} pages from {start:#x} to {end:#x}, and had {wanted}"
    )]
    Changed {
        /// The pid of the task, in its own pid namespace.
        pid: u32,
        /// The first address.
        start: u64,
        /// The address after the last byte.
        end: u64,
        /// The number of pages that were found.
        found: u64,
        /// The number of pages at the dump.
        wanted: u64,
    },
    /// The mappings of a task in its images are not in order.
    #[error("the mappings of task {pid} do not ascend at {start:#x} to {end:#x}")]
    Mappings {
        /// The pid of the task, in its own pid namespace.
        pid: u32,
        /// The first address.
        start: u64,
        /// The address after the last byte.
        end: u64,
    },
    /// The images have another page than was to be saved, or do not have the page.
    #[error("{object} differs from the memory at {address:#x}: {what}")]
    Differs {
        /// The name of the pagemap.
        object: String,
        /// The first address.
        address: u64,
        /// The difference.
        what: &'static str,
    },
    /// The session, or the next message of the peer, takes longer than the server's limits allow.
    #[error("{0} takes longer than allowed")]
    TimedOut(&'static str),
    /// The deadline of a [`Client`](super::Client) or a [`Relay`](super::Relay) passes before the
    /// exchange is over.
    #[error("the exchange takes longer than its deadline of {0:?}")]
    Deadline(Duration),
    /// The peer sends more bytes than the limit, which is the number.
    #[error("the peer sends more than {0} bytes, the limit")]
    TooMuch(u64),
    /// The peer fetches more bytes than the limit, which is the number.
    #[error("the peer fetches more than {0} bytes, the limit")]
    TooMuchFetched(u64),
    /// The peer begins more objects than the limit, which is the number.
    #[error("the peer begins more than {0} objects, the limit")]
    TooMany(u64),
    /// This end stops the session: [`Handle::stop`](super::Handle::stop) was called, or a capture
    /// ended without being written.
    #[error("the session was stopped")]
    Stopped,
    /// The server could not store everything. The number is its answer; for our server it is an
    /// errno.
    #[error("the server could not store everything: it answers {0}")]
    Refused(i32),
}

fn for_whom(own: u32) -> String {
    if own == 0 { "root".to_owned() } else { format!("user {own} and root") }
}

impl PagesError {
    /// Names the file of an error by the directory's own path, where it was reached by another.
    pub(super) fn shown_in(mut self, from: &Path, directory: &Path) -> Self {
        if let Self::File { path, .. } = &mut self {
            if let Ok(name) = path.strip_prefix(from) {
                *path = directory.join(name);
            }
        }
        self
    }

    #[cfg(feature = "tls")]
    pub(crate) fn tls(error: impl std::fmt::Display) -> Self {
        Self::Tls(error.to_string())
    }

    pub(crate) fn socket(what: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| match source.downcast() {
            Ok(DeadlinePassed(limit)) => Self::Deadline(limit),
            Err(source) => Self::Socket { what, source },
        }
    }

    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }

    pub(crate) fn image(path: impl Into<PathBuf>) -> impl FnOnce(WriteError) -> Self {
        let path = path.into();
        move |error| match error {
            WriteError::Write(source) => Self::File { path, source },
            WriteError::Image(error) => Self::Image(error),
            other => Self::File { path, source: io::Error::other(other.to_string()) },
        }
    }
}
