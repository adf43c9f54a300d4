//! A network that a test has for itself.

use std::os::fd::AsRawFd;

use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};

/// Moves this thread into a new network namespace whose loopback interface is up. The threads and
/// children that it makes are there too.
///
/// Two tests that take a free port at the same time would take the same one, and CRIU leaves its
/// rules for packets behind after each dump that nobody restores. In its own network a test meets
/// neither the ports nor the rules of others, and leaves none.
///
/// # Panics
/// Panics without root.
#[track_caller]
pub fn own_network() {
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    set_loopback_up();
}

/// Sends RTM_NEWLINK and waits for the answer. `ip link set lo up` would do, in several
/// milliseconds.
#[track_caller]
fn set_loopback_up() {
    let (kind, flags) = (SockType::Raw, SockFlag::SOCK_CLOEXEC);
    let netlink = SockProtocol::NetlinkRoute;
    let socket = socket(AddressFamily::Netlink, kind, flags, netlink).unwrap();
    let mut message = Vec::new();
    message.extend(32u32.to_ne_bytes());
    message.extend(NEW_LINK.to_ne_bytes());
    message.extend((REQUEST | ACK).to_ne_bytes());
    // The number and the sender.
    message.extend([0; 8]);
    // Family, padding, type.
    message.extend([0; 4]);
    // Loopback is the first interface of a namespace.
    message.extend(1i32.to_ne_bytes());
    message.extend(UP.to_ne_bytes());
    // The flags to change.
    message.extend(UP.to_ne_bytes());
    send(socket.as_raw_fd(), &message, MsgFlags::empty()).unwrap();
    let mut answer = [0; 64];
    let size = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty()).unwrap();
    // A header, and an errno of 0.
    assert!(size >= 20 && answer[16..20] == [0; 4], "loopback: {answer:?}");
}

/// `RTM_NEWLINK`.
const NEW_LINK: u16 = 16;

/// `NLM_F_REQUEST`.
const REQUEST: u16 = 1;

/// `NLM_F_ACK`.
const ACK: u16 = 4;

/// `IFF_UP`.
const UP: u32 = 1;
