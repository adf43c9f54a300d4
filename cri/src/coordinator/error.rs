//! The errors of a coordinator and its members.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use criu_rs::pages::PagesError;

use super::answer::Answer;
use super::step::Step;

/// The error of a coordinator or of one of its members.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CoordinatorError {
    /// The coordinator cannot be reached.
    #[error("cannot reach the coordinator at {address}: {source}")]
    Connect {
        /// The address of the coordinator.
        address: String,
        /// The system's error.
        source: io::Error,
    },
    /// The connection fails before the answer is there.
    #[error("the connection to the coordinator at {address} fails at {step}: {source}")]
    Connection {
        /// The address of the coordinator.
        address: String,
        /// The step that the member asked for.
        step: String,
        /// The system's error.
        source: io::Error,
    },
    /// The coordinator does not let the member go on.
    #[error("the coordinator does not let {id} go on at {step}: {answer}")]
    Answer {
        /// The member's id.
        id: String,
        /// The step that the member asked for.
        step: String,
        /// The coordinator's answer.
        answer: Answer,
    },
    /// The answer is none of the protocol's.
    #[error("the coordinator's answer is none of the protocol's: {0}")]
    Unknown(String),
    /// The member has waited as long as it may.
    #[error("no answer of the coordinator at {step} within {limit:?}")]
    Deadline {
        /// The step that the member asked for.
        step: String,
        /// The limit.
        limit: Duration,
    },
    /// The member's operation was cancelled while it waited.
    #[error("cancelled while waiting for the others at {0}")]
    Cancelled(String),
    /// A coordinator is on another machine, and the way to it has no TLS.
    #[error(
        "{0}: this coordinator is on another machine, and without TLS whoever is between can read \
         and forge what is said: use TLS, or allow it explicitly"
    )]
    Unprotected(String),
    /// Other machines can reach an address on which a coordinator is to listen without TLS, and
    /// clients would need no certificate.
    #[error(
        "{0}: other machines can reach this address, and without TLS anybody there can join: \
         use TLS, or allow the address explicitly"
    )]
    Exposed(String),
    /// Another user of this machine has accepted the connection to the coordinator.
    #[error("{address}: user {user} answers there, who is neither this process's user nor root")]
    Stranger {
        /// The address.
        address: String,
        /// The uid of the user.
        user: u32,
    },
    /// A value that the caller gives makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// Input that begins no request.
    #[error("the request begins with no `{{`")]
    Garbage,
    /// A certificate, a key or a revocation list cannot be used, or a user may not connect.
    #[error(transparent)]
    Pages(#[from] PagesError),
    /// A file cannot be used.
    #[error("{}: {why}", path.display())]
    File {
        /// The path of the file.
        path: PathBuf,
        /// The reason.
        why: String,
    },
    /// A step is not one of the member's operation.
    #[error("{0} does not belong to the operation that the member has begun")]
    Order(Step),
    /// A call of the system fails.
    #[error("cannot {what}: {source}")]
    System {
        /// The attempt that failed.
        what: &'static str,
        /// The system's error.
        source: io::Error,
    },
}

impl CoordinatorError {
    pub(super) fn system(what: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::System { what, source }
    }
}
