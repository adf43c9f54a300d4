//! Netlink messages of addresses, routes and rules.

use std::net::IpAddr;

use super::Secret;
use super::addresses::masked;
use super::names::device;

/// Replaces the addresses and the names of devices in netlink messages of addresses, routes and
/// rules, in their places. Bytes of an unknown meaning become zero.
pub(super) fn messages(mut bytes: &mut [u8], secret: &Secret) {
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
        let part = ATTRIBUTES.iter().find(|(of, number, _)| *of == kind && *number == sort);
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

/// Bytes of a netlink header.
const HEADER: usize = 16;
const NEW_ADDRESS: u16 = 20;
const NEW_ROUTE: u16 = 24;
const NEW_RULE: u16 = 32;

/// Message, attribute, meaning.
const ATTRIBUTES: &[(u16, u16, Part)] = &[
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

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

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
