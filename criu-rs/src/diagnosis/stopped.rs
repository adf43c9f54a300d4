//! An operation that was ended before its time.

use std::fmt;
use std::time::Duration;

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
