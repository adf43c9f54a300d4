//! The client beside servers that do not answer, answer too much, or break off.

#![allow(clippy::unwrap_used)]

use std::future::pending;
use std::io::ErrorKind as Io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use criu_cri::client::{Client, MAX_MESSAGE};
use criu_cri::proto::CheckpointPodRequest;
use criu_cri::{Code, ErrorKind};
use criu_lab::place::Short;
use http::{HeaderMap, Response};
use http_body_util::BodyExt;
use hyper::body::{Bytes, Frame};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixListener;
use tokio::task::{JoinHandle, JoinSet};

/// A directory that goes with the test, and a socket in it.
struct Place(Short);

impl Place {
    fn new() -> Self {
        Self(Short::folder())
    }

    fn socket(&self) -> PathBuf {
        self.0.join("s")
    }
}

/// Serves gRPC: each call gets the answer that is made for its path and its time limit.
fn serve(place: &Place, answer: fn(&str, Option<&str>) -> Answer) -> JoinHandle<()> {
    let listener = UnixListener::bind(place.socket()).unwrap();
    tokio::spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let service =
                service_fn(move |request: http::Request<hyper::body::Incoming>| async move {
                    let limit = request.headers().get("grpc-timeout").map(|l| l.to_str().unwrap());
                    let Answer { bytes, code, message } = answer(request.uri().path(), limit);
                    if code == HANGS {
                        pending::<()>().await;
                    }
                    let mut trailers = HeaderMap::new();
                    trailers.insert("grpc-status", code.into());
                    trailers.insert("grpc-message", message.parse().unwrap());
                    let mut framed = vec![0];
                    framed.extend(u32::try_from(bytes.len()).unwrap().to_be_bytes());
                    framed.extend(bytes);
                    let body = http_body_util::Full::new(Bytes::from(framed));
                    let body = body.with_trailers(async { Some(Ok(trailers)) });
                    let body = body.map_frame(|frame: Frame<Bytes>| frame);
                    let answer = Response::builder().header("content-type", "application/grpc");
                    Ok::<_, std::convert::Infallible>(answer.body(body).unwrap())
                });
            let http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            connections.spawn(http.serve_connection(TokioIo::new(stream), service));
        }
    })
}

struct Answer {
    bytes: Vec<u8>,
    code: i32,
    message: &'static str,
}

/// The code of an answer that never comes.
const HANGS: i32 = 99;

#[tokio::test]
async fn a_socket_without_a_server_is_told_apart() {
    let place = Place::new();
    let error = Client::connect(place.socket()).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Connect(e) if e.kind() == Io::NotFound), "{error}");
    assert!(error.to_string().contains("/s: connect: cannot connect"), "{error}");
    drop(std::os::unix::net::UnixListener::bind(place.socket()).unwrap());
    let error = Client::connect(place.socket()).await.unwrap_err();
    let refused = |e: &std::io::Error| e.kind() == Io::ConnectionRefused;
    assert!(matches!(error.kind(), ErrorKind::Connect(e) if refused(e)), "{error}");
    assert_eq!(error.code(), Code::Unavailable);
}

#[tokio::test]
async fn a_deadline_ends_a_call_and_the_server_is_told() {
    let place = Place::new();
    serve(&place, |path, limit| {
        assert_eq!(path, "/runtime.v1.RuntimeService/CheckpointPod");
        assert!(limit.is_some_and(|limit| limit.starts_with("300") && limit.ends_with('u')));
        Answer { bytes: Vec::new(), code: HANGS, message: "" }
    });
    let client = Client::connect(place.socket()).await.unwrap();
    let client = client.within(Duration::from_millis(300));
    let begun = Instant::now();
    let error = client.checkpoint_pod(CheckpointPodRequest::default()).await.unwrap_err();
    let took = begun.elapsed();
    assert!(matches!(error.kind(), ErrorKind::Deadline(_)), "{error}");
    assert!(took >= Duration::from_millis(290) && took < Duration::from_secs(20), "{took:?}");
    assert!(error.advice().is_some_and(|advice| advice.contains("more time")));
}

