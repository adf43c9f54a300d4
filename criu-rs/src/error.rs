//! The errors of operations.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::config::ConfigError;
use crate::diagnosis::{Cause, Failure, Stopped};
use crate::hooks::Action;
use crate::host::{LiveHolder, LockError, NestedNamespace};
use crate::labels::LabelError;
use crate::rpc::ProtocolError;
use crate::value::{InvalidValue, PlaceError, PlaceFault, SystemError, Version};

/// The result of an operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The reason why an operation failed or was refused.
///
/// `Display` is one line with the problem, CRIU's message and, for a known cause, advice.
/// [`Error::failure`] gives the parts. A clone shares the errors of system calls and hooks.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The criu program did not start.
    #[error("cannot start {}: {source}", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// The reason.
        source: Arc<io::Error>,
    },
    /// No criu service answers on the socket.
    #[error("cannot reach a criu service at {}: {source}", socket.display())]
    Connect {
        /// The socket.
        socket: PathBuf,
        /// The reason.
        source: Arc<io::Error>,
    },
    /// A system call of this crate failed.
    #[error(transparent)]
    System(#[from] SystemError),
    /// A value does not have the form that its option needs.
    #[error(transparent)]
    InvalidValue(#[from] InvalidValue),
    /// A configuration file of CRIU's has a line that CRIU refuses, or a setting that cannot be
    /// true for the operation. CRIU was not asked for anything.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// This CRIU is too old for an option or request. It was not asked for anything.
    #[error("{what} needs CRIU {needs}, this one is {found}")]
    TooOld {
        /// The option or request.
        what: String,
        /// The first version that has it.
        needs: Version,
        /// The version of this CRIU.
        found: Version,
    },
    /// A service cannot do this. It needs a criu started by this process.
    #[error("{what} needs a criu started by this process: {why}")]
    NotOverSocket {
        /// The option or request.
        what: &'static str,
        /// The reason why a service cannot do it.
        why: &'static str,
    },
    /// The images directory does not exist. Nothing was touched. A dump does not make it.
    #[error("the images directory {} does not exist", directory.display())]
    NoImages {
        /// The directory.
        directory: PathBuf,
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
    /// CRIU would write into a file that is not its own: a link, a FIFO or a file of another user
    /// is at a name that it writes. Nothing was touched.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// CRIU refused, failed or died.
    #[error(transparent)]
    Failed(Box<Failure>),
    /// A hook refused, and CRIU undid its work.
    #[error("the {action} hook refused: {source}")]
    Hook {
        /// The action.
        action: Action,
        /// The error that the hook returned.
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// A security label was or would be lost. The tasks of a dump run on; no task of a restore is
    /// left.
    #[error(transparent)]
    Label(#[from] LabelError),
    /// A file lock was or would be lost by a restore. No task is left.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A process is in a namespace that no restore would give back. Nothing was frozen.
    #[error(transparent)]
    Nested(#[from] NestedNamespace),
    /// A process of the tree holds the memory of another one for an instant capture, and would be
    /// saved as a task. Nothing was frozen.
    #[error(transparent)]
    Holder(#[from] LiveHolder),
    /// The operation was cancelled, or its deadline passed.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// CRIU, or a program in its place, broke the protocol.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    /// The program used a value after its end.
    #[error(transparent)]
    Misuse(#[from] Misuse),
    /// A lazy restore cannot take over the memory of its tasks. No task is left. The source is an
    /// error of the module `lazy`.
    #[error("lazy restore: {0}")]
    Lazy(Arc<dyn std::error::Error + Send + Sync>),
    /// An instant capture failed or was refused. The tasks run on. The source is an error of the
    /// module `instant`.
    #[error("instant capture: {0}")]
    Instant(Arc<dyn std::error::Error + Send + Sync>),
    /// CRIU succeeded, but the images that it wrote cannot be read.
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

    /// The cause, if it is a known one.
    pub fn cause(&self) -> Option<Cause> {
        match self {
            Self::Nested(_) => Some(Cause::NestedNamespace),
            _ => self.failure()?.cause,
        }
    }

    pub(crate) fn system(doing: impl Into<String>, source: impl Into<io::Error>) -> Self {
        SystemError::new(doing, source).into()
    }
}

impl From<PlaceFault> for Error {
    fn from(fault: PlaceFault) -> Self {
        match fault {
            PlaceFault::Unsafe(error) => error.into(),
            PlaceFault::System(error) => error.into(),
        }
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
