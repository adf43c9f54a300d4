//! Images without a frame: netlink messages, tables of firewalls, archives.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Secret;
use crate::kind::{self, Kind};

/// Returns true for images whose content is removed: archives of file systems, which hold whole
/// files, and tracked connections.
pub(super) fn is_emptied(kind: &Kind) -> bool {
    [kind::TMPFS, kind::TMPFS_DEV, kind::NETNF_CT, kind::NETNF_EXP].contains(&kind)
}

/// Makes a raw image anew with everything private replaced.
pub(super) fn replaced(kind: &'static Kind, bytes: &[u8], secret: &Secret) -> Vec<u8> {
    if kind == kind::TMPFS || kind == kind::TMPFS_DEV {
        return EMPTY_ARCHIVE.to_vec();
    }
    if is_emptied(kind) {
        return Vec::new();
    }
    if [kind::IFADDR, kind::ROUTE, kind::ROUTE6, kind::RULE].contains(&kind) {
        let mut bytes = bytes.to_vec();
        // The magic that iproute2 writes.
        messages(bytes.get_mut(4..).unwrap_or_default(), secret);
        return bytes;
    }
    text(bytes, secret)
}

/// Replaces addresses, devices and paths in a text, such as the rules of a firewall. Words in
/// quotes are replaced as a whole.
pub(super) fn text(text: &[u8], secret: &Secret) -> Vec<u8> {
    let mut replaced = Vec::with_capacity(text.len());
    let mut is_quoted = false;
    for (place, part) in text.split(|byte| *byte == b'"').enumerate() {
        if place > 0 {
            replaced.push(b'"');
            is_quoted = !is_quoted;
        }
        if is_quoted {
            replaced.extend(device(part, secret));
            continue;
        }
        let mut word = Vec::new();
        for byte in part.iter().copied() {
            if byte.is_ascii_whitespace() || b"{},;()[]".contains(&byte) {
                replaced.extend(self::word(&word, secret));
                word.clear();
                replaced.push(byte);
            } else {
                word.push(byte);
            }
        }
        replaced.extend(self::word(&word, secret));
    }
    replaced
}

/// Replaces a word that is an address, with or without a prefix, or a path.
fn word(word: &[u8], secret: &Secret) -> Vec<u8> {
    let text = String::from_utf8_lossy(word);
    let (address, rest) = match text.split_once('/') {
        Some((address, rest)) => (address, Some(rest)),
        None => (&*text, None),
    };
    if let Ok(address) = address.parse::<IpAddr>() {
        let length = rest.and_then(|rest| rest.parse().ok());
        let mapped = masked(secret.addresses.ip(address), length);
        let rest = rest.map(|rest| format!("/{rest}")).unwrap_or_default();
        return format!("{mapped}{rest}").into_bytes();
    }
    if word.starts_with(b"/") { secret.names.path(word) } else { word.to_vec() }
}

/// Clears the bits of an address behind a prefix, where a rule says a network.
fn masked(address: IpAddr, prefix: Option<u32>) -> IpAddr {
    let Some(prefix) = prefix else { return address };
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32u32.saturating_sub(prefix)).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & mask))
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128u32.saturating_sub(prefix)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask))
        }
    }
}

/// Replaces the name of a network device. Names that the kernel or an engine gives stay.
pub(super) fn device(name: &[u8], secret: &Secret) -> Vec<u8> {
    let name_end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
    let (name, end) = name.split_at(name_end);
    let stem = name.trim_ascii_end();
    let letters = stem.iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
    let (word, number) = stem.split_at(letters);
    let is_usual = DEVICES.contains(&word) && number.iter().all(u8::is_ascii_digit);
    let name = if is_usual { name.to_vec() } else { secret.names.word(name) };
    [&name, end].concat()
}

