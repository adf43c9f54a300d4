//! Checks of internet addresses, ports and interfaces.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};

use criu_images::requirements::{BoundAddress, Interface, Requirement};

use super::Saved;
use crate::diagnosis::Cause;
use crate::preflight::finding::{Finding, Severity};
use crate::preflight::proc;

pub(super) fn look(saved: &Saved<'_>) -> Vec<Finding> {
    // The network namespace of a service is not known.
    if !saved.is_ours() {
        return Vec::new();
    }
    let bound = Bound::all();
    let mut found = Vec::new();
    for requirement in &saved.requirements {
        match requirement {
            Requirement::Address(address) if !address.own_namespace => {
                found.extend(missing(address).or_else(|| in_use(address, &bound)));
            }
            Requirement::Interface(interface) if !interface.own_namespace => {
                found.extend(named(interface));
            }
            _ => {}
        }
    }
    found
}

/// Checks that this host has the address.
fn missing(address: &BoundAddress) -> Option<Finding> {
    let ip = address.local.ip();
    if ip.is_unspecified() || ip.is_multicast() || address.is_free {
        return None;
    }
    let is_link_local = matches!(ip, IpAddr::V6(ip) if ip.segments()[0] & 0xffc0 == 0xfe80);
    if is_link_local {
        return absent(address.interface.as_ref()?);
    }
    // The kernel knows, and takes its settings into account. The port is any.
    let error = UdpSocket::bind((ip, 0)).err()?;
    let protocol = address.protocol.unwrap_or("ip");
    let detail = format!("{protocol} {}", address.local);
    match error.kind() {
        std::io::ErrorKind::AddrNotAvailable => {
            Some(Finding::blocks(Cause::AddressNotHere).detail(detail))
        }
        _ if ip.is_ipv6() => {
            let what = "this host cannot make the tree's IPv6 sockets";
            Some(Finding::new(Severity::Blocks, what).detail(detail))
        }
        _ => None,
    }
}

/// Checks that the port is free.
fn in_use(address: &BoundAddress, bound: &[Bound]) -> Option<Finding> {
    let is_tcp = match address.protocol {
        Some("tcp") => true,
        Some("udp") => false,
        _ => return None,
    };
    let local = address.local;
    // A TCP socket that is neither connected nor listening gets its address back in any case.
    if local.port() == 0 || is_tcp && !address.is_listening && address.remote.is_none() {
        return None;
    }
    let clashes = |other: &&Bound| {
        if other.is_tcp != is_tcp || other.local.port() != local.port() {
            return false;
        }
        match (address.remote, other.remote) {
            (Some(mine), Some(theirs)) if is_tcp => {
                mine == theirs && other.local.ip() == local.ip()
            }
            // Connections of a server stay beside its listening socket.
            (None, Some(_)) | (Some(_), None) if is_tcp => false,
            _ => overlap(local.ip(), other.local.ip(), address.is_v6_only),
        }
    };
    let other = bound.iter().find(clashes)?;
    let protocol = if is_tcp { "tcp" } else { "udp" };
    let detail = match address.remote.filter(|_| is_tcp) {
        Some(remote) => format!("{protocol} {local} to {remote}"),
        None if other.local == local => format!("{protocol} {local}"),
        None => format!("{protocol} {local}, by a socket on {}", other.local),
    };
    let finding = if address.is_shared {
        // Whether the other socket shares the address is not told.
        let what = "an address that a socket of the tree shares is in use";
        Finding::new(Severity::Loses, what)
    } else {
        Finding::blocks(Cause::AddressInUse)
    };
    Some(finding.detail(detail))
}

/// Returns true if two sockets on these addresses would take the same port.
fn overlap(one: IpAddr, other: IpAddr, is_v6_only: bool) -> bool {
    let (one, other) = (one.to_canonical(), other.to_canonical());
    match (one, other) {
        _ if one == other => true,
        (IpAddr::V4(one), IpAddr::V4(other)) => one.is_unspecified() || other.is_unspecified(),
        (IpAddr::V6(one), IpAddr::V6(other)) => one.is_unspecified() || other.is_unspecified(),
        // A socket on all addresses of IPv6 takes those of IPv4 too.
        (IpAddr::V6(one), IpAddr::V4(_)) => one.is_unspecified() && !is_v6_only,
        (IpAddr::V4(_), IpAddr::V6(_)) => false,
    }
}

