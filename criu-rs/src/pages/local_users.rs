//! The check of which users of this machine connect, for servers of other protocols.

use std::io;
use std::net::{TcpListener, TcpStream};

use nix::unistd::geteuid;

use super::error::PagesError;
use crate::host::socket_owner::{SocketOwners, Users};

/// The check of which user of this machine is at the other end of a TCP connection: this process's
/// user and root pass, as they do at a page server on a loopback address.
///
/// Servers of other protocols use this value. A [`Server`](super::Server) has the check built in.
#[derive(Debug)]
pub struct LocalUsers {
    own: u32,
    users: Users,
    owners: SocketOwners,
}

impl LocalUsers {
    /// Makes the check for a listening socket in the network namespace of this thread.
    ///
    /// # Errors
    /// If the kernel does not tell the owners of TCP sockets, or the socket is of another network
    /// namespace.
    pub fn of(listener: &TcpListener) -> io::Result<Self> {
        let owners = SocketOwners::open()?;
        owners.check(listener, listener.local_addr()?)?;
        Ok(Self { own: geteuid().as_raw(), users: Users::here(), owners })
    }

    /// Returns the user who has accepted a connection of this thread to a loopback address, or
    /// `None` if the connection waits to be accepted: any user may listen at a port that is free.
    ///
    /// # Errors
    /// The errors of netlink, and an error for a connection that has ended or that leads to another
    /// machine or network namespace.
    pub fn accepted_by(connected: &TcpStream) -> io::Result<Option<u32>> {
        let (here, there) = (connected.local_addr()?, connected.peer_addr()?);
        let uid = SocketOwners::open()?.of_acceptor(connected, here, there)?;
        let known = |uid| Users::here().known(uid).ok_or_else(|| io::Error::other(NO_NUMBER));
        uid.map(known).transpose()
    }

    /// Checks who is at the other end of an accepted connection.
    ///
    /// # Errors
    /// [`PagesError::Stranger`] for another user, and [`PagesError::Unknown`] if the user cannot be
    /// found out: the other end is on another machine or in another network namespace, or has gone.
    pub fn check(&self, accepted: &TcpStream) -> Result<(), PagesError> {
        let user = self.user(accepted).map_err(PagesError::Unknown)?;
        if user == 0 || user == self.own {
            return Ok(());
        }
        Err(PagesError::Stranger { user, own: self.own })
    }

    fn user(&self, accepted: &TcpStream) -> io::Result<u32> {
        let (here, there) = (accepted.local_addr()?, accepted.peer_addr()?);
        let is_served = |uid| uid == 0 || uid == self.own;
        let uid = self.owners.of_peer(accepted, here, there, is_served)?;
        self.users.known(uid).ok_or_else(|| io::Error::other(NO_NUMBER))
    }
}

const NO_NUMBER: &str = "the user has no number in this user namespace";
