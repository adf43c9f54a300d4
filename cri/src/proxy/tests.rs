//! Answers of a proxy's own, between a client and an engine of grpcio.

use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use criu_lab::engines::{Asked, Outside, OutsideEngine};
use criu_lab::place::Short;
use criu_lab::soon;
use serde_json::json;
use tokio::sync::oneshot;
use tonic::Status;

use super::*;

/// Answers `Own` and `Wait`, which the engine does not have, and takes part in others.
#[derive(Default)]
struct Own {
    /// The reasons for which calls of `Wait` came to an end.
    ended: Mutex<Vec<Why>>,
}

impl Answer for Own {
    fn part(&self, method: &str) -> Option<Part> {
        match method.strip_prefix("/test.Engine/")? {
            "Own" | "Wait" | "Echo" => Some(Part::Instead),
            "Refuse" | "Large" | "Sleep" => Some(Part::Around),
            _ => None,
        }
    }

    fn answer(&self, call: Call) -> Answering<'_> {
        Box::pin(async move {
            if call.method().ends_with("/Wait") {
                let why = call.stop().wait().await;
                // The end takes a while, whoever still waits for it.
                tokio::time::sleep(Duration::from_millis(200)).await;
                self.ended.lock().unwrap().push(why);
                return Err(Status::aborted(format!("let go: {why}")));
            }
            if call.method().ends_with("/Own") {
                return Ok(Reply::Message(call.message().clone()));
            }
            Ok(Reply::Passed(call.pass().await?))
        })
    }
}

struct Scene {
    folder: Short,
    _engine: OutsideEngine,
    own: Arc<Own>,
    end: Option<oneshot::Sender<()>>,
    proxy: Option<JoinHandle<()>>,
}

impl Scene {
    fn lay() -> Self {
        let folder = Short::folder();
        let engine = OutsideEngine::start(&folder.join("engine.sock"));
        let listening = Listening::bind(&folder.join("cri.sock")).unwrap();
        let own = Arc::new(Own::default());
        let proxy = Proxy::new(folder.join("engine.sock")).answer(own.clone()).grace(GRACE);
        let (end, ended) = oneshot::channel();
        let proxy = thread::spawn(move || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let ended = async { drop(ended.await) };
            runtime.enable_all().build().unwrap().block_on(proxy.run(listening, ended)).unwrap();
        });
        Self { folder, _engine: engine, own, end: Some(end), proxy: Some(proxy) }
    }

    fn client(&self) -> Outside {
        Outside::new(&self.folder.join("cri.sock"))
    }
}

#[test]
fn an_answer_takes_the_place_of_a_method_that_is_missing() {
    let scene = Scene::lay();
    let mut client = scene.client();
    let mut direct = Outside::new(&scene.folder.join("engine.sock"));
    let own = client.call("/test.Engine/Own", json!("aGVsbG8="));
    assert_eq!(own.all()["bytes"], json!(["aGVsbG8="]), "{own:?}");
    // The engine has this one, and a part around it changes nothing.
    for (method, request) in [("Echo", "aGVsbG8="), ("Refuse", "aGVsbG8="), ("Large", "MTAw")] {
        let method = format!("/test.Engine/{method}");
        let [direct, proxied] =
            [&mut direct, &mut client].map(|client| client.call(&method, json!(request)));
        assert_eq!(direct.all(), proxied.all(), "{method}");
    }
}

#[test]
fn a_message_that_is_read_has_a_bound() {
    let scene = Scene::lay();
    let mut client = scene.client();
    let most = "AAAA".repeat(MAX_MESSAGE / 3 + 2);
    let outcome = client.call("/test.Engine/Own", json!(most));
    assert_eq!(outcome.code(), "RESOURCE_EXHAUSTED", "{}", outcome.text());
    // So does an answer: 17 MiB in base64 digits.
    let outcome = client.call("/test.Engine/Large", json!("MTc4MjU3OTI="));
    assert_eq!(outcome.code(), "RESOURCE_EXHAUSTED", "{}", outcome.text());
    client.call("/test.Engine/Own", json!("aGVsbG8=")).done();
}

/// An answer comes to its end after a deadline, after its client has gone, and when the proxy ends.
#[test]
fn an_answer_is_told_when_nobody_waits_and_comes_to_its_end() {
    let mut scene = Scene::lay();
    let mut client = scene.client();
    let ended = |count: usize, own: &Own| soon(|| own.ended.lock().unwrap().len() == count);
    let asked = Asked { timeout: Some(0.3), ..Asked::default() };
    let outcome = client.ask("/test.Engine/Wait", json!(""), &asked);
    assert_eq!(outcome.code(), "DEADLINE_EXCEEDED");
    assert!(ended(1, &scene.own));
    let mut other = scene.client();
    other.call("/test.Engine/Own", json!("")).done();
    other.begin("/test.Engine/Wait", json!(""), &Asked::default());
    thread::sleep(Duration::from_millis(300));
    drop(other);
    assert!(ended(2, &scene.own));
    let waits = client.begin("/test.Engine/Wait", json!(""), &Asked::default());
    thread::sleep(Duration::from_millis(300));
    scene.end.take().unwrap().send(()).unwrap();
    let outcome = client.wait(waits);
    assert_eq!((outcome.code(), outcome.text()), ("ABORTED", "let go: the proxy ends"));
    scene.proxy.take().unwrap().join().unwrap();
    let ended = scene.own.ended.lock().unwrap();
    assert!(matches!(ended[..], [Why::Deadline | Why::Gone, Why::Gone, Why::Ending]), "{ended:?}");
}

/// A call that an answer has passed on to an engine which does not answer.
#[test]
fn an_engine_that_does_not_answer_holds_up_no_end() {
    let mut scene = Scene::lay();
    let mut client = scene.client();
    client.call("/test.Engine/Own", json!("")).done();
    let sleeps = client.begin("/test.Engine/Sleep", json!(SIXTY), &Asked::default());
    thread::sleep(Duration::from_millis(300));
    scene.end.take().unwrap().send(()).unwrap();
    let outcome = client.wait(sleeps);
    assert_eq!(outcome.code(), "UNAVAILABLE", "{}", outcome.text());
    assert!(outcome.text().contains("the proxy ends"), "{}", outcome.text());
    let proxy = scene.proxy.take().unwrap();
    assert!(soon(|| proxy.is_finished()));
    proxy.join().unwrap();
}

/// Time that calls have to end when the proxy ends.
const GRACE: Duration = Duration::from_secs(1);

/// `60` in base64 digits.
const SIXTY: &str = "NjA=";
