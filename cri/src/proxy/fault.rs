//! The ways in which a call fails in the proxy.

use std::error::Error;
use std::fmt;

use tonic::Status;

/// A call that the engine did not answer.
#[derive(Debug)]
pub(super) enum Fault {
    /// The client gets this status.
    Refused(Box<Status>),
    /// The engine or the client has reset the call's stream. The other side gets the same reset.
    Reset(hyper::Error),
}

impl From<Status> for Fault {
    fn from(status: Status) -> Self {
        Self::Refused(Box::new(status))
    }
}

impl From<hyper::Error> for Fault {
    fn from(error: hyper::Error) -> Self {
        Self::Reset(error)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(status) => write!(f, "refused: {}", status.message()),
            Self::Reset(_) => f.write_str("the stream was reset"),
        }
    }
}

impl Error for Fault {
    /// The reset, in which hyper finds the number for the other side.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Refused(_) => None,
            Self::Reset(error) => Some(error),
        }
    }
}

/// Returns the meaning of an error of the engine's connection.
pub(super) fn of_engine(error: hyper::Error) -> Fault {
    let of_http2 = error.source().and_then(|source| source.downcast_ref::<h2::Error>());
    if of_http2.is_some_and(|error| error.is_reset() && error.is_remote()) {
        return Fault::Reset(error);
    }
    let reason = of_http2.map_or_else(|| error.to_string(), ToString::to_string);
    Status::unavailable(format!(
        "the engine's connection ended during the call, which the engine may have executed: \
         {reason}"
    ))
    .into()
}
