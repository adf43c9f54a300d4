//! Errors of checkpoints through a kubelet.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use criu_archive::metadata::Time;

/// The result of a request to a kubelet.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The reason why a kubelet made no checkpoint, and the place that was asked.
#[derive(Debug)]
pub struct Error {
    place: String,
    kind: Box<ErrorKind>,
}

impl Error {
    pub(super) fn new(place: impl fmt::Display, kind: ErrorKind) -> Self {
        Self { place: place.to_string(), kind: Box::new(kind) }
    }

    /// Returns the place that was asked, or the file that was read.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Returns the reason.
    pub fn kind(&self) -> &ErrorKind {
        &self.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.kind)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &*self.kind {
            ErrorKind::File { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// The party that has answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Party {
    /// The kubelet.
    Kubelet,
    /// The API server, which did not ask the kubelet.
    ApiServer,
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kubelet => "the kubelet",
            Self::ApiServer => "the API server",
        })
    }
}

/// Reasons why a kubelet made no checkpoint. `said` is text of the other side: short, and without
/// control characters.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A file with certificates, a key, a token or a kubeconfig cannot be read. Give one that can.
    #[error("cannot read {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// A certificate, a key, a token or a kubeconfig is faulty. Give a whole one.
    #[error("{what} {why}")]
    Malformed {
        /// The value, or its file.
        what: String,
        /// The fault.
        why: String,
    },
    /// A kubeconfig asks for something that is not done here, such as to run a program that
    /// fetches credentials. Set the credentials in [`Access`](super::Access).
    #[error("{0}")]
    Unsupported(String),
    /// The server cannot be reached. Check the address, the port and the network.
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    /// The server does not speak TLS. Check the port: that of a kubelet is 10250.
    #[error("does not speak TLS: {0}")]
    NotTls(String),
    /// The server has ended the connection with an alert of TLS that is not about the client's
    /// certificate: the versions or ciphers of both sides differ, or the server has failed.
    #[error("the server ends TLS: {0}")]
    TlsEnded(String),
    /// No authority of [`Access`](super::Access) has signed the server's certificate. Add the
    /// authority, or the certificate itself if it is self-signed, with
    /// [`Access::trust_file`](super::Access::trust_file).
    #[error("the server's certificate is signed by no authority that is trusted")]
    Untrusted,
    /// The server's certificate is for other names. Ask by one of these names, or set
    /// [`Access::server_name`](super::Access::server_name) to the name that it has to show.
    #[error(
        "the server's certificate is not for {wanted}{}",
        if presented.is_empty() { String::new() } else { format!(", but for {presented}") }
    )]
    WrongName {
        /// The name that was asked for.
        wanted: String,
        /// Names in the certificate, with commas between.
        presented: String,
    },
    /// The server's certificate has expired, or is not valid yet. Compare the clocks, and renew
    /// the certificate.
    #[error("the server's certificate {0}")]
    NotInTime(String),
    /// The server's certificate is faulty.
    #[error("the server's certificate is refused: {0}")]
    Certificate(String),
    /// The server has ended the connection because of the client's certificate. Give one that the
    /// server's authority has signed, and that is valid.
    #[error("the server refuses the client certificate: {said}{}", until(expired.as_ref()))]
    ClientCertificate {
        /// The alert of TLS.
        said: String,
        /// The end of the certificate's validity, if that is over.
        expired: Option<Time>,
    },
    /// 401: the credentials are missing or unknown. Set a client certificate or a token.
    #[error(
        "{by} does not accept the credentials (401){}{}",
        until(expired.as_ref()),
        quoted(said)
    )]
    Unauthenticated {
        /// The party that refuses.
        by: Party,
        /// Text of the answer.
        said: String,
        /// The end of the client certificate's validity, if that is over.
        expired: Option<Time>,
    },
    /// 403: the caller lacks the right `create` on `nodes/checkpoint`, or through the API server
    /// on `nodes/proxy`. Give the caller a role with this rule.
    #[error("{by} forbids it (403): {} is needed{}", right(*by), quoted(said))]
    Forbidden {
        /// The party that refuses.
        by: Party,
        /// Text of the answer.
        said: String,
    },
    /// 404 for the path: the kubelet's feature gate `ContainerCheckpoint` is off, or the server is
    /// no kubelet. Turn the gate on, or use Kubernetes 1.30 or later, where it is on.
    #[error("has no checkpoints (404): the gate ContainerCheckpoint is off, or this is no kubelet")]
    GateOff,
    /// 404 of the API server: the cluster has no such node.
    #[error("the API server knows no such node (404){}", quoted(said))]
    NoNode {
        /// Text of the answer.
        said: String,
    },
    /// 404: no such pod on this node. Check the namespace, the name and the node.
    #[error("no pod {namespace}/{pod} is on this node (404)")]
    NoPod {
        /// The namespace that was asked for.
        namespace: String,
        /// The pod that was asked for.
        pod: String,
    },
    /// 404: the pod has no container of this name.
    #[error("the pod has no container {0} (404)")]
    NoContainer(String),
    /// 500: the container is one of the pod, and is not there now. Wait until it runs.
    #[error("the container is not running (500){}", quoted(said))]
    NotRunning {
        /// Text of the answer.
        said: String,
    },
    /// 404: the kubelet does not understand the time-out.
    #[error("the kubelet does not understand the time-out (404)")]
    Timeout,
    /// 500: the container runtime has no checkpoints, or they are turned off. Use containerd 2.0
    /// or later, or CRI-O with `enable_criu_support`, and install CRIU on the node.
    #[error("the node's container runtime has no checkpoints (500){}", quoted(said))]
    RuntimeLacks {
        /// Text of the runtime.
        said: String,
    },
    /// 500: the runtime did not finish in time. Ask for a longer time-out.
    #[error("the container runtime did not finish in time (500){}", quoted(said))]
    RuntimeTimeout {
        /// Text of the runtime.
        said: String,
    },
    /// 500: the runtime failed. The reason is in its log and in CRIU's `dump.log` on the node.
    #[error("the container runtime failed (500{}){}", named(code.as_deref()), quoted(said))]
    Runtime {
        /// Name of the gRPC code.
        code: Option<String>,
        /// Text of the runtime.
        said: String,
    },
    /// 502, 503 or 504: the API server cannot reach the kubelet.
    #[error("the API server cannot reach the kubelet ({status}){}", quoted(said))]
    NodeUnreachable {
        /// Status of the answer.
        status: u16,
        /// Text of the answer.
        said: String,
    },
    /// Another answer: of a server that is no kubelet, or of a kubelet that failed.
    #[error("answers {status}{}", quoted(said))]
    Answer {
        /// Status of the answer.
        status: u16,
        /// Text of the answer.
        said: String,
    },
    /// An answer of success that names no checkpoint. The node may have a new checkpoint.
    #[error("answers 200, but {0}")]
    Garbled(&'static str),
    /// No answer of HTTP, or one that ends early. The node may have a new checkpoint.
    #[error("gives no whole answer: {0}")]
    Broken(String),
    /// No answer in time. The kubelet may go on, and the node may have a new checkpoint.
    #[error("gives no answer in {} seconds", after.as_secs())]
    Silent {
        /// The time that was waited.
        after: Duration,
    },
}

fn until(expired: Option<&Time>) -> String {
    expired.map_or_else(String::new, |until| format!("; the client certificate ended at {until}"))
}

fn quoted(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!(": {said}") }
}

fn named(code: Option<&str>) -> String {
    code.map_or_else(String::new, |code| format!(", {code}"))
}

fn right(by: Party) -> &'static str {
    match by {
        Party::Kubelet => "the right `create` on `nodes/checkpoint`",
        Party::ApiServer => "the right `create` on `nodes/proxy`",
    }
}
