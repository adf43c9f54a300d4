//! What goes wrong between the ends of a page server.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use criu_images::WriteError;

use super::deadline::DeadlinePassed;
use super::session::PageProtocolError;

/// Why pages do not come, or do not go.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PagesError {
    /// The socket fails.
    #[error("{what}: {source}")]
    Socket {
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Certificates, keys or lists of revoked ones cannot be used.
    #[error("TLS: {0}")]
    Tls(String),
    /// The peer breaks the protocol.
    #[error(transparent)]
    Protocol(#[from] PageProtocolError),
    /// The peer has gone before it said that everything is sent.
    #[error("the client has gone after {0} bytes, before it said that all is sent")]
    Gone(u64),
    /// The peer leaves pages to the parent set, which lacks them.
    #[error("{object} leaves {address:#x} to the parent set, which lacks it")]
    Hole {
        /// The pagemap.
        object: String,
        /// First address that is lacking.
        address: u64,
    },
    /// Pages are added to a [`Store`](super::Store) in which no object has been begun.
    #[error("pages at {address:#x} belong to no object: begin one first")]
    NoObject {
        /// The first address.
        address: u64,
    },
    /// Pages are wanted that are not there.
    #[error("pages of task {pid} at {address:#x} are wanted: {why}")]
    NoPage {
        /// The task.
        pid: u32,
        /// The address.
        address: u64,
        /// Why not.
        why: String,
    },
    /// Images cannot be read.
    #[error(transparent)]
    Image(#[from] criu_images::Error),
    /// Something takes longer than it may.
    #[error("{0} takes longer than it may")]
    TimedOut(&'static str),
    /// The deadline of a [`Client`](super::Client) or a [`Relay`](super::Relay) passes before its
    /// exchange is over.
    #[error("the exchange takes longer than its deadline of {0:?}")]
    Deadline(Duration),
    /// More is sent than may be.
    #[error("more than {0} bytes are sent")]
    TooMuch(u64),
    /// The server is to stop.
    #[error("the server stops")]
    Stopped,
    /// The other end refuses.
    #[error("the server answers {0}: it has not taken everything")]
    Refused(i32),
}

impl PagesError {
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
