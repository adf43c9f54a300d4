//! Failed calls to an engine.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use criu_images::Text;

/// Result of a call to an engine.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A call that failed: the endpoint, the method, and the kind of the failure.
#[derive(Debug)]
pub struct Error {
    endpoint: PathBuf,
    method: &'static str,
    kind: Box<ErrorKind>,
}

/// Kinds of failed calls.
#[derive(Debug)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Nobody answers at the socket.
    Connect(io::Error),
    /// The engine answered with an error.
    Refused {
        /// Code of the error.
        code: Code,
        /// Message of the engine.
        message: String,
    },
    /// The call took longer than its deadline. The engine may go on with the call or may not.
    Deadline(Duration),
    /// The connection broke before the answer was here, or the answer cannot be read.
    Broken(String),
}

impl Error {
    /// Makes an error of a call.
    pub(crate) fn new(endpoint: &Path, method: &'static str, kind: ErrorKind) -> Self {
        Self { endpoint: endpoint.into(), method, kind: Box::new(kind) }
    }

    /// Kind of the failure, with its numbers.
    pub fn kind(&self) -> &ErrorKind {
        &self.kind
    }

    /// Name of the method, such as `CheckpointPod`.
    pub fn method(&self) -> &'static str {
        self.method
    }

    /// Path of the engine's socket.
    pub fn endpoint(&self) -> &Path {
        &self.endpoint
    }

    /// Code of the engine's answer. A call past its deadline has [`Code::DeadlineExceeded`], and a
    /// connection that failed has [`Code::Unavailable`].
    pub fn code(&self) -> Code {
        match &*self.kind {
            ErrorKind::Refused { code, .. } => *code,
            ErrorKind::Deadline(_) => Code::DeadlineExceeded,
            ErrorKind::Connect(_) | ErrorKind::Broken(_) => Code::Unavailable,
        }
    }

    /// Advice about the failure, if there is any.
    pub fn advice(&self) -> Option<&'static str> {
        match &*self.kind {
            ErrorKind::Connect(error) => Some(match error.kind() {
                io::ErrorKind::PermissionDenied => "the sockets of engines belong to root",
                _ => "start the engine, or name the socket that it listens on",
            }),
            ErrorKind::Deadline(_) if self.method.starts_with("Checkpoint") => {
                Some("give more time: to save a container takes longer the more memory it has")
            }
            ErrorKind::Deadline(_) => Some("give more time"),
            ErrorKind::Broken(_) => Some("look into the log of the engine, and try again"),
            ErrorKind::Refused { code, message } => advice(self.method, *code, message),
        }
    }
}

/// Returns what to do about a refusal.
fn advice(method: &str, code: Code, message: &str) -> Option<&'static str> {
    Some(match (method, code) {
        ("CheckpointPod" | "RestorePod", Code::Unimplemented) => {
            "no released engine answers this call: start criu-cri-proxy in front of the engine, \
             and call the proxy"
        }
        ("CheckpointContainer", Code::Unimplemented) => {
            "the engine is too old, or does not allow checkpoints: containerd has them since 2.0, \
             and CRI-O has them behind the option enable_criu_support"
        }
        (_, Code::Unimplemented) => "the engine is too old for this call",
        ("CheckpointContainer", _) if message.contains("no such file or directory") => {
            "the directory of the archive must exist on the node"
        }
        ("CreateContainer", _) if message.contains("failed to pull checkpoint base image") => {
            "containerd pulls the image of the root file system itself, by HTTPS with the system's \
             certificates and without credentials, also if the node has the image: put the image \
             into a registry that answers so"
        }
        (_, Code::NotFound) => "list the sandboxes and containers for what is there",
        (_, Code::PermissionDenied | Code::Unauthenticated) => "call the engine as root",
        (_, Code::ResourceExhausted) => "the engine is busy, or the message too large for it",
        _ => return None,
    })
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.endpoint.display(), self.method, self.kind)
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(error) => write!(f, "cannot connect: {error}"),
            // Messages of others may have any characters.
            Self::Refused { code, message } => write!(f, "{code}: {}", Text(message.as_bytes())),
            Self::Deadline(Duration::ZERO) => f.write_str("no time was left to ask"),
            Self::Deadline(after) => write!(f, "no answer within {after:?}"),
            Self::Broken(reason) => {
                write!(f, "the connection broke: {}", Text(reason.as_bytes()))
            }
        }
    }
}

