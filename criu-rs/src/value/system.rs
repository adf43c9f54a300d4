//! Failed system calls of this crate.

use std::io;
use std::sync::Arc;

/// A failed system call of this crate: the attempt, and the call's error.
#[derive(Clone, Debug, thiserror::Error)]
#[error("cannot {doing}: {source}")]
#[non_exhaustive]
pub struct SystemError {
    /// The attempt, as a verb phrase: "open the directory /ckpt".
    pub doing: String,
    /// The call's error.
    pub source: Arc<io::Error>,
}

impl SystemError {
    pub(crate) fn new(doing: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self { doing: doing.into(), source: Arc::new(source.into()) }
    }
}
