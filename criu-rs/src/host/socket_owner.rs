//! The owners of TCP sockets on this machine, from the kernel's sock_diag.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;

use nix::sys::socket::{SockProtocol, getsockopt, sockopt};
use nix::sys::stat::fstat;

use super::netlink::{self, Socket, word};

/// The lookup of TCP sockets by their addresses, in one network namespace.
#[derive(Debug)]
pub(crate) struct SocketOwners(Socket);

/// The users that have a number in this process's user namespace.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Users {
    /// The uid that stands for all others, if there can be others.
    overflow: Option<u32>,
}

impl SocketOwners {
    /// A lookup in the network namespace of this thread.
    pub(crate) fn open() -> io::Result<Self> {
        Ok(Self(Socket::open(SockProtocol::NetlinkSockDiag)?))
    }

    /// Returns the uid of the user who made the other end of a connection within this machine, as
    /// the kernel shows it: [`Users`] tells if it is that of one user. A uid that `is_wanted`
    /// refuses may be that of another connection with the same addresses, in another network
    /// namespace.
    ///
    /// # Errors
    /// An error for an end without an owner: it is closed, on another machine or in another network
    /// namespace.
    pub(crate) fn of_peer(
        &self,
        end: impl AsFd,
        here: SocketAddr,
        there: SocketAddr,
        is_wanted: impl Fn(u32) -> bool,
    ) -> io::Result<u32> {
        let peer = self.find(there, here)?;
        // A socket without an inode is owned by nobody, and the kernel shows such a one as root's:
        // it has been closed. A socket that is only connecting is another one than the peer, which
        // has got the peer's port.
        let open = [ESTABLISHED, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT];
        if peer.inode == 0 || !open.contains(&peer.state) {
            return Err(io::Error::new(io::ErrorKind::NotConnected, "the client has gone"));
        }
        if !is_wanted(peer.uid) {
            return Ok(peer.uid);
        }
        self.check_end(end, here, there)?;
        Ok(peer.uid)
    }

    /// Returns the uid of the user who accepted the other end of a connection within this machine,
    /// or `None` if it waits to be accepted.
    ///
    /// # Errors
    /// The errors of [`of_peer`](Self::of_peer).
    pub(crate) fn of_acceptor(
        &self,
        end: impl AsFd,
        here: SocketAddr,
        there: SocketAddr,
    ) -> io::Result<Option<u32>> {
        let peer = self.find(there, here)?;
        let open = [ESTABLISHED, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT];
        let waits = peer.inode == 0 && [ESTABLISHED, SYN_RECV, NEW_SYN_RECV].contains(&peer.state);
        if !waits && (peer.inode == 0 || !open.contains(&peer.state)) {
            return Err(io::Error::new(io::ErrorKind::NotConnected, "the server has gone"));
        }
        self.check_end(end, here, there)?;
        Ok((!waits).then_some(peer.uid))
    }

    /// Checks that the addresses are those of this connection. They are as long as this end has
    /// them, and in this namespace.
    fn check_end(&self, end: impl AsFd, here: SocketAddr, there: SocketAddr) -> io::Result<()> {
        let inode = fstat(end)?.st_ino;
        let own = self.find(here, there)?;
        if own.inode == 0 || u64::from(own.inode) != inode {
            let why = "the connection is of another network namespace, or has ended";
            return Err(io::Error::new(io::ErrorKind::NotConnected, why));
        }
        Ok(())
    }

    /// Checks that the kernel tells of a socket that listens, and that the socket is in this
    /// network namespace.
    ///
    /// # Errors
    /// `NotFound` for a kernel without the lookup, or another namespace.
    pub(crate) fn check(&self, listener: impl AsFd, here: SocketAddr) -> io::Result<()> {
        let nowhere = SocketAddr::new(here.ip(), 0);
        let found = self.find(here, nowhere)?;
        // Several sockets may listen at one address if all of them want that.
        let shares = getsockopt(&listener, sockopt::ReusePort)?;
        if shares || u64::from(found.inode) == fstat(listener)?.st_ino {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::NotFound, "another socket listens at this address"))
    }

    /// Finds the socket between two addresses by the kernel's exact lookup.
    fn find(&self, from: SocketAddr, to: SocketAddr) -> io::Result<Found> {
        self.0.send(&request(from, to))?;
        let mut found = None;
        self.0.hear_one(|_, body| {
            found = entry(body);
            false
        })?;
        // Without a connection the kernel finds a socket that listens at one of the ports.
        let found = found.filter(|found| found.ports == (from.port(), to.port()));
        found.ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Users {
    /// The users of this process's user namespace.
    pub(crate) fn here() -> Self {
        let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        if map.split_whitespace().eq(["0", "0", "4294967295"]) {
            return Self { overflow: None };
        }
        let number = fs::read_to_string("/proc/sys/kernel/overflowuid").unwrap_or_default();
        Self { overflow: Some(number.trim().parse().unwrap_or(65534)) }
    }

    /// Returns a uid that the kernel shows, or `None` if it stands for users without a number.
    pub(crate) fn known(self, uid: u32) -> Option<u32> {
        Some(uid).filter(|uid| Some(*uid) != self.overflow)
    }
}

/// A socket that the kernel has found.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    state: u8,
    /// The ports of both ends.
    ports: (u16, u16),
    uid: u32,
    inode: u32,
}

