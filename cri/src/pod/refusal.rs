//! Refused requests.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use criu_rs::Cancel;

use crate::engine::{EngineError, OptionError};
use crate::error::{Code, Error};

/// The reason why a pod was not saved, or not restored. The text has no part of a configuration
/// that may be secret: no values of environment variables, and no arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    code: Code,
    text: String,
}

impl Refusal {
    /// Makes a refusal.
    pub fn new(code: Code, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }

    /// The request is wrong, whatever the pod is.
    pub(super) fn invalid(text: impl Into<String>) -> Self {
        Self::new(Code::InvalidArgument, text)
    }

    /// The pod, the engine or the checkpoint is not as the request needs it.
    pub(super) fn state(text: impl Into<String>) -> Self {
        Self::new(Code::FailedPrecondition, text)
    }

    /// A file cannot be used.
    pub(super) fn file(doing: &str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let text = format!("cannot {doing} {}", path.display());
        move |error| Self::new(Code::Internal, format!("{text}: {error}"))
    }

    /// Code of gRPC.
    pub fn code(&self) -> Code {
        self.code
    }

    /// The reason, in words.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Adds something that is to be known besides.
    #[must_use]
    pub(super) fn and(mut self, more: &str) -> Self {
        self.text = format!("{}; {more}", self.text);
        self
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Refusal {}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

impl From<OptionError> for Refusal {
    fn from(error: OptionError) -> Self {
        Self::invalid(error.to_string())
    }
}

impl From<EngineError> for Refusal {
    fn from(error: EngineError) -> Self {
        let code = match &error {
            EngineError::Deadline => Code::DeadlineExceeded,
            EngineError::Cancelled => Code::Cancelled,
            EngineError::Option(_) | EngineError::Invalid { .. } => Code::InvalidArgument,
            EngineError::Io { .. } | EngineError::Images(_) => Code::Internal,
            _ => Code::FailedPrecondition,
        };
        Self::new(code, error.to_string())
    }
}

impl From<criu_archive::Error> for Refusal {
    fn from(error: criu_archive::Error) -> Self {
        let code = match error.kind() {
            criu_archive::ErrorKind::Stopped => Code::Cancelled,
            _ => Code::Internal,
        };
        Self::new(code, error.to_string())
    }
}

/// Refuses to go on with an operation that is cancelled.
pub(super) fn go_on(cancel: &Cancel) -> Result<(), Refusal> {
    if cancel.is_cancelled() {
        return Err(of_cancelled());
    }
    Ok(())
}

/// Waits until an operation is cancelled, for a `select` with its work.
pub(super) async fn cancelled(cancel: &Cancel) -> Refusal {
    while !cancel.is_cancelled() {
        tokio::time::sleep(PAUSE).await;
    }
    of_cancelled()
}

fn of_cancelled() -> Refusal {
    Refusal::new(Code::Cancelled, "the request was cancelled")
}

/// Time between two looks at a handle.
const PAUSE: Duration = Duration::from_millis(50);
