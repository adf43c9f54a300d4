//! Addresses, interfaces and connections that this host does not have.

use std::net::TcpListener;
use std::process::Command;

use criu_rs::{Cause, Dump, External, Restore, Tcp, Version};
use nix::sched::{CloneFlags, unshare};

use super::{cause, fails, is_told, python, saved};
use crate::container::Container;
use crate::lab::{Lab, TestFn};

pub const TESTS: &[(&str, TestFn)] = &[
    ("restore_says_which_address_is_not_of_this_host", addresses),
    ("restore_says_that_the_peer_of_a_veth_is_unknown", veth),
    ("restore_says_at_once_that_loopback_is_down", loopback),
];

/// Enters a network namespace of this test's own.
fn enter_network(loopback: &str) {
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    ip(&format!("link set lo {loopback}"));
}

fn ip(words: &str) {
    let status = Command::new("ip").args(words.split(' ')).status().unwrap();
    assert!(status.success(), "ip {words}");
}

fn addresses(lab: &Lab) {
    enter_network("up");
    ip("addr add 10.99.15.1/32 dev lo");
    let bound = |kind: u32, port: u16| {
        format!("s = socket.socket(2, {kind})\ns.bind(('10.99.15.1', {port}))\n")
    };
    if lab.version < Version::new(4, 2, 0) {
        let target = lab.python(&bound(2, 7011));
        let error = Dump::new(target.pid, lab.dir("images")).run(&lab.criu).unwrap_err();
        assert_eq!(error.cause(), Some(Cause::CriuTooOld), "{error}");
        return;
    }
    let stream = python(lab, &(bound(1, 7011) + "s.listen()"));
    let datagram = python(lab, &bound(2, 7012));
    let connection = bound(1, 7013)
        + "s.listen()\nc = socket.create_connection(('10.99.15.1', 7013))\nd = s.accept()";
    let connected = saved(lab, lab.python(&connection), |dump| dump.tcp(Tcp::Established));
    // A connection whose listener is of another program.
    ip("addr add 10.99.15.2/32 dev lo");
    let outside = TcpListener::bind("10.99.15.2:7014").unwrap();
    let code =
        "c = socket.create_connection(('10.99.15.2', 7014), source_address=('10.99.15.1', 0))";
    let alone = saved(lab, lab.python(code), |dump| dump.tcp(Tcp::Established));
    drop(outside);

    let in_use = TcpListener::bind("10.99.15.1:7011").unwrap();
    let expected = cause(Cause::AddressInUse, "10.99.15.1:7011", "end the program that has it");
    fails(&lab.criu, &Restore::new(&stream.images), &expected);
    drop(in_use);
    let advice = ".tcp(Tcp::Established)";
    let expected = cause(Cause::ConnectedTcp, "", advice);
    fails(&lab.criu, &Restore::new(&connected.images), &expected);

    ip("addr del 10.99.15.1/32 dev lo");
    let advice = "add the address to an interface (ip addr add)";
    let not_here = |seen| cause(Cause::AddressNotHere, seen, advice);
    fails(&lab.criu, &Restore::new(&stream.images), &not_here("10.99.15.1:7011"));
    fails(&lab.criu, &Restore::new(&datagram.images), &not_here("10.99.15.1:7012"));
    let restore = Restore::new(&connected.images).tcp(Tcp::Established);
    fails(&lab.criu, &restore, &not_here("10.99.15.1:7013"));
    let restore = Restore::new(&alone.images).tcp(Tcp::Established);
    fails(&lab.criu, &restore, &not_here(""));
}

fn veth(lab: &Lab) {
    // The network namespace of the container, with one end of a pair.
    enter_network("up");
    let mut container = Container::start(lab, CloneFlags::CLONE_NEWNET);
    let mut third = lab.python_in(&["unshare", "--net"], "");
    ip("link add outer type veth peer name inner");
    ip(&format!("link set inner netns {}", container.target.pid));
    ip(&format!("link set outer netns {}", third.pid));
    let images = lab.dir("images");
    Dump::new(container.target.pid, &images).run(&lab.criu).unwrap();
    container.is_gone();
    third.end();
    let restore = Restore::new(&images).root(&container.root);
    let expected = cause(Cause::VethPeer, "", ".external(External::Veth { .. })");
    fails(&lab.criu, &restore, &expected);
    ip("link add taken type veth peer name other");
    let veth = External::Veth { inner: "inner".into(), outer: "taken".into(), bridge: None };
    let expected = cause(Cause::InterfaceExists, "", "remove the interface");
    fails(&lab.criu, &restore.external(veth), &expected);
}

fn loopback(lab: &Lab) {
    enter_network("down");
    let since = std::time::Instant::now();
    let expected = cause(Cause::LoopbackDown, "", "ip link set lo up");
    let target = lab.start(&["count"]);
    let images = lab.dir("images");
    is_told(&Dump::new(target.pid, &images).run(&lab.criu).unwrap_err(), &expected);
    target.goes_on();
    is_told(&lab.criu.check().unwrap_err(), &expected);
    ip("link set lo up");
    let saved = saved(lab, target, |dump| dump);
    ip("link set lo down");
    fails(&lab.criu, &Restore::new(&saved.images), &expected);
    // CRIU itself tries for more than two minutes.
    assert!(since.elapsed().as_secs() < 60, "{:?}", since.elapsed());
}
