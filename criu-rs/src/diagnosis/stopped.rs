//! The error for an operation that was stopped early.

use std::fmt;
use std::time::Duration;

/// An operation that was cancelled, or whose deadline passed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{operation} {why}: {how}")]
#[non_exhaustive]
pub struct Stopped {
    /// The name of the operation: "dump", "restore", ...
    pub operation: &'static str,
    /// The reason.
    pub why: StopReason,
    /// The method.
    pub how: StopMethod,
}

/// The reason why an operation was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StopReason {
    /// [`Cancel::cancel`](crate::Cancel::cancel) was called.
    Cancelled,
    /// The deadline passed.
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

/// The method by which an operation was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StopMethod {
    /// The operation ended before CRIU was asked for anything.
    NotStarted,
    /// An action was refused, and CRIU undid its work.
    Refused,
    /// criu was killed at a point where no task was executing CRIU's code.
    Killed,
    /// criu was killed at a point where a task may have been executing CRIU's code, because no
    /// better point came in time. Such a task can die.
    KilledUnsafely,
    /// The connection was closed. This crate does not kill a service, which notices at its next
    /// action.
    Disconnected,
}

impl fmt::Display for StopMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotStarted => "nothing was started",
            Self::Refused => "criu undid its work",
            Self::Killed => "criu was killed at a safe point",
            Self::KilledUnsafely => "criu was killed, perhaps while a task executed its code",
            Self::Disconnected => "the connection was closed; the service stops at its next action",
        })
    }
}
