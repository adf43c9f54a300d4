//! Images without a frame: netlink messages, tables of firewalls, archives.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Secret, known};
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

/// Replaces addresses, devices, paths and names in the rules of a firewall. Comments, and other
/// texts in quotes, are replaced as a whole.
pub(super) fn text(text: &[u8], secret: &Secret) -> Vec<u8> {
    let mut replaced = Vec::with_capacity(text.len());
    let mut is_free = false;
    for (place, part) in text.split(|byte| *byte == b'"').enumerate() {
        if place > 0 {
            replaced.push(b'"');
        }
        if place % 2 == 1 {
            replaced.extend(device(part, secret));
            is_free = false;
            continue;
        }
        let ends = |byte: u8| byte.is_ascii_whitespace() || b"{},;()[]!*".contains(&byte);
        for run in part.chunk_by(|a, b| !ends(*a) && !ends(*b)) {
            match run {
                [byte] if ends(*byte) => replaced.push(*byte),
                // A text of the user's own may look like an option.
                run if is_free => {
                    replaced.extend(secret.names.word(run));
                    is_free = false;
                }
                run => {
                    replaced.extend(self::term(run, secret));
                    is_free = TEXTS.contains(&run);
                }
            }
        }
    }
    replaced
}

/// Replaces a word of a rule, unless it is a number or a word of the language of rules.
fn term(term: &[u8], secret: &Secret) -> Vec<u8> {
    let text = String::from_utf8_lossy(term);
    let mapped = word(term, secret);
    if mapped != term || text.parse::<IpAddr>().is_ok() || text.starts_with('/') {
        return mapped;
    }
    if let Some((option, value)) = text.split_once('=').filter(|_| text.starts_with("--")) {
        let is_free = TEXTS.contains(&option.as_bytes());
        let value = value.as_bytes();
        let value = if is_free { secret.names.word(value) } else { self::term(value, secret) };
        return [option.as_bytes(), b"=", &value].concat();
    }
    if text.starts_with("--") || text.len() == 2 && text.starts_with('-') {
        return term.to_vec();
    }
    if let Some((address, port)) = text.rsplit_once(':').filter(|(address, _)| is_ip(address)) {
        let address = word(address.as_bytes(), secret);
        return [&*address, b":", &self::term(port.as_bytes(), secret)].concat();
    }
    if let Some((first, last)) = text.split_once('-').filter(|(first, _)| is_ip(first)) {
        let first = word(first.as_bytes(), secret);
        return [&*first, b"-", &self::term(last.as_bytes(), secret)].concat();
    }
    if known::is_device(term) {
        return term.to_vec();
    }
    let letters = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_' || !byte.is_ascii();
    let runs = term.chunk_by(|a, b| letters(a) == letters(b));
    let runs = runs.map(|run| {
        let is_number = match run {
            [b'0', b'x', digits @ ..] => digits.iter().all(u8::is_ascii_hexdigit),
            digits => digits.iter().all(u8::is_ascii_digit),
        };
        if is_number || known::is_of_firewall(run) { run.to_vec() } else { secret.names.word(run) }
    });
    runs.collect::<Vec<_>>().concat()
}

fn is_ip(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok()
}

/// Replaces a word that is an address, with or without a prefix, or a path.
pub(super) fn word(word: &[u8], secret: &Secret) -> Vec<u8> {
    let is_path = word.starts_with(b"/");
    let other = || if is_path { secret.names.path(word) } else { word.to_vec() };
    address(word, secret).unwrap_or_else(other)
}

/// Replaces an address, with or without a prefix, or a hardware address.
pub(super) fn address(word: &[u8], secret: &Secret) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(word).ok()?;
    let (address, rest) = match text.split_once('/') {
        Some((address, rest)) => (address, Some(rest)),
        None => (text, None),
    };
    if let Ok(address) = address.parse::<IpAddr>() {
        let length = rest.and_then(|rest| rest.parse().ok());
        let mapped = masked(secret.addresses.ip(address), length);
        // A network mask is no secret. Anything else behind a slash is no address.
        let is_mask = |rest: &str| rest.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        if rest.is_some_and(|rest| !is_mask(rest)) {
            return None;
        }
        let rest = rest.map(|rest| format!("/{rest}")).unwrap_or_default();
        return Some(format!("{mapped}{rest}").into_bytes());
    }
    let octets: Option<Vec<u8>> = text.split(':').map(hex).collect();
    let octets = octets.filter(|octets| octets.len() == 6)?;
    let mapped = secret.addresses.hardware(&octets).into_iter();
    let octets: Vec<_> = mapped.map(|octet| format!("{octet:02x}")).collect();
    Some(octets.join(":").into_bytes())
}

