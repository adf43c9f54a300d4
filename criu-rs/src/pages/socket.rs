//! Sockets that pages go over.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::sendfile::sendfile;
use nix::sys::socket::{MsgFlags, send, setsockopt, sockopt};

/// A connected stream socket.
#[derive(Debug)]
pub enum Socket {
    /// TCP.
    Tcp(TcpStream),
    /// A unix socket.
    Unix(UnixStream),
}

impl Socket {
    pub(super) fn prepare(&mut self, idle: Option<Duration>) -> io::Result<()> {
        if let Self::Tcp(tcp) = self {
            tcp.set_nodelay(true)?;
        }
        self.set_timeout(idle)
    }

    pub(super) fn set_timeout(&mut self, time: Option<Duration>) -> io::Result<()> {
        match self {
            Self::Tcp(tcp) => {
                tcp.set_read_timeout(time)?;
                tcp.set_write_timeout(time)
            }
            Self::Unix(unix) => {
                unix.set_read_timeout(time)?;
                unix.set_write_timeout(time)
            }
        }
    }

    /// Writes what more is to follow at once.
    pub(super) fn write_more(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let flags = MsgFlags::from_bits_retain(libc::MSG_MORE | libc::MSG_NOSIGNAL);
        while !bytes.is_empty() {
            match send(self.as_fd().as_raw_fd(), bytes, flags) {
                Ok(size) => bytes = bytes.get(size..).unwrap_or_default(),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Sends so many bytes of a file, from an offset on, without a copy. `UnexpectedEof` when it is shorter.
    pub(super) fn send_file(&mut self, file: &File, offset: u64, size: u64) -> io::Result<()> {
        let mut at = i64::try_from(offset).map_err(io::Error::other)?;
        let mut left = usize::try_from(size).map_err(io::Error::other)?;
        while left > 0 {
            match sendfile(&*self, file, Some(&mut at), left) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(now) => left = left.saturating_sub(now),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Until the peer ends a TCP connection, or for a while.
    pub(super) fn wait_for_end(&mut self) {
        if matches!(self, Self::Tcp(_)) && self.set_timeout(Some(A_WHILE)).is_ok() {
            let _ = self.read(&mut [0]);
        }
    }

    /// Ends the connection in both directions, for whoever uses it.
    pub(super) fn shutdown(&self) {
        let _ = match self {
            Self::Tcp(tcp) => tcp.shutdown(Shutdown::Both),
            Self::Unix(unix) => unix.shutdown(Shutdown::Both),
        };
    }

    pub(super) fn try_clone(&self) -> io::Result<Self> {
        match self {
            Self::Tcp(tcp) => tcp.try_clone().map(Self::Tcp),
            Self::Unix(unix) => unix.try_clone().map(Self::Unix),
        }
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(tcp) => tcp.read(buffer),
            Self::Unix(unix) => unix.read(buffer),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(tcp) => tcp.write(bytes),
            Self::Unix(unix) => unix.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(tcp) => tcp.as_fd(),
            Self::Unix(unix) => unix.as_fd(),
        }
    }
}

impl fmt::Display for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(tcp) => match tcp.peer_addr() {
                Ok(address) => address.fmt(f),
                Err(_) => f.write_str("a client that has gone"),
            },
            Self::Unix(_) => f.write_str("a unix socket"),
        }
    }
}

/// Long enough for bytes that are on their way.
pub(super) const A_WHILE: Duration = Duration::from_millis(500);

/// Connected sockets with room for so many bytes on their way: more than the limit, where root asks.
pub(super) fn wide_pair(bytes: usize) -> io::Result<(UnixStream, UnixStream)> {
    let (one, other) = UnixStream::pair()?;
    for socket in [&one, &other] {
        if setsockopt(socket, sockopt::SndBufForce, &bytes).is_err() {
            let _ = setsockopt(socket, sockopt::SndBuf, &bytes);
        }
    }
    Ok((one, other))
}
