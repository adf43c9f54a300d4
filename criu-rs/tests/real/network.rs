//! TCP connections.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use criu_rs::{Cause, Dump, NetworkLock, Restore, Tcp, Version};

use crate::lab::{Lab, Target, TestFn};

pub const TESTS: &[(&str, TestFn)] = &[
    ("tcp_established_with_iptables", |lab| established(lab, NetworkLock::Iptables)),
    ("tcp_established_with_nftables", |lab| established(lab, NetworkLock::Nftables)),
    ("tcp_close", close),
];

/// A payload connected to us. CRIU 4.1 cannot dump inet sockets on kernels since 6.16: there the test
/// sees to it that we are told so, and is over.
fn connected(lab: &Lab) -> Option<(Target, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let target = lab.start(&["tcp-echo", &port]);
    let mut peer = listener.accept().unwrap().0;
    peer.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    assert_eq!(talk(&mut peer, b"before"), b"before");
    if lab.version >= Version::new(4, 2, 0) {
        return Some((target, peer));
    }
    let images = lab.dir("too-old");
    let error = Dump::new(target.pid, &images).tcp(Tcp::Established).run(&lab.criu).unwrap_err();
    assert_eq!(error.cause(), Some(Cause::CriuTooOld), "{error}");
    target.goes_on();
    assert_eq!(talk(&mut peer, b"still"), b"still");
    None
}

fn talk(peer: &mut TcpStream, text: &[u8]) -> Vec<u8> {
    peer.write_all(text).unwrap();
    let mut answer = vec![0; text.len()];
    peer.read_exact(&mut answer).unwrap();
    answer
}

fn established(lab: &Lab, lock: NetworkLock) {
    let Some((mut target, mut peer)) = connected(lab) else { return };
    let images = lab.dir("images");
    let dump = Dump::new(target.pid, &images).tcp(Tcp::Established).network_lock(lock);
    dump.run(&lab.criu).unwrap();
    target.is_gone();
    // Sent while nobody is there: it must arrive after the restore.
    peer.write_all(b"meanwhile").unwrap();
    let restored = Restore::new(&images).tcp(Tcp::Established).run(&lab.criu).unwrap();
    target.restored_as(restored.pid);
    let mut answer = [0; 9];
    peer.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"meanwhile");
    assert_eq!(talk(&mut peer, b"after"), b"after");
}

fn close(lab: &Lab) {
    let Some((mut target, mut peer)) = connected(lab) else { return };
    let images = lab.dir("images");
    Dump::new(target.pid, &images).tcp(Tcp::Close).run(&lab.criu).unwrap();
    target.is_gone();
    let before = target.count();
    let restored = Restore::new(&images).tcp(Tcp::Close).run(&lab.criu).unwrap();
    target.restored_as(restored.pid);
    // It reads the end of the connection, and counts on.
    assert!(target.goes_on() > before);
    assert!(matches!(peer.read(&mut [0]), Ok(0) | Err(_)));
}
