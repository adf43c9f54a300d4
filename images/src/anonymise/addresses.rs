//! Other addresses in place of those of a network.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Secret;

/// Maps addresses by a secret. Two addresses with a common prefix get addresses with a common
/// prefix of the same length, so that networks, gateways and hosts still fit.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    secret: RandomState,
}

impl Addresses {
    /// Returns the other address. Addresses that mean the same on every machine stay: loopback,
    /// any, broadcast, multicast.
    pub(super) fn ip(&self, address: IpAddr) -> IpAddr {
        match address {
            IpAddr::V4(address) => IpAddr::V4(self.v4(address)),
            IpAddr::V6(address) => IpAddr::V6(self.v6(address)),
        }
    }

    fn v4(&self, address: Ipv4Addr) -> Ipv4Addr {
        let is_common = address.is_loopback()
            || address.is_unspecified()
            || address.is_broadcast()
            || address.is_multicast();
        if is_common {
            return address;
        }
        // The first octet stays, so that no address becomes one of the common ones.
        let mapped = self.map(u128::from(address.to_bits()), 32, 8);
        Ipv4Addr::from_bits(u32::try_from(mapped).unwrap_or(0))
    }

    fn v6(&self, address: Ipv6Addr) -> Ipv6Addr {
        if let Some(inner) = address.to_ipv4_mapped() {
            return self.v4(inner).to_ipv6_mapped();
        }
        if address.is_loopback() || address.is_unspecified() || address.is_multicast() {
            return address;
        }
        let kept = if (address.segments()[0] & 0xffc0) == 0xfe80 { 64 } else { 16 };
        Ipv6Addr::from_bits(self.map(address.to_bits(), 128, kept))
    }

    /// Maps an address of `width` bits. The first `kept` bits stay. Each other bit is turned or
    /// not, as the bits before it and the secret say. The last of the next 8 bits is turned if the
    /// others were not, so that an address and a network with as many bits never stay.
    fn map(&self, bits: u128, width: u32, kept: u32) -> u128 {
        let mut mapped = bits;
        for place in kept..width {
            let before = bits >> (width - place);
            let is_left = place == kept + 7 && mapped == bits;
            if is_left || self.secret.hash_one((width, place, before)) & 1 == 1 {
                mapped ^= 1 << (width - place - 1);
            }
        }
        mapped
    }

    /// Returns another hardware address of the same length, with the bit of local ones. Zeros stay.
    pub(super) fn hardware(&self, address: &[u8]) -> Vec<u8> {
        let mut mapped = address.to_vec();
        if address.iter().any(|byte| *byte != 0) && address.iter().any(|byte| *byte != 0xff) {
            let hash = self.secret.hash_one(address).to_le_bytes();
            mapped.iter_mut().zip(hash.iter().cycle()).for_each(|(to, from)| *to = *from);
            if let Some(first) = mapped.first_mut() {
                *first = *first & 0xfc | 2;
            }
        }
        mapped
    }
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
pub(super) fn masked(address: IpAddr, prefix: Option<u32>) -> IpAddr {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_stay_common() {
        let addresses = Addresses::default();
        let v4 = |a, b, c, d| addresses.v4(Ipv4Addr::new(a, b, c, d)).to_bits();
        let (host, gateway, other) = (v4(192, 168, 7, 20), v4(192, 168, 7, 1), v4(192, 168, 9, 1));
        assert_eq!(host >> 8, gateway >> 8);
        assert_ne!(host >> 8, other >> 8);
        assert_eq!(host >> 16, other >> 16);
        for kept in ["127.0.0.1", "0.0.0.0", "255.255.255.255", "224.0.0.251", "::1", "::"] {
            let kept: IpAddr = kept.parse().unwrap();
            assert_eq!(addresses.ip(kept), kept);
        }
        let mut seen = std::collections::HashSet::new();
        for last in 0..=255u32 {
            for first in [1, 10, 126, 128, 172, 192, 223] {
                let address = Ipv4Addr::from_bits(first << 24 | last);
                let mapped = addresses.v4(address);
                assert!(!mapped.is_loopback() && !mapped.is_multicast(), "{address} {mapped}");
                assert!(seen.insert(mapped), "{address} and another share {mapped}");
            }
        }
    }

    #[test]
    fn no_network_stays() {
        for _ in 0..4000 {
            let addresses = Addresses::default();
            let v4 = addresses.v4(Ipv4Addr::new(10, 10, 0, 0)).octets();
            assert!(v4[0] == 10 && v4[1] != 10, "{v4:?}");
            let v6 = addresses.v6("2001:db8::".parse().unwrap()).octets();
            assert!(v6[..2] == [0x20, 0x01] && v6[2] != 0x0d, "{v6:x?}");
        }
    }

    #[test]
    fn ipv6_addresses_keep_what_they_are() {
        let addresses = Addresses::default();
        let local: Ipv6Addr = "fe80::1234:5678:9abc:def0".parse().unwrap();
        let mapped = addresses.v6(local);
        assert_eq!(mapped.segments()[..4], local.segments()[..4]);
        assert_ne!(mapped, local);
        let inside: Ipv6Addr = "::ffff:10.1.2.3".parse().unwrap();
        assert!(addresses.v6(inside).to_ipv4_mapped().is_some());
    }
}
