//! The nftables tables of CRIU: one for each dump, with a name that only that criu knows.

use std::collections::HashSet;
use std::ffi::CStr;
use std::io;
use std::net::IpAddr;

use nix::sys::socket::SockProtocol;

use super::connection::Ends;
use crate::host::netlink::{ACK, DUMP, Socket, attributes, request};

/// The names of CRIU's tables in the network of this thread.
pub(super) fn tables() -> HashSet<String> {
    let mut found = HashSet::new();
    let listed = ask(GET_TABLE, &[], |body| {
        let names = attributes(body).filter(|(kind, _)| *kind == TABLE_NAME);
        let names =
            names.filter_map(|(_, name)| CStr::from_bytes_until_nul(name).ok()?.to_str().ok());
        found.extend(names.filter(|name| name.starts_with("CRIU")).map(str::to_owned));
    });
    // A kernel without nftables refuses the request and has no tables.
    if listed.is_err() { HashSet::new() } else { found }
}

/// Removes the tables that are not in `before` and keep packets of these connections away, or with
/// `whole` all packets. A table that keeps nothing away stays.
pub(super) fn remove(before: &HashSet<String>, connections: &[Ends], whole: bool) {
    let keys: HashSet<Vec<u8>> = connections.iter().flat_map(keys).collect();
    for table in tables().difference(before) {
        let held = ["conns4", "conns6"].map(|set| held(table, set));
        let mut all = held.iter().flatten().flatten().peekable();
        let is_ours = all.peek().is_some() && all.all(|key| keys.contains(key));
        // A table for a whole network has no sets.
        if is_ours || whole && held == [None, None] {
            // Another process may have removed it already.
            let _ = delete(table);
        }
    }
}

/// The two keys of a connection in a set: addresses and ports, in both directions.
fn keys([here, there]: &Ends) -> [Vec<u8>; 2] {
    let part = |(address, port): (IpAddr, u16)| {
        let mut bytes = match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        bytes.extend(port.to_be_bytes());
        bytes.extend([0; 2]);
        bytes
    };
    let (here, there) = (part(*here), part(*there));
    [[here.clone(), there.clone()].concat(), [there, here].concat()]
}

/// The keys in a set of a table. `None` if there is no such set.
fn held(table: &str, set: &str) -> Option<Vec<Vec<u8>>> {
    let mut found = Vec::new();
    let names = [(ELEMENTS_TABLE, table), (ELEMENTS_SET, set)];
    let listed = ask(GET_ELEMENTS, &names, |body| {
        let inside = |kind: u16| move |(of, value)| (of == kind).then_some(value);
        let lists = attributes(body).filter_map(inside(ELEMENTS));
        let elements = lists.flat_map(attributes).filter_map(inside(ELEMENT));
        let data = elements.flat_map(attributes).filter_map(inside(ELEMENT_KEY));
        found.extend(data.flat_map(attributes).filter_map(inside(DATA_VALUE)).map(<[u8]>::to_vec));
    });
    listed.ok().map(|()| found)
}

fn ask(kind: u16, names: &[(u16, &str)], mut each: impl FnMut(&[u8])) -> io::Result<()> {
    let socket = Socket::open(SockProtocol::NetlinkNetFilter)?;
    socket.send(&request(OF_TABLES | kind, DUMP, &body(FAMILY, 0, names)))?;
    socket.hear(|_, body| {
        // The attributes follow the four bytes of the family.
        each(body.get(4..).unwrap_or_default());
        true
    })
}

fn delete(table: &str) -> io::Result<()> {
    let socket = Socket::open(SockProtocol::NetlinkNetFilter)?;
    let batch = body(0, OF_TABLES >> 8, &[]);
    let messages = [
        request(BATCH_BEGIN, 0, &batch),
        request(OF_TABLES | DELETE_TABLE, ACK, &body(FAMILY, 0, &[(TABLE_NAME, table)])),
        request(BATCH_END, 0, &batch),
    ];
    socket.send(&messages.concat())?;
    socket.hear(|_, _| true)
}

/// Builds a body: a family, version 0, a resource, and attributes with names.
fn body(family: u8, resource: u16, names: &[(u16, &str)]) -> Vec<u8> {
    let mut bytes = vec![family, 0];
    bytes.extend(resource.to_be_bytes());
    for (kind, name) in names {
        let length = u16::try_from(4 + name.len() + 1).unwrap_or(u16::MAX);
        bytes.extend(length.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(name.as_bytes());
        bytes.push(0);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes
}

/// `NFPROTO_INET`: both IPv4 and IPv6.
const FAMILY: u8 = 1;

// linux/netfilter/nfnetlink.h and nf_tables.h.
const OF_TABLES: u16 = 10 << 8;
const GET_TABLE: u16 = 1;
const DELETE_TABLE: u16 = 2;
const GET_ELEMENTS: u16 = 13;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const TABLE_NAME: u16 = 1;
const ELEMENTS_TABLE: u16 = 1;
const ELEMENTS_SET: u16 = 2;
const ELEMENTS: u16 = 3;
const ELEMENT: u16 = 1;
const ELEMENT_KEY: u16 = 1;
const DATA_VALUE: u16 = 1;
