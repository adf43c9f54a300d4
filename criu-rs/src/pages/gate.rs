//! The check of who connects to a page server.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr};

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::geteuid;

use super::error::PagesError;
use super::listener::{Ends, Listener};
use super::socket::Socket;
use crate::host::socket_owner::{SocketOwners, Users};

/// The end of a connection that counts for the limits of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Who {
    /// The server's own user or root.
    Own,
    /// Another user of this machine.
    User(u32),
    /// A machine, or a network of 64 bits with IPv6.
    Machine(IpAddr),
    /// A user of this machine who has no number.
    Somebody,
}

/// The check of who connects.
#[derive(Debug)]
pub(super) struct Gate {
    /// Tells that users are not looked at: everybody may connect, or certificates tell who may.
    open: bool,
    own: u32,
    users: Users,
    owners: Option<SocketOwners>,
}

impl Gate {
    /// A check for a listening socket, of TCP in the network namespace of this thread or of another
    /// family. An open one lets everybody through.
    ///
    /// # Errors
    /// The kernel does not tell the owners of TCP sockets, and they have to be known.
    pub(super) fn new(open: bool, listener: &Listener) -> io::Result<Self> {
        let lookup = |address| {
            let owners = SocketOwners::open()?;
            if !open {
                owners.check(listener, address)?;
            }
            Ok(owners)
        };
        let owners: Option<io::Result<SocketOwners>> = listener.address().map(lookup);
        let owners = match owners {
            Some(Err(error)) if !open => {
                let why = format!("cannot find out which user connects: {error}");
                return Err(io::Error::new(error.kind(), why));
            }
            owners => owners.and_then(Result::ok),
        };
        Ok(Self { open, own: geteuid().as_raw(), users: Users::here(), owners })
    }

    /// Returns who is at the other end of a connection.
    ///
    /// # Errors
    /// [`PagesError::Stranger`] and [`PagesError::Unknown`] for somebody who may not connect.
    pub(super) fn check(&self, socket: &Socket, ends: Option<Ends>) -> Result<Who, PagesError> {
        let machine = ends.map(|(_, there)| there.ip().to_canonical());
        if let (true, Some(machine)) = (self.open, machine.filter(|ip| !ip.is_loopback())) {
            return Ok(Who::Machine(network(machine)));
        }
        match self.user(socket, ends) {
            Ok(user) if user == self.own || user == 0 => Ok(Who::Own),
            Ok(user) if self.open => Ok(Who::User(user)),
            Ok(user) => Err(PagesError::Stranger { user, own: self.own }),
            Err(_) if self.open => Ok(machine.map_or(Who::Somebody, Who::Machine)),
            Err(error) => Err(PagesError::Unknown(error)),
        }
    }

    /// Finds the user at the other end of a connection within this machine.
    fn user(&self, socket: &Socket, ends: Option<Ends>) -> io::Result<u32> {
        let uid = match (ends, &self.owners) {
            (Some((here, there)), Some(owners)) => {
                let is_served = |uid| self.open || uid == self.own || uid == 0;
                owners.of_peer(socket, here, there, is_served)?
            }
            (Some(_), None) => return Err(io::ErrorKind::Unsupported.into()),
            (None, _) => getsockopt(socket, PeerCredentials)?.uid(),
        };
        let why = "the user has no number in this user namespace";
        self.users.known(uid).ok_or_else(|| io::Error::other(why))
    }
}

/// Returns an address, or the network of an IPv6 address: one machine has many of these.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own => f.write_str("the server's user or root"),
            Self::User(uid) => write!(f, "user {uid}"),
            Self::Machine(address) => address.fmt(f),
            Self::Somebody => f.write_str("a user without a number"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_machine_is_one_peer_whatever_its_ipv6_addresses() {
        let one = |text: &str| network(text.parse().unwrap());
        assert_eq!(one("2001:db8::1"), one("2001:db8::ffff:1:2"));
        assert_ne!(one("2001:db8::1"), one("2001:db8:0:1::1"));
        assert_ne!(one("192.0.2.1"), one("192.0.2.2"));
    }
}
