//! The settings that page servers of both kinds share: who reaches a server, and within what
//! limits.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;

use super::error::PagesError;
use super::gate::Gate;
use super::limits::ServerLimits;
use super::listener::Listener;
use super::listening::{Listening, Role};
use super::metrics::Counters;
use super::proto::Layout;
use super::receive::Received;
use super::socket::Socket;
#[cfg(feature = "tls")]
use super::tls::Acceptor;

/// The settings of a server that do not depend on what the server does with a session.
#[derive(Clone, Debug, Default)]
pub(super) struct Front {
    pub(super) layout: Option<Layout>,
    pub(super) limits: ServerLimits,
    /// Allows addresses that other machines reach.
    pub(super) exposed: bool,
    /// Serves every user of this machine.
    pub(super) other_users: bool,
    #[cfg(feature = "tls")]
    pub(super) tls: Option<Acceptor>,
}

impl Front {
    /// Returns `true` if clients have to show a certificate.
    pub(super) fn asks_for_certificates(&self) -> bool {
        #[cfg(feature = "tls")]
        return self.tls.is_some();
        #[cfg(not(feature = "tls"))]
        false
    }

    pub(super) fn listen(self, address: SocketAddr, role: impl Role) -> io::Result<Listening> {
        self.check(address)?;
        self.listen_on(TcpListener::bind(address)?, role)
    }

    pub(super) fn listen_unix(self, path: &Path, role: impl Role) -> io::Result<Listening> {
        let listener = Listener::unix(path, self.other_users)?;
        Listening::new(listener, 0, self, Arc::new(role))
    }

    pub(super) fn listen_on(self, tcp: TcpListener, role: impl Role) -> io::Result<Listening> {
        let address = tcp.local_addr()?;
        self.check(address)?;
        Listening::new(Listener::tcp(tcp)?, address.port(), self, Arc::new(role))
    }

    /// Refuses an address that other machines reach, unless they are meant to reach it.
    fn check(&self, address: SocketAddr) -> io::Result<()> {
        if address.ip().is_loopback() || self.exposed || self.asks_for_certificates() {
            return Ok(());
        }
        let why = "other machines can reach this address, and clients need no certificate";
        Err(io::Error::new(io::ErrorKind::PermissionDenied, why))
    }

    /// Returns the check of who connects. Users of this machine are looked at unless certificates
    /// tell who may connect, or everybody may.
    pub(super) fn gate(&self, listener: &Listener) -> io::Result<Gate> {
        let address = listener.address();
        let reached = address.is_some_and(|address| !address.ip().is_loopback());
        let open = self.other_users || self.asks_for_certificates() || (self.exposed && reached);
        Gate::new(open, listener)
    }

    /// Agrees on TLS with a client, if clients have to show a certificate.
    #[cfg_attr(not(feature = "tls"), allow(clippy::unused_self, reason = "it is for TLS"))]
    pub(super) fn agree(&self, _socket: &mut Socket) -> Result<(), PagesError> {
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            tls.accept(_socket, self.limits.first)?;
        }
        Ok(())
    }

    /// Runs one session over a connected socket.
    pub(super) fn session(
        &self,
        mut socket: Socket,
        role: &impl Role,
    ) -> Result<Received, PagesError> {
        self.agree(&mut socket)?;
        let (directory, mut received) = (role.directory(0), Received::default());
        let counters = Counters::default();
        let result = role.session(&mut socket, directory.as_deref(), &counters, &mut received);
        // The peer sees the end now, not when the last copy of the socket is closed.
        socket.shutdown();
        result.map(|()| received)
    }
}

/// Defines the methods that a server with a field `front` has in common with others.
macro_rules! front_methods {
    () => {
        /// Expects one layout of all clients, instead of recognising it.
        pub fn layout(mut self, layout: Layout) -> Self {
            self.front.layout = Some(layout);
            self
        }

        /// Allows an address that other machines can reach. Everybody who can connect to such an
        /// address is served, users of this machine as well. On a loopback address this setting
        /// changes nothing.
        pub fn exposed(mut self, on: bool) -> Self {
            self.front.exposed = on;
            self
        }

        /// Serves every user of this machine.
        ///
        /// Without it only the user of this process and root may connect to a loopback address or
        /// a unix socket. A server that speaks TLS looks at certificates and not at users.
        pub fn other_users(mut self, on: bool) -> Self {
            self.front.other_users = on;
            self
        }

        /// Speaks TLS. A client's certificate has to be for `name`, unless
        /// [any name](crate::Tls::any_name) is accepted.
        ///
        /// CRIU uses the address of the server as the name at both ends. A name that every
        /// client's certificate has works as well.
        ///
        /// # Errors
        /// [`PagesError`] if a file cannot be used.
        #[cfg(feature = "tls")]
        pub fn tls(mut self, tls: &Tls, name: &str) -> Result<Self, PagesError> {
            self.front.tls = Some(Acceptor::new(tls, name)?);
            Ok(self)
        }

        /// Sets the limits for clients.
        pub fn limits(mut self, limits: ServerLimits) -> Self {
            self.front.limits = limits;
            self
        }

        /// Listens on a TCP address. With port 0 the kernel chooses the port.
        ///
        /// # Errors
        /// The errors of bind(2), and those of a kernel that does not tell which user connects.
        /// `PermissionDenied` if the address is not a loopback one and the server neither speaks
        /// TLS nor is [exposed](Self::exposed).
        pub fn listen(self, address: SocketAddr) -> io::Result<Listening> {
            self.front.clone().listen(address, self)
        }

        /// Listens on a unix socket at a path. The socket has mode 0600 from the beginning, and
        /// 0666 in a server for [other users](Self::other_users).
        ///
        /// # Errors
        /// The errors of bind(2).
        pub fn listen_unix(self, path: impl AsRef<Path>) -> io::Result<Listening> {
            self.front.clone().listen_unix(path.as_ref(), self)
        }

        /// Uses a socket that already listens.
        ///
        /// # Errors
        /// The errors of [`listen`](Self::listen), and those of setting up the socket.
        pub fn listen_on(self, listener: TcpListener) -> io::Result<Listening> {
            self.front.clone().listen_on(listener, self)
        }

        /// Runs one session over a connected socket. The caller knows who is at the other end.
        ///
        /// # Errors
        /// [`PagesError`], as in a session's report.
        pub fn session(&self, socket: Socket) -> Result<Received, PagesError> {
            self.front.session(socket, self)
        }
    };
}

pub(super) use front_methods;