#[tokio::test]
async fn calls_until_a_time_share_what_is_left() {
    let place = Place::new();
    let listener = UnixListener::bind(place.socket()).unwrap();
    let client = Client::connect(place.socket()).await.unwrap();
    let begun = Instant::now();
    let client = client.until(begun + Duration::from_secs(1));
    for _ in 0..3 {
        let error = client.version().await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Deadline(_)), "{error}");
    }
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(990) && took < Duration::from_millis(2900), "{took:?}");
    let error = client.version().await.unwrap_err();
    assert!(error.to_string().ends_with("no time was left to ask"), "{error}");
    drop(listener);
}

#[tokio::test]
async fn a_server_that_does_not_speak_is_waited_for_no_longer() {
    let place = Place::new();
    let listener = UnixListener::bind(place.socket()).unwrap();
    let client = Client::connect(place.socket()).await.unwrap();
    let client = client.within(Duration::from_millis(200));
    let error = client.version().await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Deadline(_)), "{error}");
    drop(listener);
}

#[tokio::test]
async fn refusals_keep_code_and_message() {
    let place = Place::new();
    serve(&place, |path, _| {
        let code = if path.ends_with("/CheckpointPod") { 12 } else { 5 };
        Answer { bytes: Vec::new(), code, message: "no such thing" }
    });
    let client = Client::connect(place.socket()).await.unwrap();
    let error = client.checkpoint_pod(CheckpointPodRequest::default()).await.unwrap_err();
    assert_eq!((error.code(), error.method()), (Code::Unimplemented, "CheckpointPod"));
    assert!(error.advice().is_some_and(|advice| advice.contains("criu-cri-proxy")));
    let error = client.container("c", false).await.unwrap_err();
    assert_eq!(error.code(), Code::NotFound);
    assert!(error.to_string().ends_with("ContainerStatus: not found: no such thing"), "{error}");
}

#[tokio::test]
async fn an_answer_beyond_the_limit_is_refused() {
    let place = Place::new();
    serve(&place, |path, _| {
        let more = if path.ends_with("/Version") { 0 } else { 1 };
        // A string fills the message up to the limit, with 5 bytes before it.
        let name = "x".repeat(MAX_MESSAGE - 5 + more);
        let answer = criu_cri::proto::VersionResponse { version: name, ..Default::default() };
        assert_eq!(answer.encoded_len(), MAX_MESSAGE + more);
        Answer { bytes: answer.encode_to_vec(), code: 0, message: "" }
    });
    let client = Client::connect(place.socket()).await.unwrap();
    assert_eq!(client.version().await.unwrap().version.len(), MAX_MESSAGE - 5);
    let error = client.status(false).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Broken(why) if why.contains("too large")), "{error}");
}

#[tokio::test]
async fn a_server_that_was_started_again_is_called() {
    let place = Place::new();
    let answer = |_: &str, _: Option<&str>| Answer { bytes: Vec::new(), code: 0, message: "" };
    let server = serve(&place, answer);
    let client = Client::connect(place.socket()).await.unwrap();
    client.version().await.unwrap();
    server.abort();
    let _ = server.await;
    std::fs::remove_file(place.socket()).unwrap();
    let error = client.version().await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable, "{error}");
    serve(&place, answer);
    client.version().await.unwrap();
}

#[tokio::test]
async fn an_answer_that_is_no_grpc_breaks_the_call_alone() {
    let place = Place::new();
    let listener = UnixListener::bind(place.socket()).unwrap();
    tokio::spawn(async move {
        // The first connection is the one that asks if somebody is there.
        let _first = listener.accept().await.unwrap();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let client = Client::connect(place.socket()).await.unwrap();
    let client = client.within(Duration::from_secs(5));
    let error = client.version().await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Broken(_)), "{error}");
}
