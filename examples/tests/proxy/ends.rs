//! Ends: of the engine, of the proxy.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use criu_lab::engines::{Asked, Outside, OutsideEngine};
use criu_lab::soon;
use serde_json::json;

use crate::passing::text;
use crate::{PROGRAM, Scene};

#[test]
fn an_engine_that_is_started_again_is_found_again() {
    let mut scene = Scene::lay();
    let proxy = scene.proxy(&[]);
    let mut client = Outside::new(proxy.socket());
    client.call("Version", json!({})).done();
    let waits = client.begin("/test.Engine/Sleep", text("30"), &Asked::default());
    let comes = client.begin("/test.Engine/Many", text("10000000"), &Asked::default());
    std::thread::sleep(Duration::from_millis(500));
    scene.engine.take().unwrap().kill();
    for (id, of) in [(waits, "a call"), (comes, "a stream")] {
        let outcome = client.wait(id);
        assert_eq!(outcome.code(), "UNAVAILABLE", "{of}: {outcome:?}");
        let said = outcome.text();
        assert!(said.contains("which the engine may have executed"), "{of}: {said}");
    }
    let begun = Instant::now();
    let outcome = client.call("Version", json!({}));
    assert_eq!(outcome.code(), "UNAVAILABLE");
    assert!(outcome.text().starts_with("cannot reach the engine at "), "{outcome:?}");
    assert!(begun.elapsed() < Duration::from_secs(5), "the refusal took {:?}", begun.elapsed());
    let check = check(proxy.socket());
    assert_eq!(check.0, Some(1));
    assert!(check.1.contains("cannot reach the engine at "), "{}", check.1);

    let _engine = OutsideEngine::start(&scene.engine_socket());
    // The client goes on with its connection.
    assert!(soon(|| client.call("Version", json!({})).code() == "OK"));
    assert_eq!(crate::ends::check(proxy.socket()).0, Some(0));
    // Calls that failed one after the other are one line.
    let unreachable = proxy.log().matches("cannot reach the engine").count();
    assert_eq!(unreachable, 1, "{}", proxy.log());
    proxy.says("the connection to the engine at ");
}

/// Calls that run have time to end. Then they are cut off.
#[test]
fn the_proxy_ends_in_order() {
    let scene = Scene::lay();
    let proxy = scene.proxy(&["--grace", "3"]);
    let socket = proxy.socket().to_owned();
    let mut client = Outside::new(&socket);
    client.call("Version", json!({})).done();
    let ends = client.begin("/test.Engine/Sleep", text("1.5"), &Asked::default());
    let endless = client.begin("/test.Engine/Sleep", text("60"), &Asked::default());
    let idle = Outside::new(&socket);
    std::thread::sleep(Duration::from_millis(500));
    let begun = Instant::now();
    let status = proxy.end();
    assert!(status.success(), "{status}");
    let taken = begun.elapsed();
    assert!((2..8).contains(&taken.as_secs()), "{taken:?}");
    client.wait(ends).done();
    let outcome = client.wait(endless);
    assert_eq!(outcome.code(), "UNAVAILABLE");
    assert!(outcome.text().contains("the proxy ends"), "{outcome:?}");
    assert!(!socket.exists());
    drop(idle);
    // Without calls there is nothing to wait for.
    let proxy = scene.proxy(&[]);
    let mut client = Outside::new(proxy.socket());
    client.call("Version", json!({})).done();
    let begun = Instant::now();
    proxy.end();
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
}

/// The status and the output of `--check`.
pub fn check(socket: &Path) -> (Option<i32>, String) {
    let output = Command::new(PROGRAM).arg("--check").arg("--listen").arg(socket).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}
