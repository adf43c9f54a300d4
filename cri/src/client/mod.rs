//! A client of the Kubernetes container runtime interface (CRI).
//!
//! A [`Client`] talks to containerd, CRI-O or a proxy over a Unix socket. Each call has a deadline,
//! which the engine learns of.

mod calls;
mod socket;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::uri::PathAndQuery;
use prost::Message;
use tokio::net::UnixStream;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

use crate::error::{Code, Error, ErrorKind, Result};
use socket::Connector;

pub use socket::{SOCKETS, default_socket, socket_path};

/// A connection to an engine. Cheap to clone.
///
/// The connection is made again by the next call after the engine was restarted.
#[derive(Clone, Debug)]
pub struct Client {
    channel: Channel,
    socket: Arc<Path>,
    deadline: Duration,
    /// The end of all calls together.
    end: Option<Instant>,
}

impl Client {
    /// Connects to the engine at a socket.
    ///
    /// # Errors
    /// [`ErrorKind::Connect`] if nobody listens there.
    ///
    /// # Panics
    /// Panics outside of a tokio runtime.
    pub async fn connect(socket: impl Into<PathBuf>) -> Result<Self> {
        let socket = socket.into();
        let failed = |error| Error::new(&socket, CONNECT, ErrorKind::Connect(error));
        // The channel connects with its first call, and does not tell why it cannot.
        UnixStream::connect(&socket).await.map_err(failed)?;
        Self::lazy(socket)
    }

    /// A client of the engine at a socket. It connects with its first call, which fails if nobody
    /// listens there.
    ///
    /// # Errors
    /// [`ErrorKind::Connect`] for a connection that cannot be made at all.
    ///
    /// # Panics
    /// Panics outside of a tokio runtime.
    pub fn lazy(socket: impl Into<PathBuf>) -> Result<Self> {
        let socket: Arc<Path> = Arc::from(socket.into());
        let failed = |error| Error::new(&socket, CONNECT, ErrorKind::Connect(error));
        let channel = Endpoint::from_static(AUTHORITY)
            .user_agent(USER_AGENT)
            .map_err(|error| failed(io::Error::other(error)))?
            .connect_with_connector_lazy(Connector(Arc::clone(&socket)));
        Ok(Self { channel, socket, deadline: DEADLINE, end: None })
    }

    /// A client with another deadline for each of its calls, on the same connection.
    #[must_use]
    pub fn within(&self, deadline: Duration) -> Self {
        Self { deadline, ..self.clone() }
    }

    /// A client whose calls all end at a time, on the same connection. Each call may take all of
    /// the time that is left then. A call that is made later fails with [`ErrorKind::Deadline`],
    /// and the engine does not hear of the call.
    #[must_use]
    pub fn until(&self, end: Instant) -> Self {
        Self { end: Some(end), deadline: Duration::MAX, ..self.clone() }
    }

    /// Path of the engine's socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Deadline of each call.
    pub fn deadline(&self) -> Duration {
        self.deadline
    }

    /// Calls a method, such as `/runtime.v1.RuntimeService/Version`.
    async fn call<Q, A>(&self, method: &'static str, question: Q) -> Result<A>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let name = method.rsplit('/').next().unwrap_or(method);
        let failed = |kind| Error::new(&self.socket, name, kind);
        let left = self.end.map(|end| end.saturating_duration_since(Instant::now()));
        let limit = left.map_or(self.deadline, |left| left.min(self.deadline));
        if limit.is_zero() {
            return Err(failed(ErrorKind::Deadline(limit)));
        }
        let mut grpc = Grpc::new(self.channel.clone())
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE);
        let mut request = Request::new(question);
        request.set_timeout(limit);
        let begun = Instant::now();
        let call = async {
            let path = PathAndQuery::from_static(method);
            let broken = |error| ErrorKind::Broken(chain(&error));
            grpc.ready().await.map_err(broken)?;
            let answer = grpc.unary(request, path, ProstCodec::<Q, A>::default()).await;
            answer.map_err(|status| kind(status, limit))
        };
        match tokio::time::timeout(limit, call).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(kind)) => Err(failed(kind.after(begun.elapsed(), limit))),
            Err(_) => Err(failed(ErrorKind::Deadline(limit))),
        }
    }
}

/// Sorts an answer that is an error, of a call with a limit.
fn kind(status: Status, limit: Duration) -> ErrorKind {
    use std::error::Error as _;
    let code = Code::new(status.code().into());
    let message = status.message();
    if code == Code::DeadlineExceeded || message == OWN_TIMEOUT {
        return ErrorKind::Deadline(limit);
    }
    // A status with a source, or of a message beyond the limit, was made on this side.
    if let Some(source) = status.source() {
        return ErrorKind::Broken(chain(source));
    }
    if code == Code::OutOfRange && message.starts_with(TOO_LARGE) {
        return ErrorKind::Broken(message.to_lowercase());
    }
    ErrorKind::Refused { code, message: message.into() }
}

impl ErrorKind {
    /// Names the deadline for what failed after it: an engine whose time is up may cut the
    /// connection, or answer what became of a part of its work, before our own clock rings.
    fn after(self, elapsed: Duration, limit: Duration) -> Self {
        if elapsed >= limit { Self::Deadline(limit) } else { self }
    }
}

/// Joins an error and its sources.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        next = error.source();
    }
    text
}

/// Largest message, in bytes. Engines accept as much.
pub const MAX_MESSAGE: usize = 16 << 20;

/// Deadline of a call, if the caller does not set another one. A kubelet waits as long.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// Name of the call that connects, for errors.
const CONNECT: &str = "connect";

/// Authority of the requests, which servers on a Unix socket ignore.
const AUTHORITY: &str = "http://localhost";

/// Name of this client in the logs of engines.
const USER_AGENT: &str = concat!("criu-cri/", env!("CARGO_PKG_VERSION"));

/// Message of tonic's own status after the deadline.
const OWN_TIMEOUT: &str = "Timeout expired";

/// Start of tonic's own message about an answer beyond [`MAX_MESSAGE`].
const TOO_LARGE: &str = "Error, decoded message length too large";
