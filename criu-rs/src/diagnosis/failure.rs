//! The error for a failed operation, with everything that is known about it.

use std::error::Error as StdError;
use std::io::{BufReader, Read};
use std::process::ExitStatus;
use std::sync::Arc;
use std::{fmt, io};

use super::cause::Cause;
use super::find::{Asked, diagnose};
use super::line::Line;
use super::log::{LogExcerpt, excerpt};
use crate::bounds;
use crate::value::Pid;

/// An operation that CRIU refused, failed or died in.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Failure {
    /// The name of the operation: "dump", "restore", ...
    pub operation: &'static str,
    /// The way in which CRIU ended the operation.
    pub end: End,
    /// The errno in CRIU's answer. CRIU sends only a few: `ESRCH`, `EEXIST`, `ENOTSUP`, and
    /// `EBADRQC` for options that contradict each other.
    pub errno: Option<i32>,
    /// The first error line that CRIU remembered. `None` if this is one that is known to be
    /// harmless.
    pub message: Option<String>,
    /// The exit status of criu, if this process started it.
    pub exit: Option<ExitStatus>,
    /// The last 16 KiB of criu's output: errors from before its log was open.
    pub output: String,
    /// The first error in the log that is not known to be harmless, with the lines before it.
    /// `None` if CRIU wrote no log. An error if this process may not read the log, such as that of
    /// another user's service.
    pub log: Result<Option<LogExcerpt>, Arc<io::Error>>,
    /// The cause, if it is a known one.
    pub cause: Option<Cause>,
    /// The file, process, address or other thing that the cause is about, as CRIU named it: "/a/b",
    /// "process 7". `None` if CRIU did not name it.
    pub seen: Option<String>,
    /// The root task of a failed restore, as CRIU named it. It has been killed.
    pub root: Option<Pid>,
}

/// The way in which CRIU ended an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum End {
    /// CRIU answered that the operation failed.
    Refused,
    /// CRIU answered that it does not understand the request (a reply of type EMPTY).
    NotUnderstood,
    /// CRIU closed the connection or ended without an answer.
    Died,
    /// CRIU was not asked, because it would have failed, perhaps after minutes, or never ended.
    NotAsked,
}

impl StdError for Failure {}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.end {
            End::Refused => write!(f, "{} failed", self.operation)?,
            End::NotUnderstood => {
                write!(f, "criu did not understand the {} request", self.operation)?
            }
            End::NotAsked => write!(f, "{} was not started", self.operation)?,
            End::Died => {
                write!(f, "criu ended without an answer to the {} request", self.operation)?;
                if let Some(exit) = self.exit {
                    write!(f, " ({exit})")?;
                }
            }
        }
        if let Some(cause) = self.cause {
            match &self.seen {
                Some(seen) => write!(f, ": {cause} ({seen}): {}", cause.hint())?,
                None => write!(f, ": {cause}: {}", cause.hint())?,
            }
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
    /// Makes the failure of an operation that CRIU was not asked for.
    pub(crate) fn not_asked(operation: &'static str, cause: Cause, seen: Option<String>) -> Self {
        Self {
            operation,
            end: End::NotAsked,
            errno: None,
            message: None,
            exit: None,
            output: String::new(),
            log: Ok(None),
            cause: Some(cause),
            seen,
            root: None,
        }
    }

    /// Reads the log of an operation that another program had CRIU do, such as a container's
    /// restore by its runtime. The cause is the one that the log tells. Without an error in the log
    /// there is neither a cause nor an [`excerpt`](Self::excerpt).
    ///
    /// `operation` is "dump" or "restore", `name` the name of the log for messages.
    pub fn of_log(operation: &'static str, name: &str, log: impl Read) -> Self {
        let found = excerpt(name, BufReader::new(log.take(bounds::LOG.get())), None);
        // Runtimes give CRIU the root of the container.
        Self::logged(operation, found, &Asked { has_root: true, ..Asked::default() })
    }

    /// Diagnoses an operation of which only the log is known.
    pub(super) fn logged(
        operation: &'static str,
        found: Option<LogExcerpt>,
        asked: &Asked,
    ) -> Self {
        let mut failure = Self {
            operation,
            end: End::Refused,
            errno: None,
            message: None,
            exit: None,
            output: String::new(),
            log: Ok(found),
            cause: None,
            seen: None,
            root: None,
        };
        diagnose(&mut failure, asked);
        failure
    }

    /// The most telling line of CRIU: from the log, else from its output, else from its answer.
    pub fn said(&self) -> Option<&str> {
        let printed = || self.output.lines().find(|line| Line::read(line).is_error());
        let first = || self.output.lines().find(|line| !line.trim().is_empty());
        let logged = self.excerpt().map(|log| log.error.as_str());
        logged.or_else(printed).or(self.message.as_deref()).or_else(first)
    }

    /// The excerpt of the log, if the log has an error and can be read.
    pub fn excerpt(&self) -> Option<&LogExcerpt> {
        self.log.as_ref().ok()?.as_ref()
    }
}
