//! TLS without CRIU: the clients that a server takes, the servers that a client trusts, and peers
//! that never come to an end.

#![allow(clippy::unwrap_used, unreachable_pub)]

use std::cell::RefCell;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use criu_images::memory::{PageFlags, PageObject, PageSize, PagemapWriter};
use criu_lab::certs::{Authority, Signed, Wanted};
use criu_lab::scratch;
use criu_rs::Tls;
use criu_rs::pages::{
    Client, Command, Header, Layout, Listening, Notice, PagesError, Pool, Provider, Received,
    Relay, Server, ServerLimits, SessionReport, proto,
};
use rcgen::ExtendedKeyUsagePurpose;
use rustls::pki_types::pem::PemObject;

const PAGES: u64 = 3000;
const BASE: u64 = 0x7f00_0000_0000;

/// The files of one end, as this crate takes them.
fn tls_of(signed: Signed) -> Tls {
    Tls::new().ca(signed.ca).certificate(signed.certificate).key(signed.key)
}

/// A set of one task: a long run, and single pages.
fn set(dir: &Path) -> PathBuf {
    let dir = dir.join("set");
    fs::create_dir_all(&dir).unwrap();
    let file = fs::File::create(dir.join("pagemap-7.img")).unwrap();
    let mut pagemap = PagemapWriter::new(file, 1, PageSize::K4).unwrap();
    pagemap.run(BASE, 2000, PageFlags::PRESENT).unwrap();
    for n in 0..1000 {
        pagemap.run(BASE + (4000 + 2 * n) * 4096, 1, PageFlags::PRESENT).unwrap();
    }
    pagemap.finish().unwrap();
    let words = (0..PAGES * 512).map(|n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let bytes: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
    fs::write(dir.join("pages-1.img"), bytes).unwrap();
    dir
}

/// The end of a session, or of a connection that became none.
struct Ended {
    result: Result<Received, PagesError>,
}

type Running = (u16, JoinHandle<Vec<Ended>>);

fn run(server: Server) -> Running {
    start(server.listen("127.0.0.1:0".parse().unwrap()).unwrap())
}

/// Runs a server until a first session or another connection has ended.
fn start(server: Listening) -> Running {
    let (port, handle) = (server.port(), server.handle());
    let running = thread::spawn(move || {
        let ended = RefCell::new(Vec::new());
        let note = |notice| {
            if let Notice::TurnedAway { why, .. } = notice {
                ended.borrow_mut().push(Ended { result: Err(why) });
                handle.stop();
            }
        };
        let end = |report: SessionReport| ended.borrow_mut().push(Ended { result: report.result });
        server.run_noting(Some(1), end, note).unwrap();
        ended.into_inner()
    });
    (port, running)
}

/// Sends a set from a client with one certificate to a server with another. Returns what each says
/// of it.
fn meet(
    dir: &Path,
    (server, name): (&Tls, &str),
    (client, host): (&Tls, &str),
) -> [Result<(), PagesError>; 2] {
    let got = dir.join("got");
    _ = fs::remove_dir_all(&got);
    fs::create_dir_all(&got).unwrap();
    let (port, running) = run(Server::new().directory(&got).tls(server, name).unwrap());
    let sent = Client::connect_tls(host, port, client, Layout::Wide).and_then(|mut client| {
        assert_eq!(client.send_set(set(dir))?.pages, PAGES);
        client.close()
    });
    let received = running.join().unwrap().remove(0).result.map(|received| {
        assert_eq!(received.pages, PAGES);
        let pages = |place: &Path, name| fs::read(place.join(name)).unwrap();
        assert!(pages(&got, "pages-65537.img") == pages(&dir.join("set"), "pages-1.img"));
    });
    if received.is_err() {
        assert_eq!(fs::read_dir(&got).unwrap().count(), 0);
    }
    [sent, received]
}

#[track_caller]
fn taken(outcome: [Result<(), PagesError>; 2]) {
    assert!(outcome.iter().all(Result::is_ok), "{outcome:?}");
}

/// Asserts that one end says a word, and the other notices.
#[track_caller]
fn refused(outcome: [Result<(), PagesError>; 2], who: usize, word: &str) {
    let [first, second] = &outcome;
    assert!(first.is_err() && second.is_err(), "{outcome:?}");
    let said = outcome[who].as_ref().unwrap_err().to_string();
    assert!(said.contains("TLS") && said.contains(word), "{outcome:?}");
}

const SENDS: usize = 0;
const RECEIVES: usize = 1;

#[test]
fn certificates_for_the_name_are_taken_at_both_ends() {
    let dir = scratch("tls-taken");
    let ca = Authority::new(&dir.join("ca"));
    let [one, other] = [1, 2].map(|number| tls_of(ca.sign_for_loopback(number)));
    taken(meet(&dir, (&one, "127.0.0.1"), (&other, "127.0.0.1")));
    taken(meet(&dir, (&one, "localhost"), (&other, "localhost")));
    // A machine that has one for servers only shows that one everywhere; and the other way round.
    for only in [ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth] {
        let names = &["127.0.0.1"];
        let one = tls_of(ca.sign(3, &Wanted { names, only: Some(only), ..Wanted::default() }));
        taken(meet(&dir, (&one, "127.0.0.1"), (&one, "127.0.0.1")));
    }
}

#[test]
fn a_common_name_does_where_there_is_no_other() {
    let dir = scratch("tls-common");
    let ca = Authority::new(&dir.join("ca"));
    let common = tls_of(ca.sign(1, &Wanted { common: "LocalHost", ..Wanted::default() }));
    taken(meet(&dir, (&common, "localhost"), (&common, "localhost")));
    // Not where there is one, and not for an address.
    let both = Wanted { common: "localhost", names: &["elsewhere"], ..Wanted::default() };
    let both = tls_of(ca.sign(2, &both));
    refused(meet(&dir, (&both, "elsewhere"), (&common, "localhost")), SENDS, "valid for");
    let address = tls_of(ca.sign(3, &Wanted { common: "127.0.0.1", ..Wanted::default() }));
    refused(meet(&dir, (&common, "127.0.0.1"), (&address, "localhost")), RECEIVES, "valid for");
}

#[test]
fn other_names_are_refused_unless_any_will_do() {
    let dir = scratch("tls-names");
    let ca = Authority::new(&dir.join("ca"));
    let here = tls_of(ca.sign_for_loopback(1));
    let there = tls_of(ca.sign(2, &Wanted { names: &["elsewhere"], ..Wanted::default() }));
    refused(meet(&dir, (&here, "127.0.0.1"), (&there, "127.0.0.1")), RECEIVES, "valid for");
    refused(meet(&dir, (&there, "127.0.0.1"), (&here, "127.0.0.1")), SENDS, "valid for");
    let [any_here, any_there] = [&here, &there].map(|tls| tls.clone().any_name());
    taken(meet(&dir, (&any_here, "127.0.0.1"), (&there.any_name(), "127.0.0.1")));
    taken(meet(&dir, (&any_there, "127.0.0.1"), (&any_here, "127.0.0.1")));
}

#[test]
fn strangers_and_those_revoked_or_expired_are_refused() {
    let dir = scratch("tls-strangers");
    let (ca, other) = (Authority::new(&dir.join("ca")), Authority::new(&dir.join("other")));
    let [one, two] = [1, 2].map(|number| tls_of(ca.sign_for_loopback(number)));
    let name = "127.0.0.1";
    // Each trusts our authority, and one shows a certificate of the other.
    let stranger = tls_of(other.sign_for_loopback(3)).ca(ca.file());
    refused(meet(&dir, (&one, name), (&stranger, name)), RECEIVES, "UnknownIssuer");
    refused(meet(&dir, (&stranger, name), (&one, name)), SENDS, "UnknownIssuer");
    let old = Wanted { names: &["127.0.0.1"], expired: true, ..Wanted::default() };
    let old = tls_of(ca.sign(4, &old));
    refused(meet(&dir, (&one, name), (&old, name)), RECEIVES, "xpired");
    let list = ca.revoke(2);
    let careful = one.clone().revoked(&list);
    refused(meet(&dir, (&careful, name), (&two, name)), RECEIVES, "Revoked");
    refused(meet(&dir, (&two, name), (&careful, name)), SENDS, "Revoked");
    taken(meet(&dir, (&careful, name), (&one, name)));
}

#[test]
fn a_client_without_a_certificate_is_refused() {
    let dir = scratch("tls-without");
    let ca = Authority::new(&dir.join("ca"));
    let server = Server::new().directory(&dir).tls(&tls_of(ca.sign_for_loopback(1)), "127.0.0.1");
    let (port, running) = run(server.unwrap());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(rustls::pki_types::CertificateDer::from_pem_file(ca.file()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider);
    let config = config.with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(config.with_root_certificates(roots).with_no_client_auth());
    let name = rustls::pki_types::ServerName::try_from("127.0.0.1").unwrap();
    let tls = rustls::ClientConnection::new(config, name).unwrap();
    let tcp = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let mut stream = rustls::StreamOwned::new(tls, tcp);
    let heard = stream.write_all(&[0; 32]).and_then(|()| stream.read(&mut [0]));
    assert!(heard.unwrap_err().to_string().contains("CertificateRequired"));
    let said = running.join().unwrap().remove(0).result.unwrap_err().to_string();
    assert!(said.contains("no certificates"), "{said}");
}

#[test]
fn whoever_speaks_no_tls_or_nothing_is_cut_off() {
    let dir = scratch("tls-nonsense");
    let ca = Authority::new(&dir.join("ca"));
    let tls = tls_of(ca.sign_for_loopback(1));
    let server = || Server::new().directory(&dir).tls(&tls, "127.0.0.1").unwrap();
    let (port, running) = run(server());
    let mut client = Client::connect(("127.0.0.1", port), Layout::Wide).unwrap();
    client.send_set(set(&dir)).unwrap_err();
    running.join().unwrap().remove(0).result.unwrap_err();

    // One that sends a byte now and then gets no more time than the others.
    let begun = Instant::now();
    let mut limits = ServerLimits::default();
    limits.first = Duration::from_secs(1);
    let (port, running) = run(server().limits(limits));
    let mut slow = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let drip = thread::spawn(move || {
        let hello = [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc][..], &[0; 200]].concat();
        for byte in hello {
            if slow.write_all(&[byte]).is_err() {
                break;
            }
            thread::sleep(Duration::from_millis(250));
        }
    });
    let error = running.join().unwrap().remove(0).result.unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(30), "{error}");
    drip.join().unwrap();
}

