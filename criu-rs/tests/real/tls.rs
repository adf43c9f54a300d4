//! TLS between CRIU's ends and ours.

use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::thread;

use criu_lab::certs::{Authority, Signed, Wanted};
use criu_lab::soon;
use criu_rs::pages::{Client, Layout, Provider, Relay, Server};
use criu_rs::{AfterDump, Dump, PageServer, Restore, Tls};

use crate::lab::{Lab, TestFn};
use crate::pages::{anywhere, are_alike, is_whole, keep_back, pages, restores};

pub const TESTS: &[(&str, TestFn)] = &[
    ("criu_speaks_tls_with_our_page_server", receive),
    ("our_client_speaks_tls_with_criu_s_page_server", push),
    ("a_relay_speaks_tls_with_criu_s_page_server", relay),
    ("criu_fetches_memory_over_tls", lazy),
    ("tls_refuses_the_same_certificates_as_criu", refused),
];

const HERE: &str = "127.0.0.1";

/// The files of one end, as this crate takes them.
fn tls_of(signed: Signed) -> Tls {
    Tls::new().ca(signed.ca).certificate(signed.certificate).key(signed.key)
}

/// Receives with names in the certificate, and with a common name alone, which CRIU's library
/// takes.
fn receive(lab: &Lab) {
    let ca = Authority::new(&lab.dir("ca"));
    let common = Wanted { common: "localhost", ..Wanted::default() };
    for (n, host, tls) in
        [(1, HERE, tls_of(ca.sign_for_loopback(1))), (2, "localhost", tls_of(ca.sign(2, &common)))]
    {
        let images = lab.dir(&format!("images-{n}"));
        let mut target = lab.start(&["memory", "24"]);
        let server = Server::new().directory(&images).tls(&tls, host).unwrap();
        let server = server.listen(anywhere()).unwrap();
        let port = server.port();
        let running = thread::spawn(move || server.run(Some(1)).unwrap());
        let dump = Dump::new(target.pid, &images).page_server(host, port).tls(tls);
        dump.run(&lab.criu).unwrap();
        let received = running.join().unwrap().remove(0).result.unwrap();
        assert!(received.pages > 24 << 8, "{received}");
        is_whole(&images);
        target.is_gone();
        restores(lab, &mut target, &images);
        target.end();
    }
}

fn push(lab: &Lab) {
    let (from, to, ca) = (lab.dir("from"), lab.dir("to"), Authority::new(&lab.dir("ca")));
    let mut target = lab.start(&["memory", "24"]);
    Dump::new(target.pid, &from).run(&lab.criu).unwrap();
    let tls = tls_of(ca.sign_for_loopback(1));
    let server = PageServer::new(&to, anywhere()).tls(tls.clone()).spawn(&lab.criu).unwrap();
    let mut client =
        Client::connect_tls(HERE, server.port(), &tls, Layout::of(lab.version)).unwrap();
    client.send_set(&from).unwrap();
    client.close().unwrap();
    assert!(server.wait().unwrap().success());
    are_alike(&pages(&from), &pages(&to));
    target.is_gone();
}

fn relay(lab: &Lab) {
    let (images, ca) = (lab.dir("images"), Authority::new(&lab.dir("ca")));
    let mut target = lab.start(&["memory", "24"]);
    let tls = tls_of(ca.sign_for_loopback(1));
    let server = PageServer::new(&images, anywhere()).tls(tls.clone()).spawn(&lab.criu).unwrap();
    let relay = Relay::connect_tls(HERE, server.port(), &tls).unwrap();
    Dump::new(target.pid, &images).page_server_socket(&relay).run(&lab.criu).unwrap();
    assert!(relay.finish().unwrap() > 24 << 20);
    assert!(server.wait().unwrap().success());
    is_whole(&images);
    target.is_gone();
    restores(lab, &mut target, &images);
}

