//! An operation that failed, with all that is known of it.

use std::error::Error as StdError;
use std::process::ExitStatus;
use std::{fmt, io};

use super::cause::Cause;
use super::log::{LogExcerpt, is_harmless};
use crate::value::Pid;

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
