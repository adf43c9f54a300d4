//! A network namespace, shut and opened.
//!
//! A table of nftables with two chains whose policy is to drop: nothing comes in, and nothing goes
//! out. TCP sends again what was dropped. The table is made over netlink, so that no program of
//! nftables has to be there. Each part of this crate has a table of its own name, which `nft list
//! tables` shows. A network that is shut by several tables is open after the last is deleted.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::thread;

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send,
    setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

/// Shuts a network by a table of this name. Does nothing more if the table is there already.
pub(crate) fn shut(network: &File, table: &str) -> io::Result<()> {
    let table = text(table);
    let chain = |name: &str, hook: u32| {
        let hook = [
            attribute(HOOK_NUMBER, &hook.to_be_bytes()),
            attribute(HOOK_PRIORITY, &PRIORITY.to_be_bytes()),
        ];
        [
            attribute(CHAIN_TABLE, &table),
            attribute(CHAIN_NAME, &text(name)),
            attribute(CHAIN_HOOK | NESTED, &hook.concat()),
            attribute(CHAIN_POLICY, &DROP.to_be_bytes()),
            attribute(CHAIN_TYPE, &text("filter")),
        ]
        .concat()
    };
    let messages = [
        (NEW_TABLE, CREATE, attribute(TABLE_NAME, &table)),
        (NEW_CHAIN, CREATE, chain("in", LOCAL_IN)),
        (NEW_CHAIN, CREATE, chain("out", LOCAL_OUT)),
    ];
    within(network, &messages)
}

/// Opens a network that a table of this name shuts. Does nothing if there is no such table.
pub(crate) fn open(network: &File, table: &str) -> io::Result<()> {
    let table = attribute(TABLE_NAME, &text(table));
    match within(network, &[(DELETE_TABLE, 0, table)]) {
        Err(error) if error.raw_os_error() == Some(Errno::ENOENT as i32) => Ok(()),
        result => result,
    }
}

/// Sends messages in a network.
fn within(network: &File, messages: &[(u16, u16, Vec<u8>)]) -> io::Result<()> {
    thread::scope(|scope| {
        // The network is that of the thread, which ends here.
        let thread = thread::Builder::new().spawn_scoped(scope, || {
            setns(network, CloneFlags::CLONE_NEWNET)?;
            transact(messages)
        })?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("a thread panicked")))
    })
}

/// Sends messages as one transaction, and waits for the kernel's answer.
fn transact(messages: &[(u16, u16, Vec<u8>)]) -> io::Result<()> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let protocol = SockProtocol::NetlinkNetFilter;
    let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::seconds(PATIENCE))?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
    // The ends of a transaction name the subsystem in place of a family.
    let mut bytes = message(BATCH_BEGIN, REQUEST, 0, (0, SUBSYSTEM), &[]);
    let mut last = 0;
    for ((kind, flags, body), number) in messages.iter().zip(1..) {
        let kind = (SUBSYSTEM << 8) | kind;
        bytes.extend(message(kind, REQUEST | ACKNOWLEDGE | flags, number, (INET, 0), body));
        last = number;
    }
    bytes.extend(message(BATCH_END, REQUEST, last + 1, (0, SUBSYSTEM), &[]));
    send(socket.as_raw_fd(), &bytes, MsgFlags::empty())?;
    let mut buffer = vec![0; 64 << 10];
    loop {
        let len = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        let mut rest = buffer.get(..len).unwrap_or_default();
        while let Some((number, result)) = answer(&mut rest) {
            result?;
            if number == last {
                return Ok(());
            }
        }
    }
}

/// Takes the next answer off: the number of the message, and the result.
fn answer(rest: &mut &[u8]) -> Option<(u32, io::Result<()>)> {
    let word =
        |bytes: &[u8], at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    loop {
        let len = usize::try_from(word(rest, 0)?).ok()?;
        let found = rest.get(..len).filter(|found| found.len() >= HEADER)?;
        *rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        let kind = u16::from_ne_bytes(found.get(4..6)?.try_into().ok()?);
        if kind != ERROR {
            continue;
        }
        let code = i32::from_ne_bytes(found.get(HEADER..HEADER + 4)?.try_into().ok()?);
        let result = match code {
            0 => Ok(()),
            code => Err(io::Error::from_raw_os_error(code.saturating_neg())),
        };
        return Some((word(found, 8)?, result));
    }
}

/// Makes a message of netfilter.
fn message(
    kind: u16,
    flags: u16,
    number: u32,
    (family, resource): (u8, u16),
    body: &[u8],
) -> Vec<u8> {
    let len = u32::try_from(HEADER + 4 + body.len()).unwrap_or(u32::MAX);
    let mut bytes = len.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(number.to_ne_bytes());
    bytes.extend(0u32.to_ne_bytes());
    bytes.extend([family, 0]);
    bytes.extend(resource.to_be_bytes());
    bytes.extend(body);
    bytes
}

/// Makes an attribute, filled up to four bytes.
fn attribute(kind: u16, content: &[u8]) -> Vec<u8> {
    let len = u16::try_from(4 + content.len()).unwrap_or(u16::MAX);
    let mut bytes = len.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(content);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn text(text: &str) -> Vec<u8> {
    [text.as_bytes(), b"\0"].concat()
}

/// Seconds that the kernel may take to answer.
const PATIENCE: i64 = 5;

/// Bytes of a netlink header.
const HEADER: usize = 16;

// Kinds and flags of netlink messages.
const ERROR: u16 = 2;
const REQUEST: u16 = 1;
const ACKNOWLEDGE: u16 = 4;
const CREATE: u16 = 0x400;
const NESTED: u16 = 0x8000;

// Messages of netfilter and of nftables.
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const SUBSYSTEM: u16 = 10;
const NEW_TABLE: u16 = 0;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;

/// `NFPROTO_INET`: IPv4 and IPv6.
const INET: u8 = 1;

// Attributes of tables, chains and hooks.
const TABLE_NAME: u16 = 1;
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const CHAIN_TYPE: u16 = 7;
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;

/// `NF_INET_LOCAL_IN`, `NF_INET_LOCAL_OUT`.
const LOCAL_IN: u32 = 1;
const LOCAL_OUT: u32 = 3;

/// `NF_DROP`.
const DROP: u32 = 0;

/// Priority of the hooks: that of `raw`, before the connection tracking.
const PRIORITY: i32 = -300;

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    use super::*;

    /// Needs root.
    #[test]
    fn what_is_sent_into_a_network_that_is_shut_comes_later() {
        criu_lab::own_network();
        let network = File::open("/proc/thread-self/ns/net").expect("a network");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let address = listener.local_addr().expect("an address");
        let mut here = TcpStream::connect(address).expect("a connection");
        let (mut there, _) = listener.accept().expect("a connection");
        shut(&network, "a").expect("shut");
        shut(&network, "a").expect("shut again");
        shut(&network, "b").expect("shut by another");
        open(&network, "b").expect("open by the other");
        here.write_all(b"late").expect("sent");
        there.set_read_timeout(Some(Duration::from_millis(50))).expect("set");
        let mut bytes = [0; 4];
        assert!(there.read(&mut bytes).is_err());
        open(&network, "a").expect("open");
        open(&network, "a").expect("open again");
        there.set_read_timeout(Some(Duration::from_secs(10))).expect("set");
        there.read_exact(&mut bytes).expect("received");
        assert_eq!(&bytes, b"late");
    }
}
