//! `/readyz`: tells if calls get through to the engine.

use std::path::Path;
use std::time::Duration;

use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::bytes::Bytes;
use tokio::net::UnixStream;
use tokio::time::timeout;
use tonic::Status;

use super::body::Back;
use super::upstream::{Upstream, VERSION, own_metadata};

/// Answers with 200 if the engine answers a `Version` call, and with 503 and the reason otherwise.
pub(super) async fn answer(upstream: &Upstream) -> Response<Back> {
    let (method, message) = VERSION;
    let metadata = own_metadata();
    let asked = timeout(ENGINE, upstream.ask(method, &metadata, &message)).await;
    let refusal = match asked {
        Ok(Ok(passed)) => passed.refusal(),
        Ok(Err(status)) => Some(status),
        Err(_) => Some(Status::unavailable(format!(
            "the engine at {} does not answer in {} s",
            upstream.socket().display(),
            ENGINE.as_secs()
        ))),
    };
    let (status, text) = match refusal {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(status) => (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", status.message())),
    };
    let mut response = Response::new(Back::Whole(Some(text.into()), None));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}

/// Asks the proxy at a socket if it is ready.
///
/// # Errors
/// The reason, if the proxy is not ready.
pub async fn check(socket: &Path) -> Result<(), String> {
    let shown = socket.display();
    let asked = timeout(PROXY, ask(socket)).await;
    let (status, text) = asked
        .map_err(|_| format!("the proxy at {shown} does not answer in {} s", PROXY.as_secs()))??;
    if status == StatusCode::OK { Ok(()) } else { Err(text.trim_end().to_owned()) }
}

async fn ask(socket: &Path) -> Result<(StatusCode, String), String> {
    let shown = socket.display();
    let failed = |error: &dyn std::fmt::Display| format!("the proxy at {shown}: {error}");
    let stream = UnixStream::connect(socket).await.map_err(|error| failed(&error))?;
    let connected = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (mut sender, connection) = connected.map_err(|error| failed(&error))?;
    tokio::spawn(connection);
    let request = Request::get(format!("http://localhost{PATH}")).header(HOST, "localhost");
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| failed(&error))?;
    let response = sender.send_request(request).await.map_err(|error| failed(&error))?;
    let status = response.status();
    let text = Limited::new(response.into_body(), TEXT).collect().await;
    let text = text.map_err(|error| failed(&error))?.to_bytes();
    Ok((status, String::from_utf8_lossy(&text).into_owned()))
}

/// The path of the request.
pub(super) const PATH: &str = "/readyz";

/// Time for the engine's answer.
const ENGINE: Duration = Duration::from_secs(2);

/// Time for the proxy's answer.
const PROXY: Duration = Duration::from_secs(10);

/// The longest answer, in bytes.
const TEXT: usize = 64 << 10;
