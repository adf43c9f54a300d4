//! What can go wrong, and what CRIU said of it.

use std::error::Error as StdError;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;
use std::{fmt, io};

use crate::diagnosis::{Cause, LogExcerpt, is_harmless};
use crate::hooks::Action;
use crate::labels::LabelError;
use crate::rpc::ProtocolError;
use crate::value::{Pid, Version};

/// The result of an operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What a hook returns when it refuses.
pub type HookError = Box<dyn StdError + Send + Sync>;

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
    #[error("cannot {doing}: {source}")]
    System {
        /// What was being done.
        doing: String,
        /// The call's error.
        source: io::Error,
    },
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
        Self::System { doing: doing.into(), source: source.into() }
    }
}

/// An operation that CRIU refused, failed or died in.
#[derive(Debug)]
#[non_exhaustive]
pub struct Failure {
    /// What was asked for: "dump", "restore", ...
    pub operation: &'static str,
    /// How CRIU ended it.
    pub end: End,
    /// The errno it answered with. Only a few are ever sent: `ESRCH`, `EEXIST`, `EBADRQC` for options
    /// that contradict each other, `ENOTSUP`.
    pub errno: Option<i32>,
    /// The first error line that CRIU logged. It can be an unrelated, harmless one.
    pub message: Option<String>,
    /// How the criu process ended, where it was started by this process.
    pub exit: Option<ExitStatus>,
    /// What criu printed, cut to the last 16 KiB: errors from before its log was open.
    pub output: String,
    /// The first error in the log that is not known to be harmless, with the lines before it. `None`
    /// where CRIU did not come to write one; an error where there is a log that this process may not
    /// read, as with a service of another user's.
    pub log: io::Result<Option<LogExcerpt>>,
    /// The cause, where it is a known one.
    pub cause: Option<Cause>,
    /// The root task of a failed restore, as CRIU named it. It has been killed.
    pub root: Option<Pid>,
}

/// How CRIU ended an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum End {
    /// It answered that the operation failed.
    Refused,
    /// It answered that it does not understand the request (a reply of type EMPTY).
    NotUnderstood,
    /// It closed the connection or ended without an answer.
    Died,
}

impl StdError for Failure {}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.end {
            End::Refused => write!(f, "{} failed", self.operation)?,
            End::NotUnderstood => {
                write!(f, "criu did not understand the {} request", self.operation)?
            }
            End::Died => {
                write!(f, "criu ended without an answer to the {} request", self.operation)?;
                if let Some(exit) = self.exit {
                    write!(f, " ({exit})")?;
                }
            }
        }
        if let Some(cause) = self.cause {
            write!(f, ": {cause}: {}", cause.hint())?;
        }
        if let Some(errno) = self.errno {
            write!(f, " [{}]", io::Error::from_raw_os_error(errno))?;
        }
        match (self.said(), &self.log) {
            (Some(said), _) => write!(f, "; criu said: {said}"),
            (None, Err(error)) => write!(f, "; {error}"),
            (None, Ok(_)) => Ok(()),
        }
    }
}

impl Failure {
    /// The one line of CRIU's that tells most: from the log, else from what it printed, else from its
    /// answer.
    pub fn said(&self) -> Option<&str> {
        let printed = || self.output.lines().find(|line| line.contains("Error ("));
        let first = || self.output.lines().find(|line| !line.trim().is_empty());
        let logged = self.excerpt().map(|log| log.error.as_str());
        let message = self.message.as_deref().filter(|message| !is_harmless(message));
        logged.or_else(printed).or(message).or_else(first)
    }

    /// The log's first error, where there is one to be read.
    pub fn excerpt(&self) -> Option<&LogExcerpt> {
        self.log.as_ref().ok()?.as_ref()
    }
}

/// An operation that was cancelled, or whose deadline passed.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {why}: {how}")]
#[non_exhaustive]
pub struct Stopped {
    /// What was asked for: "dump", "restore", ...
    pub operation: &'static str,
    /// Why it was stopped.
    pub why: StopReason,
    /// How it was stopped.
    pub how: StopMethod,
}

/// Why an operation was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StopReason {
    /// [`Cancel::cancel`](crate::Cancel::cancel) was called.
    Cancelled,
    /// Its deadline passed.
    Deadline(Duration),
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cancelled => f.write_str("cancelled"),
            Self::Deadline(limit) => write!(f, "stopped at its deadline of {limit:?}"),
        }
    }
}

/// How an operation was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StopMethod {
    /// Before CRIU was asked for anything.
    NotStarted,
    /// At an action, by refusing it: CRIU undid what it had begun.
    Refused,
    /// By ending criu at a point where no task was executing code of CRIU's.
    Killed,
    /// By ending criu at a point where a task may have been executing code of CRIU's, because none
    /// better came in the time allowed. Such a task can die.
    KilledUnsafely,
    /// By closing the connection. A service is not ours to kill: it notices at its next action.
    Disconnected,
}

impl fmt::Display for StopMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotStarted => "nothing had been started",
            Self::Refused => "criu undid what it had begun",
            Self::Killed => "criu was ended at a safe point",
            Self::KilledUnsafely => "criu was ended, perhaps while a task executed its code",
            Self::Disconnected => "the connection was closed; the service stops at its next action",
        })
    }
}

/// A value that does not have the form its option wants.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} must be {want}, found {found:?}")]
pub struct InvalidValue {
    what: &'static str,
    found: String,
    want: &'static str,
}

impl InvalidValue {
    pub(crate) fn new(what: &'static str, found: impl fmt::Display, want: &'static str) -> Self {
        Self { what, found: found.to_string(), want }
    }
}
