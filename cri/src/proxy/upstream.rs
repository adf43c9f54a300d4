//! The connection to the engine, which all calls share.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{HeaderMap, Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::bytes::Bytes;
use tokio::net::UnixStream;
use tonic::Status;

use super::body::{Sent, framed};
use super::bounds::{ENGINE_CONNECTION_WINDOW, HEADERS, SEND_BUFFER, STREAM_WINDOW};
use super::call::Passed;
use super::fault::{self, Fault};
use super::notice::{Notice, Tell};

/// The engine, over one HTTP/2 connection that is made again when it has ended. Clones share it.
#[derive(Clone)]
pub struct Upstream(Arc<Shared>);

struct Shared {
    socket: PathBuf,
    held: Mutex<Option<SendRequest<Sent>>>,
    /// Held by the call that connects.
    connecting: tokio::sync::Mutex<()>,
    is_lost: AtomicBool,
    tell: Tell,
}

impl Upstream {
    /// The engine at a socket. The first call connects.
    pub fn new(socket: impl Into<PathBuf>, tell: Tell) -> Self {
        let (held, connecting) = (Mutex::new(None), tokio::sync::Mutex::new(()));
        let is_lost = AtomicBool::new(false);
        Self(Arc::new(Shared { socket: socket.into(), held, connecting, is_lost, tell }))
    }

    /// The path of the engine's socket.
    pub fn socket(&self) -> &Path {
        &self.0.socket
    }

    /// Calls a method with one message each way. Returns the engine's whole answer.
    ///
    /// # Errors
    /// `UNAVAILABLE` if the engine cannot be reached or its connection ends, and
    /// `RESOURCE_EXHAUSTED` for an answer above [`MAX_MESSAGE`](super::answer::MAX_MESSAGE).
    pub async fn ask(
        &self,
        method: &str,
        metadata: &HeaderMap,
        message: &[u8],
    ) -> Result<Passed, Status> {
        let asked = async {
            let request = self.whole(method, metadata, message)?;
            Passed::read_from(self.send(request).await?).await
        };
        asked.await.map_err(|fault| match fault {
            Fault::Refused(status) => *status,
            Fault::Reset(error) => Status::unavailable(format!("the engine reset it: {error}")),
        })
    }

    /// Makes a request with one message.
    pub(super) fn whole(
        &self,
        method: &str,
        metadata: &HeaderMap,
        message: &[u8],
    ) -> Result<Request<Sent>, Fault> {
        let body = Sent::Whole(Some(framed(message)));
        let made = Request::post(format!("http://localhost{method}")).body(body);
        let mut request = made.map_err(|error| Status::internal(error.to_string()))?;
        *request.headers_mut() = metadata.clone();
        Ok(request)
    }

    /// Sends a request over the connection. Returns the engine's answer, whose body comes later.
    ///
    /// A request is sent once. It goes to a new connection if the old one had ended before.
    pub(super) async fn send(
        &self,
        mut request: Request<Sent>,
    ) -> Result<Response<Incoming>, Fault> {
        if request.uri().authority().is_none() {
            let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
            let uri = Uri::try_from(format!("http://localhost{path}"));
            *request.uri_mut() = uri.map_err(|error| Status::internal(error.to_string()))?;
        }
        let mut is_again = false;
        loop {
            let mut sender = self.sender().await?;
            let mut error = match sender.try_send_request(request).await {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            match error.take_message() {
                // No byte of the call has been sent.
                Some(unsent) if !is_again => request = unsent,
                _ => return Err(fault::of_engine(error.into_error())),
            }
            is_again = true;
        }
    }

    /// Returns the connection, after making one where there is none.
    async fn sender(&self) -> Result<SendRequest<Sent>, Status> {
        if let Some(sender) = self.held() {
            return Ok(sender);
        }
        let _one_at_a_time = self.0.connecting.lock().await;
        match self.held() {
            Some(sender) => Ok(sender),
            None => self.connect().await,
        }
    }

    /// Returns the connection, if there is one that goes on.
    fn held(&self) -> Option<SendRequest<Sent>> {
        let mut held = self.0.held.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = held.take_if(|sender| sender.is_closed());
        drop(ended);
        held.clone()
    }

    async fn connect(&self) -> Result<SendRequest<Sent>, Status> {
        let connected = tokio::time::timeout(CONNECT, self.handshake()).await;
        let reason = match connected {
            Ok(Ok(sender)) => {
                *self.0.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender.clone());
                self.0.is_lost.store(false, Ordering::Relaxed);
                (self.0.tell)(Notice::Connected(self.0.socket.clone()));
                return Ok(sender);
            }
            Ok(Err(reason)) => reason,
            Err(_) => format!("no connection in {} s", CONNECT.as_secs()),
        };
        // Calls may come often while the engine is away.
        if !self.0.is_lost.swap(true, Ordering::Relaxed) {
            (self.0.tell)(Notice::Unreachable(self.0.socket.clone(), reason.clone()));
        }
        let socket = self.0.socket.display();
        Err(Status::unavailable(format!("cannot reach the engine at {socket}: {reason}")))
    }

    async fn handshake(&self) -> Result<SendRequest<Sent>, String> {
        let stream =
            UnixStream::connect(&self.0.socket).await.map_err(|error| error.to_string())?;
        // No pings: engines end connections that send them often.
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(ENGINE_CONNECTION_WINDOW)
            .max_header_list_size(HEADERS)
            .max_send_buf_size(SEND_BUFFER);
        let (sender, connection) =
            builder.handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        let shared = Arc::clone(&self.0);
        tokio::spawn(async move {
            let ended = connection.await;
            let reason = ended.err().map(|error| error.to_string());
            (shared.tell)(Notice::Ended(shared.socket.clone(), reason));
        });
        Ok(sender)
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Upstream").field(&self.0.socket).finish()
    }
}

/// Headers of a request that this program makes itself.
pub(super) fn own_metadata() -> HeaderMap {
    let of = http::HeaderValue::from_static;
    let headers =
        [(http::header::CONTENT_TYPE, of("application/grpc")), (http::header::TE, of("trailers"))];
    headers.into_iter().collect()
}

/// The version call that shows that an engine answers: its method and its message.
pub(super) const VERSION: (&str, Bytes) =
    ("/runtime.v1.RuntimeService/Version", Bytes::from_static(&[]));

/// Time for a connection. The kernel makes one at once, unless the engine takes none.
const CONNECT: Duration = Duration::from_secs(5);
