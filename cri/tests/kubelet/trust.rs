//! Certificates of both sides, and servers that cannot be reached.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use criu_cri::kubelet::{Access, Endpoint, Error, ErrorKind, Kubelet, Source};
use criu_lab::certs::{Authority, Wanted};
use criu_lab::https::{Clients, Server, place};

use crate::node::Node;

fn ask(endpoint: &Endpoint, access: &Access) -> Result<(), Error> {
    let kubelet = Kubelet::new(endpoint.clone(), access.clone());
    kubelet.checkpoint(&"ns/pod/app".parse().unwrap(), None).map(|_| ())
}

fn answer(to: &mut dyn Write) -> std::io::Result<()> {
    let body = r#"{"items":["/a.tar"]}"#;
    write!(to, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

#[test]
fn no_token_goes_to_a_server_that_is_not_trusted() {
    let node = Server::raw(Clients::Any, &["127.0.0.1"], |_, to| answer(to));
    let (_, other) = place();
    let mut access = Access::default();
    access.token(Source::Given(b"secret".to_vec()));
    for trust in [None, Some(other.file())] {
        if let Some(file) = trust {
            access.trust_file(file);
        }
        let said = ask(&node.endpoint(), &access).unwrap_err();
        assert!(matches!(said.kind(), ErrorKind::Untrusted), "{said}");
    }
    assert!(node.asked.lock().unwrap().is_empty());
    access.trust_anybody();
    ask(&node.endpoint(), &access).unwrap();
    assert_eq!(node.last().token(), Some("secret"));
    // A certificate that is trusted itself.
    access.trust_file(node.dir.join("1.cert"));
    ask(&node.endpoint(), &access).unwrap();
}

#[test]
fn a_certificate_for_other_names_needs_the_name() {
    let node = Server::raw(Clients::Any, &["node-1", "10.0.0.7"], |_, to| answer(to));
    let mut access = node.access();
    let said = ask(&node.endpoint(), &access).unwrap_err().to_string();
    let place = format!("https://127.0.0.1:{}", node.port);
    let wanted = "the server's certificate is not for 127.0.0.1, but for ";
    let names =
        said.strip_prefix(&format!("{place}: {wanted}")).unwrap_or_else(|| panic!("{said}"));
    assert_eq!(names, "node-1, 10.0.0.7");
    ask(&node.endpoint(), access.server_name("node-1")).unwrap();
    ask(&node.endpoint(), access.server_name("10.0.0.7")).unwrap();
    // In the list, and still for its own names alone.
    access.trust_file(node.dir.join("1.cert"));
    let said = ask(&node.endpoint(), access.server_name("node-2")).unwrap_err();
    assert!(matches!(said.kind(), ErrorKind::WrongName { .. }), "{said}");
    ask(&node.endpoint(), access.server_name("node-1")).unwrap();
    let said = ask(&node.endpoint(), access.server_name("a b")).unwrap_err().to_string();
    assert_eq!(said, format!("{place}: a b is no name that a certificate can be for"));
}

#[test]
fn an_expired_server_is_refused() {
    let node = Server::expired();
    let said = ask(&node.endpoint(), &node.access()).unwrap_err();
    assert!(matches!(said.kind(), ErrorKind::NotInTime(_)), "{said}");
    assert!(said.to_string().ends_with("has expired at 2002-01-01T00:00:00Z"), "{said}");
    let said = ask(&node.endpoint(), node.access().trust_file(node.dir.join("1.cert")));
    let said = said.unwrap_err().to_string();
    assert!(said.ends_with("has expired at 2002-01-01T00:00:00Z"), "{said}");
}

#[test]
fn mutual_tls_takes_certificates_of_the_authority_alone() {
    let node = Server::raw(Clients::Signed, &["127.0.0.1"], |_, to| answer(to));
    let me = node.authority.sign(2, &Wanted { common: "me", ..Wanted::default() });
    let mut access = node.access();
    let said = ask(&node.endpoint(), &access).unwrap_err();
    assert!(matches!(said.kind(), ErrorKind::ClientCertificate { .. }), "{said}");
    ask(&node.endpoint(), access.certificate_files(&me.certificate, &me.key)).unwrap();
    let strangers = Authority::new(&node.dir.join("strangers"));
    let stranger = strangers.sign(3, &Wanted::default());
    let said =
        ask(&node.endpoint(), access.certificate_files(&stranger.certificate, &stranger.key));
    let said = said.unwrap_err();
    assert!(matches!(said.kind(), ErrorKind::ClientCertificate { expired: None, .. }), "{said}");
    let old = node.authority.sign(4, &Wanted { expired: true, ..Wanted::default() });
    let said = ask(&node.endpoint(), access.certificate_files(&old.certificate, &old.key));
    let said = said.unwrap_err().to_string();
    assert!(said.ends_with("the client certificate ended at 2002-01-01T00:00:00Z"), "{said}");
    // The key of another.
    let said = ask(&node.endpoint(), access.certificate_files(&me.certificate, &stranger.key));
    let said = said.unwrap_err().to_string();
    assert!(said.ends_with("has the key of another certificate"), "{said}");
    let said = ask(&node.endpoint(), access.certificate_files(&me.key, &me.key));
    let said = said.unwrap_err().to_string();
    assert!(said.ends_with("2.key has no certificate in PEM form"), "{said}");
}

#[test]
fn an_alert_that_is_not_about_certificates_is_told_as_it_is() {
    for (alert, wanted) in
        [(40, "HandshakeFailure"), (70, "ProtocolVersion"), (80, "InternalError")]
    {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = listener.local_addr().unwrap().to_string();
        let server = thread::spawn(move || {
            let (mut stream, _): (TcpStream, _) = listener.accept().unwrap();
            _ = stream.read(&mut [0; 4096]).unwrap();
            // A record of TLS 1.2 with a fatal alert.
            stream.write_all(&[21, 3, 3, 0, 2, 2, alert]).unwrap();
        });
        let said = ask(&Endpoint::kubelet(&endpoint).unwrap(), &Access::default()).unwrap_err();
        server.join().unwrap();
        assert_eq!(said.to_string(), format!("https://{endpoint}: the server ends TLS: {wanted}"));
    }
}

#[test]
fn an_expired_client_certificate_is_told_after_a_401() {
    let node = Server::start(|_| (401, "Unauthorized".to_owned()));
    let old = node.authority.sign(4, &Wanted { expired: true, ..Wanted::default() });
    let mut access = node.access();
    access.certificate_files(&old.certificate, &old.key);
    let said = ask(&node.endpoint(), &access).unwrap_err().to_string();
    let wanted = "the kubelet does not accept the credentials (401); the client certificate ended \
        at 2002-01-01T00:00:00Z";
    assert_eq!(said, format!("https://127.0.0.1:{}: {wanted}", node.port));
}

#[test]
fn servers_that_are_not_there_or_speak_no_tls() {
    let (dir, authority) = place();
    let mut access = Access::default();
    access.trust_file(authority.file());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let plain = thread::spawn(move || {
        let (mut stream, _): (TcpStream, _) = listener.accept().unwrap();
        _ = stream.read(&mut [0; 1024]).unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\nno TLS here").unwrap();
    });
    let endpoint = Endpoint::kubelet(&format!("127.0.0.1:{port}")).unwrap();
    let said = ask(&endpoint, &access).unwrap_err();
    assert!(matches!(said.kind(), ErrorKind::NotTls(_)), "{said}");
    plain.join().unwrap();
    let said = ask(&endpoint, &access).unwrap_err();
    assert!(matches!(said.kind(), ErrorKind::Unreachable(_)), "{said}");
    assert!(said.to_string().contains("refused"), "{said}");
    let nowhere = Endpoint::kubelet("no-such-host.invalid").unwrap();
    let said = ask(&nowhere, &access).unwrap_err();
    assert!(matches!(said.kind(), ErrorKind::Unreachable(_)), "{said}");
    std::fs::remove_dir_all(dir).unwrap();
}
