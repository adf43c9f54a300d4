//! Clients that misbehave: none holds up others, none lets the memory grow.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use criu_lab::engines::{Asked, CriProxy, Outside};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::Scene;
use crate::passing::text;

#[test]
fn what_is_no_http2_is_turned_away() {
    let scene = Scene::lay();
    let proxy = scene.proxy(&[]);
    let answer = |bytes: &[u8]| {
        let mut stream = connect(proxy.socket());
        stream.write_all(bytes).unwrap();
        let mut answer = Vec::new();
        // The rest of the garbage may be unread when the proxy closes.
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    };
    let told = answer(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let (head, body) = told.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 400 ") && body.contains("gRPC"), "{told}");
    assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{told}");
    answer(&[0xff; 100_000]);
    answer(b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n");
    // The preface, and then garbage, a frame that is too large, and headers that make no sense.
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    for frame in [
        &[0xee; 1000][..],
        &[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1],
        &[0, 0, 3, 1, 5, 0, 0, 0, 1, 0xff, 0xff, 0xff],
        &[0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 1, 9, 4, 0, 0, 0, 1, 0],
    ] {
        let answer = answer(&[preface, frame].concat());
        assert!(!answer.is_empty(), "no GOAWAY for {frame:?}");
    }
    proxy.says("turned away a client that does not speak HTTP/2");
    still_answers(&proxy);
}

/// More connections than there is room for say nothing. One that trickles ends soon.
#[test]
fn silent_connections_give_way() {
    let scene = Scene::lay();
    let proxy = scene.proxy(&[]);
    let mut runs = Outside::new(proxy.socket());
    let call = runs.begin("/test.Engine/Sleep", text("3"), &Asked::default());
    std::thread::sleep(Duration::from_millis(500));
    let silent: Vec<UnixStream> = (0..200).map(|_| connect(proxy.socket())).collect();
    still_answers(&proxy);
    // A connection with a call does not give way.
    runs.wait(call).done();
    let mut oldest = silent.first().unwrap();
    assert_eq!(oldest.read(&mut [0]).unwrap(), 0);
    drop(silent);
    let mut trickles = connect(proxy.socket());
    let begun = Instant::now();
    for byte in b"PRI * HTTP/2.0\r\n" {
        if trickles.write_all(&[*byte]).is_err() {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(trickles.read(&mut [0]).unwrap_or(0), 0);
    assert!(begun.elapsed() < Duration::from_secs(9), "{:?}", begun.elapsed());
    still_answers(&proxy);
}

/// A client that has asked for much is stopped. The engine, the proxy and other clients go on.
#[test]
fn a_client_that_does_not_read_holds_up_nobody() {
    let scene = Scene::lay();
    let proxy = scene.proxy(&[]);
    still_answers(&proxy);
    let before = proxy.memory();
    let mut stopped = Outside::new(proxy.socket());
    stopped.call("Version", json!({})).done();
    for _ in 0..CALLS {
        // 4 MiB each, of which few are read.
        stopped.begin("/test.Engine/Many", text("1000"), &Asked::default());
    }
    std::thread::sleep(Duration::from_millis(100));
    let pid = Pid::from_raw(stopped.id().try_into().unwrap());
    kill(pid, Signal::SIGSTOP).unwrap();
    let begun = Instant::now();
    let mut most = 0;
    let mut other = Outside::new(proxy.socket());
    while begun.elapsed() < Duration::from_secs(2) {
        let call = Instant::now();
        other.call("Version", json!({})).done();
        let large = other.call("/test.Engine/Large", text("300000"));
        assert_eq!(large.bytes()[0].as_str().unwrap().len(), 400_000);
        assert!(call.elapsed() < Duration::from_secs(2), "a call took {:?}", call.elapsed());
        most = most.max(proxy.memory());
    }
    // The windows of the calls, and as much again for what is on its way.
    let bound = u64::from(CALLS) * 2 * 80 + 8192;
    assert!(most < before + bound, "the memory grew from {before} to {most} KiB");
    kill(pid, Signal::SIGCONT).unwrap();
    // What was waited for comes.
    let last = stopped.begin("/test.Engine/Many", text("10"), &Asked::default());
    assert_eq!(stopped.wait(last).bytes().as_array().unwrap().len(), 10);
}

#[track_caller]
fn still_answers(proxy: &CriProxy) {
    let begun = Instant::now();
    Outside::new(proxy.socket()).call("Version", json!({})).done();
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

fn connect(socket: &Path) -> UnixStream {
    let stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// Calls of the client that is stopped.
const CALLS: u32 = 120;