/// Reads an octet of a hardware address.
fn hex(octet: &str) -> Option<u8> {
    let is_octet = octet.len() == 2 && octet.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_octet.then(|| u8::from_str_radix(octet, 16).ok())?
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
    let name = if known::is_device(stem) { name.to_vec() } else { secret.names.word(name) };
    [&name, end].concat()
}

/// Replaces the addresses and the names of devices in netlink messages of addresses, routes and
/// rules, in their places. Bytes of an unknown meaning become zero.
fn messages(mut bytes: &mut [u8], secret: &Secret) {
    while let Some(size) = number(bytes, 0) {
        if size < HEADER || size > bytes.len() {
            break;
        }
        let end = size.next_multiple_of(4).min(bytes.len());
        let (message, rest) = bytes.split_at_mut(end);
        message_in_place(message, secret);
        bytes = rest;
    }
    bytes.fill(0);
}

fn message_in_place(message: &mut [u8], secret: &Secret) {
    let kind =
        message.get(4..6).and_then(|kind| kind.first_chunk()).map_or(0, |k| u16::from_le_bytes(*k));
    let head = match kind {
        NEW_ADDRESS => 8,
        NEW_ROUTE | NEW_RULE => 12,
        _ => return message.get_mut(HEADER..).unwrap_or_default().fill(0),
    };
    // Destination and source of a route or a rule are networks.
    let length = message.get(HEADER + 1).copied().unwrap_or(0);
    let source_length = message.get(HEADER + 2).copied().unwrap_or(0);
    let prefix = |sort| match (kind, sort) {
        (NEW_ADDRESS, _) => None,
        (_, 1) => Some(u32::from(length)),
        (_, 2) => Some(u32::from(source_length)),
        _ => None,
    };
    let attributes = message.get_mut(HEADER + head..).unwrap_or_default();
    each_attribute(attributes, &mut |sort, content| {
        let part = PARTS.iter().find(|(of, number, _)| *of == kind && *number == sort);
        match part.map_or(Part::Unknown, |(.., part)| *part) {
            Part::Number => {}
            Part::Address => address_in_place(content, prefix(sort), secret),
            Part::Name => {
                let name = device(content, secret);
                content.iter_mut().zip(name).for_each(|(to, from)| *to = from);
            }
            Part::Hops => hops(content, secret),
            Part::Unknown => content.fill(0),
        }
    });
}

/// Calls a function with the sort and the content of each attribute.
fn each_attribute(mut attributes: &mut [u8], each: &mut dyn FnMut(u16, &mut [u8])) {
    while let Some([a, b, c, d]) = attributes.first_chunk() {
        let (size, sort) = (u16::from_le_bytes([*a, *b]), u16::from_le_bytes([*c, *d]));
        let size = usize::from(size);
        if size < 4 || size > attributes.len() {
            break;
        }
        let end = size.next_multiple_of(4).min(attributes.len());
        let (attribute, rest) = attributes.split_at_mut(end);
        each(sort, attribute.get_mut(4..size).unwrap_or_default());
        attribute.get_mut(size..).unwrap_or_default().fill(0);
        attributes = rest;
    }
    attributes.fill(0);
}

/// Replaces the gateways of a route with several.
fn hops(mut hops: &mut [u8], secret: &Secret) {
    while let Some([a, b, ..]) = hops.first_chunk::<8>() {
        let size = usize::from(u16::from_le_bytes([*a, *b]));
        if size < 8 || size > hops.len() {
            break;
        }
        let end = size.next_multiple_of(4).min(hops.len());
        let (hop, rest) = hops.split_at_mut(end);
        each_attribute(hop.get_mut(8..size).unwrap_or_default(), &mut |sort, content| match sort {
            5 => address_in_place(content, None, secret),
            _ => content.fill(0),
        });
        hops = rest;
    }
    hops.fill(0);
}

