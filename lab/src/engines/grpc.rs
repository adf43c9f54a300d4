//! Calls over gRPC with one message each way, over a socket of this machine.

use std::fmt;
use std::path::Path;

use h2::client::SendRequest;
use http::{HeaderMap, Request};
use prost::Message;
use prost::bytes::{BufMut, Bytes, BytesMut};
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};

/// The answer of a server that refuses a call.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// The code, such as 5 for "not found".
    pub code: u32,
    /// The server's reason.
    pub reason: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "code {}: {}", self.code, self.reason)
    }
}

/// A client whose calls are measured. They have empty messages.
pub struct Caller(Connection);

impl Caller {
    /// Connects to the server at a socket.
    ///
    /// # Errors
    /// If no server is there, or it does not speak HTTP/2.
    pub fn new(socket: &Path) -> Result<Self, String> {
        Connection::new(socket).map(Self)
    }

    /// Calls a method, and passes over the answer.
    ///
    /// # Errors
    /// The server's refusal.
    pub fn call(&self, method: &str) -> Result<(), Refusal> {
        self.0.call(method, &())
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Caller")
    }
}

/// A connection to a server.
pub(super) struct Connection {
    runtime: Runtime,
    requests: SendRequest<Bytes>,
}

impl Connection {
    /// Connects to the server at a socket.
    ///
    /// # Errors
    /// If no server is there, or it does not speak HTTP/2.
    pub(super) fn new(socket: &Path) -> Result<Self, String> {
        let runtime = Builder::new_current_thread().enable_io().build().unwrap();
        let requests = runtime.block_on(async {
            let stream = UnixStream::connect(socket).await.map_err(|error| error.to_string())?;
            let (requests, connection) =
                h2::client::handshake(stream).await.map_err(|error| error.to_string())?;
            tokio::spawn(connection);
            Ok::<_, String>(requests)
        })?;
        Ok(Self { runtime, requests })
    }

    /// Calls a method, such as `/runtime.v1.RuntimeService/Version`.
    ///
    /// # Errors
    /// The server's refusal; a connection that broke has code 14.
    pub(super) fn call<A>(&self, method: &str, question: &impl Message) -> Result<A, Refusal>
    where
        A: Message + Default,
    {
        let broken = |reason: String| Refusal { code: UNAVAILABLE, reason };
        let (mut headers, body) = self
            .runtime
            .block_on(self.exchange(method, question))
            .map_err(|error| broken(error.to_string()))?;
        let code = take(&mut headers, "grpc-status").and_then(|code| code.parse().ok());
        match code {
            Some(0) => {}
            Some(code) => {
                let reason = take(&mut headers, "grpc-message").unwrap_or_default();
                return Err(Refusal { code, reason });
            }
            None => return Err(broken(format!("an answer without a status: {headers:?}"))),
        }
        let message =
            body.get(PREFIX..).ok_or_else(|| broken("an answer without a body".into()))?;
        A::decode(message).map_err(|error| broken(error.to_string()))
    }

    /// Sends the question. Returns headers and trailers in one, and the body.
    async fn exchange(
        &self,
        method: &str,
        question: &impl Message,
    ) -> Result<(HeaderMap, Vec<u8>), h2::Error> {
        let request = Request::post(format!("http://localhost{method}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .unwrap();
        let mut requests = self.requests.clone().ready().await?;
        let (answer, mut send) = requests.send_request(request, false)?;
        send.send_data(framed(question), true)?;
        let (parts, mut body) = answer.await?.into_parts();
        let mut headers = parts.headers;
        let mut bytes = Vec::new();
        while let Some(part) = body.data().await {
            let part = part?;
            body.flow_control().release_capacity(part.len())?;
            bytes.extend_from_slice(&part);
        }
        headers.extend(body.trailers().await?.unwrap_or_default());
        Ok((headers, bytes))
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connection")
    }
}

/// A message as gRPC sends it: not compressed, with its length before it.
fn framed(message: &impl Message) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(message.encoded_len()).unwrap());
    message.encode(&mut bytes).unwrap();
    bytes.freeze()
}

fn take(headers: &mut HeaderMap, name: &str) -> Option<String> {
    Some(headers.remove(name)?.to_str().ok()?.to_owned())
}

/// The bytes before a message.
const PREFIX: usize = 5;

/// gRPC's code for a server that cannot be reached.
const UNAVAILABLE: u32 = 14;
