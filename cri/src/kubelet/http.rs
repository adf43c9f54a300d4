//! A request over a connection of its own.

use std::error::Error as _;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use criu_archive::metadata::Time;
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, AUTHORIZATION, HOST, USER_AGENT};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;

use super::access::Access;
use super::endpoint::Endpoint;
use super::error::ErrorKind;
use super::text::short;
use super::tls;

/// An answer.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    /// The first 64 KiB of the body.
    pub(super) body: Vec<u8>,
    /// Set if the body is longer.
    pub(super) is_cut: bool,
}

/// Sends a request without a body, and waits for the answer for so long.
pub(super) fn post(
    endpoint: &Endpoint,
    access: &Access,
    path: &str,
    patience: Duration,
) -> Result<Reply, ErrorKind> {
    let failed = |error: io::Error| ErrorKind::Unreachable(error.to_string());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(failed)?;
    let reply = runtime.block_on(async {
        let asked = Asked::new(endpoint, access, path)?;
        tokio::select! {
            reply = asked.ask() => reply,
            () = sleep(patience) => Err(ErrorKind::Silent { after: patience }),
        }
    });
    // A look-up of a name that hangs is not waited for.
    runtime.shutdown_background();
    reply
}

struct Asked<'a> {
    endpoint: &'a Endpoint,
    request: Request<Empty<Bytes>>,
    connector: TlsConnector,
    name: ServerName<'static>,
    /// End of the client's certificate.
    client: Option<Time>,
}

impl<'a> Asked<'a> {
    fn new(endpoint: &'a Endpoint, access: &Access, path: &str) -> Result<Self, ErrorKind> {
        let mut request = Request::post(path)
            .header(HOST, endpoint.authority())
            .header(USER_AGENT, concat!("criu-cri/", env!("CARGO_PKG_VERSION")))
            .header(ACCEPT, "application/json, text/plain");
        if let Some(value) = access.authorization()? {
            request = request.header(AUTHORIZATION, value);
        }
        let wrong = |_| ErrorKind::Malformed {
            what: short(&endpoint.to_string()),
            why: "is no place of a request".to_owned(),
        };
        Ok(Self {
            endpoint,
            request: request.body(Empty::new()).map_err(wrong)?,
            connector: TlsConnector::from(Arc::new(tls::config(access)?)),
            name: tls::server_name(access, endpoint)?,
            client: tls::end_of_client(access)?,
        })
    }

    async fn ask(self) -> Result<Reply, ErrorKind> {
        let late = |_| {
            let seconds = CONNECT.as_secs();
            ErrorKind::Unreachable(format!("no connection in {seconds} seconds"))
        };
        let place = (self.endpoint.host(), self.endpoint.port());
        let stream = timeout(CONNECT, TcpStream::connect(place)).await.map_err(late)?;
        let stream = stream.map_err(|error| ErrorKind::Unreachable(short(&error.to_string())))?;
        let (name, client) = (self.name, self.client);
        let failed = |error: &io::Error| match tls::inner(error) {
            Some(error) => tls::kind(error, &name, client),
            None => ErrorKind::Broken(short(&error.to_string())),
        };
        let tls = self.connector.connect(name.clone(), stream);
        let tls = timeout(CONNECT, tls).await.map_err(late)?.map_err(|error| failed(&error))?;
        let broken = |error: hyper::Error| {
            let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
            match source {
                Some(error) => failed(error),
                None => ErrorKind::Broken(short(&error.to_string())),
            }
        };
        let mut builder = http1::Builder::new();
        builder.max_buf_size(HEADERS);
        let (mut sender, connection) =
            builder.handshake(TokioIo::new(tls)).await.map_err(broken)?;
        tokio::spawn(connection);
        let response = sender.send_request(self.request).await.map_err(broken)?;
        read(response).await.map_err(broken)
    }
}

async fn read(response: Response<Incoming>) -> Result<Reply, hyper::Error> {
    let (head, mut body) = response.into_parts();
    let mut reply = Reply { status: head.status.as_u16(), body: Vec::new(), is_cut: false };
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        let left = MOST - reply.body.len();
        reply.is_cut = data.len() > left;
        reply.body.extend_from_slice(data.get(..left).unwrap_or(&data));
        if reply.is_cut {
            break;
        }
    }
    Ok(reply)
}

/// The time in which a connection is made, and again for TLS.
const CONNECT: Duration = Duration::from_secs(15);
/// The largest headers, in bytes.
const HEADERS: usize = 64 << 10;
/// The largest body, in bytes: a kubelet answers with a path, or a sentence.
const MOST: usize = 64 << 10;