impl std::error::Error for Error {
    /// The error of the operating system under the failure, if there is one.
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &*self.kind {
            ErrorKind::Connect(error) => Some(error),
            _ => None,
        }
    }
}

/// A code of gRPC.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Code {
    /// The call was cancelled.
    Cancelled = 1,
    /// The engine does not say more.
    Unknown = 2,
    /// The question is wrong.
    InvalidArgument = 3,
    /// The deadline has passed.
    DeadlineExceeded = 4,
    /// A thing in the question does not exist.
    NotFound = 5,
    /// A thing exists already.
    AlreadyExists = 6,
    /// The caller may not do this.
    PermissionDenied = 7,
    /// A resource is used up.
    ResourceExhausted = 8,
    /// The state of a thing does not allow this.
    FailedPrecondition = 9,
    /// Others were faster.
    Aborted = 10,
    /// A number is beyond its range.
    OutOfRange = 11,
    /// The engine does not have this method.
    Unimplemented = 12,
    /// A fault of the engine.
    Internal = 13,
    /// The engine cannot be reached.
    Unavailable = 14,
    /// Data is lost.
    DataLoss = 15,
    /// The caller is not known.
    Unauthenticated = 16,
}

impl Code {
    /// Returns the code of a number. Numbers that gRPC does not have are [`Code::Unknown`].
    pub fn new(number: i32) -> Self {
        usize::try_from(number)
            .ok()
            .and_then(|number| number.checked_sub(1))
            .and_then(|place| CODES.get(place))
            .map_or(Self::Unknown, |(code, _)| *code)
    }

    /// Number of the code.
    pub fn number(self) -> i32 {
        self as i32
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = CODES.iter().find(|(code, _)| code == self);
        f.write_str(row.map_or("unknown error", |(_, text)| text))
    }
}

/// Codes by their numbers, from 1 on, and their names in messages.
const CODES: [(Code, &str); 16] = [
    (Code::Cancelled, "cancelled"),
    (Code::Unknown, "unknown error"),
    (Code::InvalidArgument, "invalid argument"),
    (Code::DeadlineExceeded, "deadline exceeded"),
    (Code::NotFound, "not found"),
    (Code::AlreadyExists, "already exists"),
    (Code::PermissionDenied, "permission denied"),
    (Code::ResourceExhausted, "resource exhausted"),
    (Code::FailedPrecondition, "failed precondition"),
    (Code::Aborted, "aborted"),
    (Code::OutOfRange, "out of range"),
    (Code::Unimplemented, "not implemented"),
    (Code::Internal, "internal error"),
    (Code::Unavailable, "unavailable"),
    (Code::DataLoss, "data loss"),
    (Code::Unauthenticated, "unauthenticated"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_their_numbers() {
        for (place, (code, _)) in CODES.iter().enumerate() {
            let number = i32::try_from(place + 1).expect("a small number");
            assert_eq!((code.number(), Code::new(number)), (number, *code));
        }
        for number in [i32::MIN, -1, 0, 17, i32::MAX] {
            assert_eq!(Code::new(number), Code::Unknown, "{number}");
        }
    }

    #[test]
    fn messages_of_engines_do_not_reach_the_terminal_raw() {
        let kind = ErrorKind::Refused { code: Code::NotFound, message: "\x1b[2J".into() };
        let error = Error::new(Path::new("/run/c.sock"), "ContainerStatus", kind);
        let shown = error.to_string();
        assert!(shown.starts_with("/run/c.sock: ContainerStatus: not found: "), "{shown}");
        assert!(!shown.contains('\x1b'), "{shown:?}");
    }
}