/// A socket of this host.
struct Bound {
    is_tcp: bool,
    local: SocketAddr,
    remote: Option<SocketAddr>,
}

impl Bound {
    /// The sockets that take a port: all datagram sockets, and TCP sockets that are connected or
    /// listening.
    fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for (name, is_tcp) in [("tcp", true), ("tcp6", true), ("udp", false), ("udp6", false)] {
            let text = proc::text(PathBuf::from("/proc/self/net").join(name)).unwrap_or_default();
            all.extend(text.lines().filter_map(|line| Self::read(line, is_tcp)));
        }
        all
    }

    /// Reads a line of `/proc/net/tcp` and the like.
    fn read(line: &str, is_tcp: bool) -> Option<Self> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (local, remote) = (socket(words.get(1)?)?, socket(words.get(2)?)?);
        let remote = Some(remote).filter(|remote| remote.port() != 0);
        let state = *words.get(3)?;
        // A TCP socket in another state holds its port only until it ends.
        let counts = !is_tcp || matches!(state, LISTEN | ESTABLISHED);
        counts.then_some(Self { is_tcp, local, remote })
    }
}

/// Reads an address of `/proc/net`: words in the order of this machine, and a port.
fn socket(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let words = address.as_bytes().chunks(8).map(|word| {
        let word = std::str::from_utf8(word).ok().filter(|word| word.len() == 8)?;
        let word = u32::from_str_radix(word, 16).ok()?;
        Some(word.to_ne_bytes())
    });
    let bytes: Vec<u8> = words.collect::<Option<Vec<_>>>()?.concat();
    let ip = match <[u8; 4]>::try_from(&bytes[..]) {
        Ok(four) => IpAddr::V4(Ipv4Addr::from(four)),
        Err(_) => IpAddr::from(<[u8; 16]>::try_from(&bytes[..]).ok()?),
    };
    Some(SocketAddr::new(ip, port))
}

/// Checks that a network interface is there, or that the restore can make it.
fn named(interface: &Interface) -> Option<Finding> {
    if !interface.is_made {
        return absent(&interface.name);
    }
    (!Path::new("/dev/net/tun").exists()).then(|| {
        let what = "this machine has no /dev/net/tun, which a task has open";
        let hint = "load the module tun, or make the device";
        Finding::new(Severity::Blocks, what).hint(hint)
    })
}

fn absent(name: &str) -> Option<Finding> {
    nix::net::if_::if_nametoindex(name).is_err().then(|| {
        let what = "a network interface that a socket of the tree is bound to is missing";
        let hint = "make an interface of this name";
        let detail = name.escape_debug().to_string();
        Finding::new(Severity::Blocks, what).detail(detail).hint(hint)
    })
}

const LISTEN: &str = "0A";
const ESTABLISHED: &str = "01";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_proc_are_read() {
        let line = "0: 0100007F:1F90 00000000:0000 0A 00000000:00000000";
        let bound = Bound::read(line, true).unwrap();
        assert_eq!(bound.local, "127.0.0.1:8080".parse().unwrap());
        assert_eq!(bound.remote, None);
        let six = socket("00000000000000000000000001000000:0050").unwrap();
        assert_eq!(six, "[::1]:80".parse().unwrap());
        for bad in ["", "0100007F", "0100007F:xx", "01:1", "0100007F0100007F:1"] {
            assert_eq!(socket(bad), None, "{bad}");
        }
    }

    #[test]
    fn sockets_on_different_addresses_share_a_port() {
        let all =
            |one: &str, other: &str| overlap(one.parse().unwrap(), other.parse().unwrap(), false);
        assert!(!all("127.0.0.1", "10.0.0.1"));
        assert!(all("0.0.0.0", "10.0.0.1"));
        assert!(all("::", "10.0.0.1"));
        assert!(!all("::1", "127.0.0.1"));
        assert!(!overlap("::".parse().unwrap(), "10.0.0.1".parse().unwrap(), true));
    }
}
