//! Addresses of page servers, for connections to them.

use std::fmt;
use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, connect, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use std::os::fd::AsRawFd;

use super::error::PagesError;
use super::socket::Socket;
#[cfg(feature = "tls")]
use crate::value::Tls;

/// The address of a page server.
#[derive(Clone, Debug)]
pub(crate) enum Dial {
    /// A host and a port: `198.51.100.7:27000`.
    Tcp(String),
    /// The path of a unix socket.
    Unix(PathBuf),
    /// A host and a port, with TLS. The server's certificate is for the host.
    #[cfg(feature = "tls")]
    Tls(String, u16, Tls),
}

impl Dial {
    /// Connects, and waits no longer than a time for each address of the host.
    ///
    /// # Errors
    /// [`PagesError`] if connecting fails, or the two ends do not agree on TLS.
    pub(crate) fn connect(&self, within: Duration) -> Result<Socket, PagesError> {
        let failed = PagesError::socket("connect");
        match self {
            Self::Tcp(address) => tcp(address.as_str(), within).map(Socket::from).map_err(failed),
            Self::Unix(path) => unix(path, within).map(Socket::from).map_err(failed),
            #[cfg(feature = "tls")]
            Self::Tls(host, port, tls) => {
                // CRIU's server accepts one connection: all that can fail without one comes first.
                let tls = super::tls::client(tls, host)?;
                let tcp = tcp((host.as_str(), *port), within).map_err(failed)?;
                let mut socket = Socket::from(tcp);
                super::tls::encrypt(&mut socket, tls)?;
                Ok(socket)
            }
        }
    }
}

impl fmt::Display for Dial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => f.write_str(address),
            Self::Unix(path) => path.display().fmt(f),
            #[cfg(feature = "tls")]
            Self::Tls(host, port, _) => write!(f, "{host}:{port}"),
        }
    }
}

fn tcp(address: impl ToSocketAddrs, within: Duration) -> io::Result<TcpStream> {
    let none = || io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    let mut result = Err(none());
    for address in address.to_socket_addrs()? {
        result = TcpStream::connect_timeout(&address, within);
        if result.is_ok() {
            break;
        }
    }
    let tcp = result?;
    tcp.set_nodelay(true)?;
    Ok(tcp)
}

fn unix(path: &PathBuf, within: Duration) -> io::Result<UnixStream> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    // A server whose queue is full lets clients wait.
    let time = TimeVal::milliseconds(i64::try_from(within.as_millis()).unwrap_or(i64::MAX));
    setsockopt(&socket, sockopt::SendTimeout, &time)?;
    connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(UnixStream::from(socket))
}