fn lazy(lab: &Lab) {
    let (whole, lazy, ca) = (lab.dir("whole"), lab.dir("lazy"), Authority::new(&lab.dir("ca")));
    let tls = tls_of(ca.sign_for_loopback(1));
    let mut target = lab.start(&["memory", "16"]);
    let server = Server::new().directory(&whole).tls(&tls, HERE).unwrap();
    let server = server.listen(anywhere()).unwrap();
    let port = server.port();
    let running = thread::spawn(move || server.run(Some(1)).unwrap());
    Dump::new(target.pid, &lazy).page_server(HERE, port).tls(tls.clone()).run(&lab.criu).unwrap();
    assert!(running.join().unwrap().remove(0).result.is_ok());
    target.is_gone();
    let kept_back = keep_back(&whole, &lazy);
    let before = target.count();

    let server = Provider::new(&whole).tls(&tls, HERE).unwrap().listen(anywhere()).unwrap();
    let port = server.port().to_string();
    let running = thread::spawn(move || server.run(Some(1)).unwrap());
    let [file, key] = ["1.cert", "1.key"].map(|name| lab.dir.join("ca").join(name));
    let mut daemon = Command::new(&lab.program);
    daemon.args(["lazy-pages", "--page-server", "--address", HERE, "--port", &port]);
    daemon.args(["--tls", "-o", "lazy.log", "-D"]).arg(&lazy);
    daemon.arg("--tls-cacert").arg(ca.file()).arg("--tls-cert").arg(file).arg("--tls-key").arg(key);
    let daemon = daemon.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut daemon = daemon.spawn().unwrap();
    assert!(soon(|| lazy.join("lazy-pages.socket").exists()));
    let restored = Restore::new(&lazy).lazy_pages(true).run(&lab.criu).unwrap();
    target.restored_as(restored.pid);
    assert!(target.goes_on() > before);
    assert!(daemon.wait().unwrap().success());
    let received = running.join().unwrap().remove(0).result.unwrap();
    assert!(received.served > 16 << 7 && received.served <= kept_back, "{received}");
}

/// Each pair of certificates twice: a dump of CRIU's into our server, and our client into CRIU's.
fn refused(lab: &Lab) {
    let (ca, other) = (Authority::new(&lab.dir("ca")), Authority::new(&lab.dir("other")));
    let good = tls_of(ca.sign_for_loopback(1));
    let there = tls_of(ca.sign(2, &Wanted { names: &["elsewhere"], ..Wanted::default() }));
    let stranger = tls_of(other.sign_for_loopback(3)).ca(ca.file());
    let careful = good.clone().revoked(ca.revoke(4));
    let revoked = tls_of(ca.sign_for_loopback(4));
    let none = lab.dir.join("none.pem");
    let without = good.clone().certificate(&none).key(&none);
    let mut target = lab.start(&["memory", "4"]);
    let from = Dump::new(target.pid, lab.dir("from")).after_dump(AfterDump::LeaveRunning);
    from.run(&lab.criu).unwrap();
    let pairs = [
        ("both good", &good, &good, true),
        ("the client is for elsewhere", &good, &there, false),
        ("the server is for elsewhere", &there, &good, false),
        ("the client is a stranger", &good, &stranger, false),
        ("the server is a stranger", &stranger, &good, false),
        ("the client is revoked", &careful, &revoked, false),
        ("the server is revoked", &revoked, &careful, false),
        ("the client has none", &good, &without, false),
        ("any name will do", &there.clone().any_name(), &good.clone().any_name(), true),
    ];
    for (n, (what, server, client, fits)) in pairs.into_iter().enumerate() {
        assert_eq!(into_ours(lab, n, &target, server, client), fits, "into ours: {what}");
        assert_eq!(into_criu_s(lab, n, server, client), fits, "into CRIU's: {what}");
    }
    target.end();
}

/// Dumps into our server, and returns whether that succeeds. After a failure the process runs on,
/// and there is no checkpoint.
fn into_ours(lab: &Lab, n: usize, target: &crate::lab::Target, server: &Tls, client: &Tls) -> bool {
    let images = lab.dir(&format!("ours-{n}"));
    let listening = Server::new().directory(&images).tls(server, HERE).unwrap();
    let listening = listening.listen(anywhere()).unwrap();
    let (port, handle) = (listening.port(), listening.handle());
    let running = thread::spawn(move || listening.run(Some(1)).unwrap());
    let dump = Dump::new(target.pid, &images).page_server(HERE, port).tls(client.clone());
    let dumped = dump.after_dump(AfterDump::LeaveRunning).run(&lab.criu);
    // A dump that does not get as far as to connect leaves a server that waits.
    handle.finish();
    let reports = running.join().unwrap();
    target.goes_on();
    let received = reports.first().is_some_and(|report| report.result.is_ok());
    assert_eq!(dumped.is_ok(), received, "{dumped:?} {reports:?}");
    assert_eq!(images.join("inventory.img").exists(), received, "{dumped:?}");
    received
}

fn into_criu_s(lab: &Lab, n: usize, server: &Tls, client: &Tls) -> bool {
    let (from, to) = (lab.dir.join("from"), lab.dir(&format!("theirs-{n}")));
    let running = PageServer::new(&to, anywhere()).tls(server.clone()).spawn(&lab.criu).unwrap();
    let layout = Layout::of(lab.version);
    let sent = Client::connect_tls(HERE, running.port(), client, layout).and_then(|mut to| {
        to.send_set(&from)?;
        to.close()
    });
    // One that nobody has connected to waits for ever.
    drop(TcpStream::connect((HERE, running.port())));
    assert_eq!(running.wait().unwrap().success(), sent.is_ok(), "{sent:?}");
    sent.is_ok()
}