/// A request for the TCP socket between two addresses.
fn request(from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    // The kernel finds IPv4 connections of IPv6 sockets by their IPv4 addresses.
    let (source, target) = (from.ip().to_canonical(), to.ip().to_canonical());
    let family = if source.is_ipv4() { INET } else { INET6 };
    // Family, protocol, extensions, padding; all states.
    let mut body = vec![family, TCP, 0, 0];
    body.extend(u32::MAX.to_ne_bytes());
    // Ports and addresses in the order of the network; the interface; any cookie.
    body.extend(from.port().to_be_bytes());
    body.extend(to.port().to_be_bytes());
    for address in [source, target] {
        let mut bytes = [0; 16];
        match address {
            IpAddr::V4(v4) => bytes[..4].copy_from_slice(&v4.octets()),
            IpAddr::V6(v6) => bytes = v6.octets(),
        }
        body.extend(bytes);
    }
    body.extend([0; 4]);
    body.extend([0xff; 8]);
    netlink::request(SOCK_DIAG_BY_FAMILY, 0, &body)
}

fn entry(body: &[u8]) -> Option<Found> {
    let port = |at: usize| Some(u16::from_be_bytes(*body.get(at..)?.first_chunk()?));
    Some(Found {
        state: *body.get(1)?,
        ports: (port(4)?, port(6)?),
        uid: word(body.get(64..)?)?,
        inode: word(body.get(68..)?)?,
    })
}

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const INET: u8 = 2;
const INET6: u8 = 10;
const TCP: u8 = 6;
const ESTABLISHED: u8 = 1;
const SYN_RECV: u8 = 3;
const FIN_WAIT1: u8 = 4;
const FIN_WAIT2: u8 = 5;
const CLOSE_WAIT: u8 = 8;
const NEW_SYN_RECV: u8 = 12;

#[cfg(test)]
mod tests {
    use std::net::{Shutdown, TcpListener, TcpStream};

    use super::*;

    /// A connection to an address, as the server and as the client see it.
    fn pair(listener: &TcpListener, to: &str) -> (TcpStream, TcpStream, SocketAddr) {
        let port = listener.local_addr().unwrap().port();
        let client = TcpStream::connect((to, port)).unwrap();
        let (server, address) = listener.accept().unwrap();
        (server, client, address)
    }

    #[test]
    fn the_owner_of_the_other_end_is_found_over_both_families() {
        let owners = SocketOwners::open().unwrap();
        let me = nix::unistd::geteuid().as_raw();
        for (bound, to) in
            [("127.0.0.1:0", "127.0.0.1"), ("[::1]:0", "::1"), ("[::]:0", "127.0.0.1")]
        {
            let listener = TcpListener::bind(bound).unwrap();
            owners.check(&listener, listener.local_addr().unwrap()).unwrap();
            let other = TcpListener::bind(bound).unwrap();
            assert!(owners.check(&other, listener.local_addr().unwrap()).is_err());
            let (server, client, there) = pair(&listener, to);
            let here = server.local_addr().unwrap();
            assert_eq!(owners.of_peer(&server, here, there, |_| true).unwrap(), me, "{bound}");
            client.shutdown(Shutdown::Write).unwrap();
            assert_eq!(owners.of_peer(&server, here, there, |_| true).unwrap(), me, "{bound}");
        }
    }

    #[test]
    fn a_socket_that_is_closed_is_nobody_s_though_the_kernel_says_root() {
        let owners = SocketOwners::open().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (server, client, there) = pair(&listener, "127.0.0.1");
        drop(client);
        let here = server.local_addr().unwrap();
        let found = owners.find(there, here).unwrap();
        // An older kernel has kept the uid of the owner.
        assert_eq!(found.inode, 0, "the trap");
        let error = owners.of_peer(&server, here, there, |_| true).unwrap_err();
        assert_eq!(error.to_string(), "the client has gone");
    }

    #[test]
    fn who_accepts_is_known_after_that_and_whoever_listens_then() {
        let owners = SocketOwners::open().unwrap();
        let me = nix::unistd::geteuid().as_raw();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (here, there) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
        let accepted_by = || owners.of_acceptor(&client, here, there);
        assert_eq!(accepted_by().unwrap(), None);
        let server = listener.accept().unwrap().0;
        drop(listener);
        assert_eq!(accepted_by().unwrap(), Some(me));
        server.shutdown(Shutdown::Write).unwrap();
        assert_eq!(accepted_by().unwrap(), Some(me));
        // Of another end than the one at hand.
        owners.of_acceptor(&server, here, there).unwrap_err();
        drop(server);
        let error = accepted_by().unwrap_err();
        assert_eq!(error.to_string(), "the server has gone");
    }

    #[test]
    fn addresses_without_a_connection_have_no_owner() {
        let owners = SocketOwners::open().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (server, client, there) = pair(&listener, "127.0.0.1");
        let here = server.local_addr().unwrap();
        // Of another end than the one at hand.
        let error = owners.of_peer(&client, here, there, |_| true).unwrap_err().to_string();
        assert!(error.starts_with("the connection is of another"), "{error}");
        // The lookup finds the socket that listens, if there is no connection.
        let nobody = SocketAddr::from(([127, 0, 0, 1], 1));
        assert!(owners.of_peer(&server, here, nobody, |_| true).is_err());
        assert!(owners.of_peer(&server, nobody, here, |_| true).is_err());
    }

    #[test]
    fn a_number_that_stands_for_several_users_is_no_user() {
        let all = Users { overflow: None };
        assert_eq!((all.known(0), all.known(65534)), (Some(0), Some(65534)));
        let some = Users { overflow: Some(65534) };
        assert_eq!((some.known(0), some.known(65534)), (Some(0), None));
    }

    #[test]
    fn truncated_answers_are_none() {
        assert_eq!(entry(&[0; 71]), None);
        let found = entry(&[0; 72]).unwrap();
        assert_eq!((found.uid, found.inode), (0, 0));
    }
}
