//! The socket on which a page server listens.

use std::fs::{self, Permissions};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::Path;

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket,
};
use nix::sys::stat::{Mode, fchmod};

use super::socket::Socket;

/// A socket that listens and does not wait.
#[derive(Debug)]
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// The addresses of both ends of a connection: this one's and the client's.
pub(super) type Ends = (SocketAddr, SocketAddr);

impl Listener {
    pub(super) fn tcp(tcp: TcpListener) -> io::Result<Self> {
        tcp.set_nonblocking(true)?;
        // More connections wait in the kernel than in a socket of the standard library.
        listen(&tcp, Backlog::new(BACKLOG)?)?;
        Ok(Self::Tcp(tcp))
    }

    /// Listens at a path. The file is its owner's alone from the moment when it appears, unless it
    /// is for everybody.
    pub(super) fn unix(path: &Path, everybody: bool) -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let own = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
        // The kernel makes the file with the mode of the socket, less the umask.
        fchmod(&own, Mode::S_IRUSR | Mode::S_IWUSR)?;
        bind(own.as_raw_fd(), &UnixAddr::new(path)?)?;
        if everybody {
            open_to_all(path)?;
        }
        listen(&own, Backlog::new(BACKLOG)?)?;
        Ok(Self::Unix(UnixListener::from(own)))
    }

    /// Returns the address, of TCP.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(tcp) => tcp.local_addr().ok(),
            Self::Unix(_) => None,
        }
    }

    /// Returns the next connection, with its addresses if it has some.
    pub(super) fn accept(&self) -> io::Result<(Socket, Option<Ends>)> {
        match self {
            Self::Tcp(tcp) => {
                let (socket, there) = tcp.accept()?;
                let ends = (socket.local_addr()?, there);
                Ok((socket.into(), Some(ends)))
            }
            Self::Unix(unix) => {
                let (socket, _) = unix.accept()?;
                Ok((socket.into(), None))
            }
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(tcp) => tcp.as_fd(),
            Self::Unix(unix) => unix.as_fd(),
        }
    }
}

/// Lets everybody connect to a socket's file. A link at its place is not followed.
fn open_to_all(path: &Path) -> io::Result<()> {
    let flags = libc::O_PATH | libc::O_NOFOLLOW;
    let file = fs::OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.file_type().is_socket() {
        return Err(io::Error::other("another file has taken the place of the socket"));
    }
    let file = OwnedFd::from(file);
    fs::set_permissions(crate::sys::proc_link(file.as_fd()), Permissions::from_mode(0o666))
}

/// The connections that the kernel keeps until they are accepted, up to `net.core.somaxconn`.
const BACKLOG: i32 = 1024;
