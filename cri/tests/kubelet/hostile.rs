//! Answers that no kubelet gives.

use std::io::Write;
use std::thread::sleep;
use std::time::{Duration, Instant};

use criu_cri::kubelet::{Error, ErrorKind};
use criu_lab::https::{Asked, Clients, Server};

use crate::node::Node;

fn ask(
    answer: impl Fn(&Asked, &mut dyn Write) -> std::io::Result<()> + Send + Sync + 'static,
) -> (Error, Server) {
    let node = Server::raw(Clients::Any, &["127.0.0.1"], answer);
    let said = node.client().check(&"ns/pod/app".parse().unwrap()).unwrap_err();
    (said, node)
}

#[test]
fn a_body_without_an_end_is_cut() {
    let endless = |status: &'static str| {
        move |_: &Asked, to: &mut dyn Write| {
            write!(to, "HTTP/1.1 {status}\r\n\r\n")?;
            loop {
                to.write_all(&[b'x'; 16 << 10])?;
            }
        }
    };
    let (said, _) = ask(endless("200 OK"));
    assert!(
        said.to_string().ends_with("answers 200, but the answer is longer than 64 KiB"),
        "{said}"
    );
    let (said, _) = ask(endless("500 X"));
    assert!(said.to_string().len() < 1200, "{said}");
}

#[test]
fn headers_without_an_end_are_refused() {
    let (said, _) = ask(|_, to| {
        write!(to, "HTTP/1.1 200 OK\r\n")?;
        loop {
            write!(to, "x-y: {}\r\n", "z".repeat(1 << 10))?;
        }
    });
    assert!(matches!(said.kind(), ErrorKind::Broken(_)), "{said}");
}

#[test]
fn garbage_and_early_ends_are_no_answer() {
    for text in ["", "garbage\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx", "HTTP/1.1"]
    {
        let (said, _) = ask(move |_, to| to.write_all(text.as_bytes()));
        assert!(matches!(said.kind(), ErrorKind::Broken(_)), "{text:?}: {said}");
    }
    for body in ["", "[]", r#"{"items":[]}"#, r#"{"items":["etc/passwd"]}"#, "<html>hello</html>"] {
        let (said, _) = ask(move |_, to| write!(to, "HTTP/1.1 200 OK\r\n\r\n{body}"));
        assert!(matches!(said.kind(), ErrorKind::Garbled(_)), "{body:?}: {said}");
    }
}

#[test]
fn a_redirect_is_not_followed() {
    let (said, node) = ask(|asked, to| {
        let at = asked.headers.iter().find_map(|line| line.strip_prefix("host: ")).unwrap();
        let to_self = format!("location: https://{at}/checkpoint/ns/pod/other");
        write!(to, "HTTP/1.1 307 X\r\n{to_self}\r\ncontent-length: 0\r\n\r\n")
    });
    assert!(matches!(said.kind(), ErrorKind::Answer { status: 307, .. }), "{said}");
    assert_eq!(node.asked.lock().unwrap().len(), 1);
}

#[test]
fn a_server_that_trickles_is_given_up() {
    let began = Instant::now();
    let node = Server::raw(Clients::Any, &["127.0.0.1"], |_, to| {
        write!(to, "HTTP/1.1 200 OK\r\ncontent-length: 60000\r\n\r\n")?;
        loop {
            to.write_all(b"x")?;
            to.flush()?;
            sleep(Duration::from_millis(20));
        }
    });
    let client = node.client().with_patience(Duration::from_millis(300));
    let said = client.checkpoint(&"ns/pod/app".parse().unwrap(), None).unwrap_err();
    assert!(matches!(said.kind(), ErrorKind::Silent { .. }), "{said}");
    assert!(began.elapsed() < Duration::from_secs(10));
}