/// Meaning of an attribute.
#[derive(Clone, Copy)]
enum Part {
    Number,
    Address,
    /// Name of a device, or a label that begins with it.
    Name,
    /// Gateways of a route.
    Hops,
    Unknown,
}

fn address_in_place(content: &mut [u8], prefix: Option<u32>, secret: &Secret) {
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

/// Options of rules that a text of the user's own follows.
const TEXTS: &[&[u8]] = &[
    b"--comment",
    b"--hashlimit-name",
    b"--hex-string",
    b"--label",
    b"--log-prefix",
    b"--name",
    b"--nflog-prefix",
    b"--string",
    b"--ulog-prefix",
];

/// Bytes of a netlink header.
const HEADER: usize = 16;
const NEW_ADDRESS: u16 = 20;
const NEW_ROUTE: u16 = 24;
const NEW_RULE: u16 = 32;

/// Message, attribute, meaning.
const PARTS: &[(u16, u16, Part)] = &[
    // Address, local, label, broadcast, anycast, cache information, flags, metric, protocol.
    (NEW_ADDRESS, 1, Part::Address),
    (NEW_ADDRESS, 2, Part::Address),
    (NEW_ADDRESS, 3, Part::Name),
    (NEW_ADDRESS, 4, Part::Address),
    (NEW_ADDRESS, 5, Part::Address),
    (NEW_ADDRESS, 6, Part::Number),
    (NEW_ADDRESS, 8, Part::Number),
    (NEW_ADDRESS, 9, Part::Number),
    (NEW_ADDRESS, 11, Part::Number),
    // Destination, source, devices, gateway, metric, preferred source, metrics, gateways, flow,
    // cache information, table, mark, preference.
    (NEW_ROUTE, 1, Part::Address),
    (NEW_ROUTE, 2, Part::Address),
    (NEW_ROUTE, 3, Part::Number),
    (NEW_ROUTE, 4, Part::Number),
    (NEW_ROUTE, 5, Part::Address),
    (NEW_ROUTE, 6, Part::Number),
    (NEW_ROUTE, 7, Part::Address),
    (NEW_ROUTE, 8, Part::Number),
    (NEW_ROUTE, 9, Part::Hops),
    (NEW_ROUTE, 11, Part::Number),
    (NEW_ROUTE, 12, Part::Number),
    (NEW_ROUTE, 15, Part::Number),
    (NEW_ROUTE, 16, Part::Number),
    (NEW_ROUTE, 20, Part::Number),
    // Destination, source, device, goto, priority, mark, flow, suppressions, table, mask, device,
    // users, protocol.
    (NEW_RULE, 1, Part::Address),
    (NEW_RULE, 2, Part::Address),
    (NEW_RULE, 3, Part::Name),
    (NEW_RULE, 4, Part::Number),
    (NEW_RULE, 6, Part::Number),
    (NEW_RULE, 10, Part::Number),
    (NEW_RULE, 11, Part::Number),
    (NEW_RULE, 13, Part::Number),
    (NEW_RULE, 14, Part::Number),
    (NEW_RULE, 15, Part::Number),
    (NEW_RULE, 16, Part::Number),
    (NEW_RULE, 17, Part::Name),
    (NEW_RULE, 20, Part::Number),
    (NEW_RULE, 21, Part::Number),
];

/// An archive without members, compressed: 1,024 zeros.
const EMPTY_ARCHIVE: &[u8] = &[
    0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0xff, 0x63, 0x60, 0x18, 0x05, 0xa3, 0x60,
    0x14, 0x8c, 0x54, 0x00, 0x00, 0x2e, 0xaf, 0xb5, 0xef, 0x00, 0x04, 0x00, 0x00,
];

#[cfg(test)]
mod tests {
    use super::*;

    fn replaced(rules: &str) -> String {
        String::from_utf8(text(rules.as_bytes(), &Secret::default())).unwrap()
    }

    #[test]
    fn rules_of_firewalls_keep_their_language() {
        let iptables = "*nat\n:PREROUTING ACCEPT [7:420]\n:ACMECORP-CHAIN - [0:0]\n\
            -A PREROUTING -s 10.1.2.0/24 -i acmecorp0 -p tcp -m tcp --dport 80 -m comment \
            --comment acmecorp -j DNAT --to-destination 10.1.2.3:8080\n\
            -A INPUT -m iprange --src-range 10.1.2.4-10.1.2.9 -m set --match-set acmecorp src \
            -m comment --comment \"for acmecorp\" -j ACMECORP-CHAIN\nCOMMIT\n";
        let new = replaced(iptables);
        for secret in ["acmecorp", "ACMECORP", "10.1.2"] {
            assert!(!new.contains(secret), "{secret}: {new}");
        }
        let kept = [
            ":PREROUTING ACCEPT [7:420]",
            "-p tcp -m tcp --dport 80",
            "-j DNAT",
            ":8080",
            "COMMIT",
        ];
        for kept in kept {
            assert!(new.contains(kept), "{kept}: {new}");
        }
        assert_eq!(new.lines().count(), iptables.lines().count());
        let long = "-A INPUT --comment=acmecorp --string=acmecorp --to-destination=10.1.2.3:80 \
            --log-prefix=acmecorp -m comment --comment --acmecorp --log-prefix input --dport 80";
        let new = replaced(long);
        for secret in ["acmecorp", "10.1.2"] {
            assert!(!new.contains(secret), "{secret}: {new}");
        }
        for kept in [
            "--comment=",
            "--to-destination=10.",
            ":80",
            "--log-prefix=",
            " --comment --",
            "--dport 80",
        ] {
            assert!(new.contains(kept), "{kept}: {new}");
        }
        let nft = "table inet acmecorp {\n\tset acmecorpset {\n\t\ttype ipv4_addr\n\t\telements = { \
            10.1.2.3, 10.1.2.4 }\n\t}\n\tchain input {\n\t\ttype filter hook input priority 0; \
            policy accept;\n\t\tiifname \"acmecorp0\" ip saddr @acmecorpset ether saddr \
            02:11:22:33:44:55 counter packets 3 bytes 99 drop comment \"acmecorp\"\n\t}\n}\n";
        let new = replaced(nft);
        for secret in ["acmecorp", "10.1.2", "02:11:22:33:44:55"] {
            assert!(!new.contains(secret), "{secret}: {new}");
        }
        for kept in ["table inet ", "type filter hook input priority 0; policy accept;", "drop"] {
            assert!(new.contains(kept), "{kept}: {new}");
        }
    }

    #[test]
    fn netlink_messages_keep_numbers_alone() {
        let attribute = |sort: u16, content: &[u8]| -> Vec<u8> {
            let size = u16::try_from(4 + content.len()).unwrap();
            let mut bytes = [&size.to_le_bytes()[..], &sort.to_le_bytes(), content].concat();
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            bytes
        };
        let hop = [&16u16.to_le_bytes()[..], &[0; 6], &attribute(5, &[10, 1, 2, 3])].concat();
        let attributes = [
            attribute(1, &[10, 1, 2, 0]),
            attribute(4, &[7, 0, 0, 0]),
            attribute(9, &hop),
            attribute(99, b"acme"),
        ];
        let head = [2, 24, 0, 0, 254, 4, 0, 1, 0, 0, 0, 0];
        let body = [&head[..], &attributes.concat()].concat();
        let size = u32::try_from(HEADER + body.len()).unwrap();
        let mut message = size.to_le_bytes().to_vec();
        message.extend(NEW_ROUTE.to_le_bytes());
        message.resize(HEADER, 0);
        message.extend(&body);
        let old = message.clone();
        // Behind the message there is no other one.
        message.extend(b"acme");
        let secret = Secret::default();
        messages(&mut message, &secret);
        assert_eq!(message.len(), old.len() + 4);
        let holds = |bytes: &[u8]| message.windows(bytes.len()).any(|part| part == bytes);
        assert!(!holds(b"acme") && !holds(&[10, 1, 2]));
        assert!(holds(&attribute(4, &[7, 0, 0, 0])) && holds(&head));
        let gateway = secret.addresses.ip(IpAddr::V4(Ipv4Addr::new(10, 1, 2, 3)));
        let IpAddr::V4(gateway) = gateway else { panic!() };
        assert!(holds(&gateway.octets()));
        // Any cut ends in a result.
        for len in 0..old.len() {
            messages(&mut old[..len].to_vec(), &secret);
        }
    }
}