/// Replaces the addresses in netlink messages of addresses, routes and rules, in their places.
fn messages(mut bytes: &mut [u8], secret: &Secret) {
    while let Some(size) = number(bytes, 0).filter(|size| *size >= HEADER) {
        let Some((message, rest)) =
            bytes.split_at_mut_checked(size.next_multiple_of(4).min(bytes.len()))
        else {
            return;
        };
        message_in_place(message, secret);
        bytes = rest;
    }
}

fn message_in_place(message: &mut [u8], secret: &Secret) {
    let kind =
        message.get(4..6).and_then(|kind| kind.first_chunk()).map_or(0, |k| u16::from_le_bytes(*k));
    let (head, addresses): (usize, &[u16]) = match kind {
        // Of a device: address, local, broadcast, anycast.
        NEW_ADDRESS => (8, &[1, 2, 4, 5]),
        // A route: destination, source, gateway, preferred source.
        NEW_ROUTE => (12, &[1, 2, 5, 7]),
        NEW_RULE => (12, &[1, 2]),
        _ => return,
    };
    let length = message.get(HEADER + 1).copied().unwrap_or(0);
    let source_length = message.get(HEADER + 2).copied().unwrap_or(0);
    let mut at = HEADER + head;
    while let Some(attribute) = message.get_mut(at..) {
        let size = attribute.first_chunk().map(|size| usize::from(u16::from_le_bytes(*size)));
        let sort = attribute.get(2..4).and_then(|sort| sort.first_chunk());
        let sort = sort.map_or(0, |sort| u16::from_le_bytes(*sort));
        let Some(size) = size.filter(|size| *size >= 4) else { return };
        let Some(content) = attribute.get_mut(4..size) else { return };
        if kind == NEW_ADDRESS && sort == LABEL {
            let label = device(content, secret);
            content.iter_mut().zip(label).for_each(|(to, from)| *to = from);
        } else if addresses.contains(&sort) {
            // Destination and source of a route or a rule are networks.
            let prefix = match (kind, sort) {
                (NEW_ADDRESS, _) => None,
                (_, 1) => Some(u32::from(length)),
                (_, 2) => Some(u32::from(source_length)),
                _ => None,
            };
            address(content, prefix, secret);
        }
        at += size.next_multiple_of(4);
    }
}

fn address(content: &mut [u8], prefix: Option<u32>, secret: &Secret) {
    let new = if let Ok(octets) = <[u8; 4]>::try_from(&*content) {
        masked(secret.addresses.ip(IpAddr::V4(octets.into())), prefix)
    } else if let Ok(octets) = <[u8; 16]>::try_from(&*content) {
        masked(secret.addresses.ip(IpAddr::V6(octets.into())), prefix)
    } else {
        return content.fill(0);
    };
    match new {
        IpAddr::V4(new) => content.iter_mut().zip(new.octets()).for_each(|(to, from)| *to = from),
        IpAddr::V6(new) => content.iter_mut().zip(new.octets()).for_each(|(to, from)| *to = from),
    }
}

fn number(bytes: &[u8], at: usize) -> Option<usize> {
    let word = bytes.get(at..)?.first_chunk()?;
    usize::try_from(u32::from_le_bytes(*word)).ok()
}

/// Bytes of a netlink header.
const HEADER: usize = 16;
const NEW_ADDRESS: u16 = 20;
const NEW_ROUTE: u16 = 24;
const NEW_RULE: u16 = 32;
/// Attribute of an address: its label, which begins with the device's name.
const LABEL: u16 = 3;

/// Beginnings of the names of devices that tell nothing about a site.
const DEVICES: &[&[u8]] = &[
    b"", b"lo", b"eth", b"ens", b"enp", b"veth", b"tun", b"tap", b"br", b"docker", b"cni", b"sit",
    b"all", b"default",
];

/// An archive without members, compressed: 1,024 zeros.
const EMPTY_ARCHIVE: &[u8] = &[
    0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0xff, 0x63, 0x60, 0x18, 0x05, 0xa3, 0x60,
    0x14, 0x8c, 0x54, 0x00, 0x00, 0x2e, 0xaf, 0xb5, 0xef, 0x00, 0x04, 0x00, 0x00,
];