#[test]
fn whoever_has_no_certificate_ends_no_server_and_blocks_nobody() {
    let dir = scratch("tls-garbage");
    let ca = Authority::new(&dir.join("ca"));
    let tls = tls_of(ca.sign_for_loopback(1));
    let place = dir.clone();
    let server = Server::new().directories(move |n| place.join(format!("got-{n}")));
    let mut limits = ServerLimits::default();
    limits.waiting = 16;
    let server = server.limits(limits).tls(&tls, "127.0.0.1").unwrap();
    let server = server.listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let (port, handle) = (server.port(), server.handle());
    let running = thread::spawn(move || server.run(Some(1)).unwrap());
    let connect = || TcpStream::connect(("127.0.0.1", port)).unwrap();
    drop(connect());
    for garbage in [vec![0x5a; 100], [&[0x16, 3, 1, 0, 95][..], &[0x5a; 95]].concat()] {
        let mut socket = connect();
        socket.write_all(&garbage).unwrap();
        _ = socket.read_to_end(&mut Vec::new());
    }
    // A client with a certificate that is silent afterwards stays, and those without one go.
    let mut client = Client::connect_tls("127.0.0.1", port, &tls, Layout::Wide).unwrap();
    // They are another user's: those of the server's own have time to speak.
    let silent: Vec<TcpStream> = thread::scope(|scope| {
        let connects = scope.spawn(|| {
            criu_lab::raw::thread_becomes(65534).unwrap();
            (0..64).map(|_| connect()).collect()
        });
        connects.join().unwrap()
    });
    let begun = Instant::now();
    while handle.metrics().displaced < 64 - 8 {
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", handle.metrics());
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(client.send_set(set(&dir)).unwrap().pages, PAGES);
    client.close().unwrap();
    drop(silent);
    let reports = running.join().unwrap();
    assert_eq!((reports.len(), reports[0].number), (1, 0));
    assert_eq!(reports[0].result.as_ref().unwrap().pages, PAGES);
    assert!(dir.join("got-0/pagemap-7.img").exists() && !dir.join("got-1").exists());
    assert_eq!(handle.metrics().unused, 3);
}

#[test]
fn a_client_that_breaks_off_leaves_nothing_that_looks_whole() {
    let dir = scratch("tls-breaks");
    let (ca, got) = (Authority::new(&dir.join("ca")), dir.join("got"));
    fs::create_dir(&got).unwrap();
    let tls = tls_of(ca.sign_for_loopback(1));
    let (port, running) = run(Server::new().directory(&got).tls(&tls, "127.0.0.1").unwrap());
    let mut client = Client::connect_tls("127.0.0.1", port, &tls, Layout::Narrow).unwrap();
    client.send_set(set(&dir)).unwrap();
    drop(client);
    let error = running.join().unwrap().remove(0).result.unwrap_err();
    assert!(matches!(error, PagesError::Gone(_)), "{error}");
    assert!(!got.join("pagemap-7.img").exists());
}

#[test]
fn pages_are_served_over_tls() {
    let dir = scratch("tls-served");
    let ca = Authority::new(&dir.join("ca"));
    let tls = tls_of(ca.sign_for_loopback(1));
    let server = Provider::new(set(&dir)).tls(&tls, "127.0.0.1").unwrap();
    let (port, running) = start(server.listen("127.0.0.1:0".parse().unwrap()).unwrap());
    let mut client = Client::connect_tls("127.0.0.1", port, &tls, Layout::Wide).unwrap();
    let stored = fs::read(dir.join("set/pages-1.img")).unwrap();
    let all = client.fetch(7, BASE, 5000).unwrap();
    assert!(all == stored[..2000 * 4096]);
    let one = client.fetch(7, BASE + 4002 * 4096, 1).unwrap();
    assert!(one == stored[2001 * 4096..2002 * 4096]);
    client.close().unwrap();
    assert_eq!(running.join().unwrap().remove(0).result.unwrap().served, 2001);
}

#[test]
fn a_relay_speaks_tls_for_those_who_do_not() {
    let dir = scratch("tls-relay");
    let (ca, got) = (Authority::new(&dir.join("ca")), dir.join("got"));
    fs::create_dir(&got).unwrap();
    let tls = tls_of(ca.sign_for_loopback(1));
    let (port, running) = run(Server::new().directory(&got).tls(&tls, "127.0.0.1").unwrap());
    let relay = Relay::connect_tls("127.0.0.1", port, &tls).unwrap();
    let near = std::os::fd::AsFd::as_fd(&relay).try_clone_to_owned().unwrap();
    let near = std::os::unix::net::UnixStream::from(near);
    let mut client = Client::new(near.into(), Layout::Wide);
    client.send_set(set(&dir)).unwrap();
    client.close().unwrap();
    assert!(relay.finish().unwrap() > PAGES * 4096);
    assert_eq!(running.join().unwrap().remove(0).result.unwrap().pages, PAGES);
    assert!(got.join("pagemap-7.img").exists());
}

/// A server that agrees on TLS and then sends a byte now and then, or nothing. It reads nothing.
fn bad_server(dir: &Path, trickles: bool) -> u16 {
    let pem = |name: &str| dir.join("ca").join(name);
    let certificate = rustls::pki_types::CertificateDer::from_pem_file(pem("1.cert")).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::from_pem_file(pem("1.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider);
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let config = Arc::new(config.with_single_cert(vec![certificate], key).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let mut tcp = listener.accept().unwrap().0;
        let mut tls = rustls::ServerConnection::new(config).unwrap();
        tls.complete_io(&mut tcp).unwrap();
        for _ in 0..6000 {
            thread::sleep(Duration::from_millis(10));
            if trickles {
                tls.writer().write_all(&[0]).unwrap();
                if tls.write_tls(&mut tcp).is_err() {
                    break;
                }
            }
        }
    });
    port
}

/// A client with a certificate of an authority: a TLS stream without this crate.
fn stranger(ca: &Authority, port: u16) -> rustls::StreamOwned<rustls::ClientConnection, TcpStream> {
    let signed = ca.sign_for_loopback(9);
    let mut roots = rustls::RootCertStore::empty();
    let read = |path: &Path| rustls::pki_types::CertificateDer::from_pem_file(path).unwrap();
    roots.add(read(&ca.file())).unwrap();
    let chain = vec![read(&signed.certificate)];
    let key = rustls::pki_types::PrivateKeyDer::from_pem_file(&signed.key).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider);
    let config = config.with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_client_auth_cert(chain, key).unwrap();
    let name = rustls::pki_types::ServerName::try_from("127.0.0.1").unwrap();
    let tls = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    rustls::StreamOwned::new(tls, TcpStream::connect(("127.0.0.1", port)).unwrap())
}

#[test]
fn a_trickled_run_over_tls_ends_with_the_time_of_its_session() {
    const LIMIT: Duration = Duration::from_millis(400);
    let dir = scratch("trickled-run");
    let ca = Authority::new(&dir.join("ca"));
    let tls = tls_of(ca.sign_for_loopback(1));
    let task = proto::object_id(PageObject::Task(7));
    let header = |command, flags, pages| {
        let header = Header { command, flags, pages, address: BASE, id: task };
        header.to_bytes(Layout::Wide).unwrap().to_vec()
    };
    let open = header(Command::Open2, 0, 0);
    let run = header(Command::AddF, proto::PRESENT, 1 << 30);
    let first = [open, run, vec![7; 1 << 20]].concat();
    for pooled in [false, true] {
        let got = dir.join(format!("got-{pooled}"));
        fs::create_dir_all(&got).unwrap();
        let mut limits = ServerLimits::default();
        limits.total = LIMIT;
        let server = Server::new().directory(&got).limits(limits).tls(&tls, "127.0.0.1").unwrap();
        let server = if pooled { server.pool(Pool::new(4 << 20).unwrap()) } else { server };
        let (port, running) = run_one(server);
        let (mut stream, first) = (stranger(&ca, port), first.clone());
        thread::spawn(move || {
            _ = stream.write_all(&first);
            // A record of 16 KiB, a byte at a time: TLS has nothing to hand on meanwhile.
            let (mut socket, begun) = (stream.sock, Instant::now());
            _ = socket.write_all(&[23, 3, 3, 0x40, 0]);
            while begun.elapsed() < Duration::from_secs(20) && socket.write_all(&[7]).is_ok() {
                thread::sleep(LIMIT / 10);
            }
        });
        let report = running.recv_timeout(Duration::from_secs(10)).expect("an end");
        let error = report.result.unwrap_err().to_string();
        assert_eq!(error, "the session takes longer than allowed");
        assert_eq!(fs::read_dir(&got).unwrap().count(), 0);
    }
}

/// Runs a server for one session, whose report comes when it has ended.
fn run_one(server: Server) -> (u16, mpsc::Receiver<SessionReport>) {
    let server = server.listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let (port, (sender, ended)) = (server.port(), mpsc::channel());
    thread::spawn(move || {
        let _ = sender.send(server.run(Some(1)).unwrap().remove(0));
    });
    (port, ended)
}

#[test]
fn a_deadline_ends_what_a_tls_peer_stalls_or_trickles() {
    const LIMIT: Duration = Duration::from_millis(400);
    let dir = scratch("deadline");
    let ca = Authority::new(&dir.join("ca"));
    let tls = tls_of(ca.sign_for_loopback(1));
    for trickles in [false, true] {
        let port = bad_server(&dir, trickles);
        let client = Client::connect_tls("127.0.0.1", port, &tls, Layout::Wide).unwrap();
        let begun = Instant::now();
        let error = client.deadline(LIMIT).send_set(set(&dir)).unwrap_err();
        assert!(matches!(error, PagesError::Deadline(LIMIT)), "{error:?}");

        let port = bad_server(&dir, trickles);
        let relay = Relay::connect_tls("127.0.0.1", port, &tls).unwrap().deadline(LIMIT);
        let near = std::os::fd::AsFd::as_fd(&relay).try_clone_to_owned().unwrap();
        let near = std::os::unix::net::UnixStream::from(near);
        let mut client = Client::new(near.into(), Layout::Wide);
        // Without a deadline of its own the client sees the relay's end.
        _ = client.send_set(set(&dir)).and_then(|_| client.close()).unwrap_err();
        let error = relay.finish().unwrap_err();
        assert!(matches!(error, PagesError::Deadline(LIMIT)), "{error:?}");
        let time = begun.elapsed();
        assert!(time >= 2 * LIMIT && time < Duration::from_secs(30), "{time:?}");
    }
}

#[test]
fn with_tls_other_machines_may_reach_a_server() {
    let dir = scratch("tls-exposed");
    let ca = Authority::new(&dir.join("ca"));
    let server =
        Server::new().directory(&dir).tls(&tls_of(ca.sign_for_loopback(1)), "node").unwrap();
    let anywhere: SocketAddr = "0.0.0.0:0".parse().unwrap();
    drop(server.listen(anywhere).unwrap());
    Server::new().directory(&dir).listen(anywhere).unwrap_err();
}

#[test]
fn files_that_do_not_fit_are_named() {
    let dir = scratch("tls-files");
    let ca = Authority::new(&dir.join("ca"));
    let (tls, other) = (tls_of(ca.sign_for_loopback(1)), tls_of(ca.sign_for_loopback(2)));
    let says = |tls: &Tls, word: &str| {
        let said = Server::new().tls(tls, "node").unwrap_err().to_string();
        assert!(said.contains(word), "{said}");
    };
    says(&tls.clone().ca(dir.join("none.pem")), "none.pem: No such file");
    says(&tls.clone().certificate(dir.join("ca/1.key")), "1.key");
    says(&tls.clone().key(dir.join("ca/1.cert")), "1.cert");
    says(&tls.clone().key(dir.join("ca/2.key")), "key");
    says(&tls.clone().revoked(dir.join("none.pem")), "none.pem");
    says(&other.revoked(dir.join("ca/ca.pem")), "ca.pem");
    let said = Server::new().tls(&tls, "no name!").unwrap_err().to_string();
    assert!(said.contains("no name!"), "{said}");
}
