//! Sockets.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use criu_lab::place::Short;
use criu_rs::preflight::Need;
use criu_rs::{Cause, Dump, External, Tcp};

use super::{foreseen, foreseen_of, is_blocked, of_sockets, works_by_itself, works_with_options};
use crate::lab::{Lab, TestFn};

pub const TESTS: &[(&str, TestFn)] = &[
    ("preflight_foresees_a_connection", connection),
    ("preflight_foresees_a_connection_in_flight", in_flight),
    ("preflight_foresees_sockets_of_odd_kinds", odd_kinds),
    ("preflight_foresees_an_unread_netlink_socket", netlink),
    ("preflight_foresees_a_unix_stream_to_the_outside", unix_stream),
    ("preflight_foresees_a_unix_datagram_to_the_outside", unix_datagram),
    ("preflight_looks_into_network_namespaces", namespaces),
];

fn connection(lab: &Lab) {
    let target = lab.start(&["tcp"]);
    let cause = of_sockets(lab, Cause::ConnectedTcp);
    let report = foreseen(lab, &target, cause);
    if cause == Cause::ConnectedTcp {
        assert_eq!(report.options(), [Need::TcpEstablished]);
        assert_eq!(report.safe_options(), []);
        works_with_options(lab, &target, &report);
        let images = lab.dir("closed");
        let dump = Dump::new(target.pid, &images).tcp(Tcp::Close);
        assert!(dump.preflight(&lab.criu).unwrap().will_work());
        dump.run(&lab.criu).unwrap();
    } else {
        is_blocked(&report);
    }
}

fn in_flight(lab: &Lab) {
    let code = "\
s = socket.create_server(('127.0.0.1', 0))
p = subprocess.Popen(['/usr/bin/python3', '-Sc', f'import socket, time; \
    s = socket.create_connection((\"127.0.0.1\", {s.getsockname()[1]})); \
    print(flush=True); time.sleep(1000)'], stdout=subprocess.PIPE)
p.stdout.readline()";
    let target = lab.python(code);
    let images = lab.dir("images");
    let dump = Dump::new(target.pid, &images).tcp(Tcp::Established);
    let (report, _) = foreseen_of(lab, dump, Cause::TcpInFlight);
    if of_sockets(lab, Cause::TcpInFlight) == Cause::TcpInFlight {
        assert_eq!(report.options(), [Need::TcpSkipInFlight]);
        let dump = Dump::new(target.pid, &images).tcp(Tcp::Established).tcp_skip_in_flight(true);
        assert!(dump.preflight(&lab.criu).unwrap().will_work());
        dump.run(&lab.criu).unwrap();
    } else {
        assert!(report.foresees(Cause::CriuTooOld), "{report}");
    }
}

fn odd_kinds(lab: &Lab) {
    for (kind, code) in [
        ("MPTCP", "s = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)"),
        ("ALG", "s = socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET)"),
        ("vsock", "s = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)"),
    ] {
        let mut target = lab.python(&format!("try:\n  {code}\nexcept OSError: s = None"));
        let images = lab.fresh("odd");
        let dump = Dump::new(target.pid, &images);
        let report = dump.preflight(&lab.criu).unwrap();
        // Not every kernel has every kind; all kernels of these tests have MPTCP.
        if report.will_work() {
            assert_ne!(kind, "MPTCP");
            dump.run(&lab.criu).unwrap();
        } else {
            foreseen_of(lab, dump, Cause::UnsupportedSocket);
        }
        target.end();
    }
    // The kernel's tables lack sockets that are neither bound nor connected.
    let target = lab.python("s = socket.socket()\nu = socket.socket(socket.AF_UNIX)");
    let images = lab.fresh("idle");
    let dump = Dump::new(target.pid, &images);
    let report = dump.preflight(&lab.criu).unwrap();
    assert_eq!(report.will_work(), dump.run(&lab.criu).is_ok(), "{report}");
}

fn netlink(lab: &Lab) {
    let code = "\
import select
s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
s.bind((0, 0))
s.send(struct.pack('=IHHIIB3x', 20, 18, 0x301, 1, 0, 0))
select.select([s], [], [])";
    let target = lab.python(code);
    let report = foreseen(lab, &target, Cause::UnreadNetlink);
    is_blocked(&report);
}

fn unix_stream(lab: &Lab) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let target = lab.start_with(&["count"], |command| command.stdin(OwnedFd::from(theirs)));
    let report = foreseen(lab, &target, Cause::ExternalUnixSocket);
    assert!(matches!(report.options()[..], [Need::External(External::UnixSocket(_))]));
    assert_eq!(report.safe_options(), []);
    // The option does nothing for a stream whose peer has no name.
    let images = lab.dir("accepted");
    let dump = Dump::new(target.pid, &images).ext_unix_sk(true);
    foreseen_of(lab, dump, Cause::ExternalUnixSocket);
    works_with_options(lab, &target, &report);
    drop(ours);
}

fn unix_datagram(lab: &Lab) {
    let folder = Short::folder();
    let path = folder.join("log.sock");
    let listener = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    let code = format!(
        "s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\ns.connect('{}')",
        path.display()
    );
    let target = lab.python(&code);
    let report = foreseen(lab, &target, Cause::ExternalUnixSocket);
    assert_eq!(report.options(), [Need::ExtUnixSk]);
    works_by_itself(lab, &target, &report);
    drop(listener);
}

fn namespaces(lab: &Lab) {
    let target = lab.python(
        "libc.unshare(0x40000000)\nsubprocess.check_call(['ip', 'link', 'set', 'lo', 'up'])\n\
         s = socket.create_server(('127.0.0.1', 0))\n\
         c = socket.create_connection(s.getsockname())\n\
         a, _ = s.accept()\nl, r = socket.socketpair()",
    );
    let cause = of_sockets(lab, Cause::ConnectedTcp);
    let report = foreseen(lab, &target, cause);
    assert!(!report.foresees(Cause::ExternalUnixSocket), "{report}");
    if cause == Cause::ConnectedTcp {
        works_with_options(lab, &target, &report);
    }
}
