//! What can go wrong, and what CRIU said of it.

use std::io;
use std::path::PathBuf;

use crate::diagnosis::{Cause, Failure, Stopped};
use crate::hooks::{Action, HookError};
use crate::labels::LabelError;
use crate::rpc::ProtocolError;
use crate::value::{InvalidValue, SystemError, Version};

/// The result of an operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation did not do what was asked.
///
/// `Display` is one line with what went wrong, what CRIU said and, for a known cause, what to do
/// about it. [`Error::failure`] gives the parts.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The criu program did not start.
    #[error("cannot start {}: {source}", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No criu service answers on the socket.
    #[error("cannot reach a criu service at {}: {source}", socket.display())]
    Connect {
        /// The socket.
        socket: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A system call of this crate failed.
    #[error(transparent)]
    System(#[from] SystemError),
    /// A value does not have the form its option wants.
    #[error(transparent)]
    InvalidValue(#[from] InvalidValue),
    /// The CRIU at hand is older than an option or request used. It was told nothing.
    #[error("{what} needs CRIU {needs}, this one is {found}")]
    TooOld {
        /// The option or request.
        what: String,
        /// The first version that has it.
        needs: Version,
        /// The version at hand.
        found: Version,
    },
    /// Only a criu started by this process can do this, not a service.
    #[error("{what} needs a criu started by this process: {why}")]
    NotOverSocket {
        /// The option or request.
        what: &'static str,
        /// What a service lacks for it.
        why: &'static str,
    },
    /// The images directory holds a checkpoint already. Nothing was touched.
    #[error(
        "{} holds a checkpoint already (inventory.img): use another directory, or .overwrite(true)",
        directory.display()
    )]
    CheckpointExists {
        /// The directory.
        directory: PathBuf,
    },
    /// CRIU refused, failed or died.
    #[error(transparent)]
    Failed(Box<Failure>),
    /// A hook refused, and CRIU undid what it had begun.
    #[error("the {action} hook refused: {source}")]
    Hook {
        /// The action.
        action: Action,
        /// What the hook returned.
        source: HookError,
    },
    /// A security label would be lost, or was. The tasks of a dump run on, nothing is left of a restore.
    #[error(transparent)]
    Label(#[from] LabelError),
    /// The operation was cancelled, or its deadline passed.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// CRIU, or what answered in its place, broke the protocol.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    /// A value was used after its end.
    #[error(transparent)]
    Misuse(#[from] Misuse),
    /// CRIU succeeded, but what it wrote cannot be read.
    #[error("cannot read what criu wrote: {0}")]
    Images(#[from] criu_images::Error),
}

impl Error {
    /// The details of an operation that CRIU refused, failed or died in.
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Failed(failure) => Some(failure),
            _ => None,
        }
    }

    /// The cause, where it is a known one.
    pub fn cause(&self) -> Option<Cause> {
        self.failure()?.cause
    }

    pub(crate) fn system(doing: impl Into<String>, source: impl Into<io::Error>) -> Self {
        SystemError::new(doing, source).into()
    }
}

/// The use of a value after its end: a mistake of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Misuse {
    /// The session has returned its outcome or an error.
    #[error("the session is over: start the operation again")]
    SessionOver,
    /// A pre-dump of the series has failed, and CRIU ends a series with the first failure.
    #[error("the series of pre-dumps ended with its first failure: begin a new series")]
    SeriesOver,
    /// A request on the connection has failed, and CRIU closes the connection after an error.
    #[error("criu closed the connection after an error: call keep_open again")]
    ConnectionClosed,
}
