//! The sockets that pages go over, with or without TLS.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{SpliceFFlags, splice};
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::sendfile::sendfile;
use nix::sys::socket::{MsgFlags, send, setsockopt, sockopt};

use super::deadline::{Deadline, poll_timeout};

/// A connected stream socket: TCP or unix.
///
/// ```
/// use std::os::unix::net::UnixStream;
///
/// use criu_rs::pages::{Client, Layout, Socket};
///
/// let (ours, theirs) = UnixStream::pair()?;
/// let client = Client::new(Socket::from(ours), Layout::Wide);
/// # drop((client, theirs));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Socket {
    plain: Plain,
    /// The encryption of the socket, if there is any.
    cipher: Option<Box<dyn Cipher>>,
    /// Received bytes that are read first.
    unread: Vec<u8>,
}

/// A socket without a cipher.
#[derive(Debug)]
pub(super) struct Plain {
    stream: Stream,
    timeout: Option<Duration>,
    deadline: Option<Deadline>,
    /// Tells that the stream does not block. With a deadline, [`call`](Self::call) does the
    /// waiting.
    nonblocking: bool,
    /// Tells that calls wait. Without, and without a deadline, they fail with `WouldBlock`.
    waits: bool,
}

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// The encryption between this end and a socket.
pub(super) trait Cipher: fmt::Debug + Send {
    /// Reads some bytes. Returns 0 at the end.
    fn read(&mut self, socket: &mut Plain, buffer: &mut [u8]) -> io::Result<usize>;
    /// Takes some bytes and returns their number. They are written at once unless `more` follows.
    fn write(&mut self, socket: &mut Plain, bytes: &[u8], more: bool) -> io::Result<usize>;
    /// Tells the peer that nothing follows.
    fn finish(&mut self, socket: &mut Plain) -> io::Result<()>;
}

impl From<TcpStream> for Socket {
    fn from(tcp: TcpStream) -> Self {
        Self { plain: Plain::new(Stream::Tcp(tcp)), cipher: None, unread: Vec::new() }
    }
}

impl From<UnixStream> for Socket {
    fn from(unix: UnixStream) -> Self {
        Self { plain: Plain::new(Stream::Unix(unix)), cipher: None, unread: Vec::new() }
    }
}

impl Socket {
    /// Sets the socket up for a session: no delay, and a limit for silence.
    pub(super) fn prepare(&mut self, idle: Option<Duration>) -> io::Result<()> {
        if let Stream::Tcp(tcp) = &self.plain.stream {
            tcp.set_nodelay(true)?;
        }
        self.set_timeout(idle)
    }

    /// Returns `true` if bytes are not encrypted, so that the kernel can move them.
    pub(super) fn is_plain(&self) -> bool {
        self.cipher.is_none()
    }

    /// Returns `true` for a unix socket, whose other end is on this machine.
    pub(crate) fn is_unix(&self) -> bool {
        matches!(self.plain.stream, Stream::Unix(_))
    }

    #[cfg(feature = "tls")]
    pub(super) fn encrypt(
        &mut self,
        begin: impl FnOnce(&mut Plain) -> io::Result<Box<dyn Cipher>>,
    ) -> io::Result<()> {
        self.cipher = Some(begin(&mut self.plain)?);
        Ok(())
    }

    #[cfg(feature = "tls")]
    pub(super) fn plain_mut(&mut self) -> &mut Plain {
        &mut self.plain
    }

    /// Makes calls fail with `WouldBlock` instead of waiting, until there is a deadline.
    pub(super) fn never_wait(&mut self) -> io::Result<()> {
        self.plain.waits = false;
        self.plain.stream.set_nonblocking(true)?;
        self.plain.nonblocking = true;
        Ok(())
    }

    /// Gives bytes back that have been read, to be read first.
    pub(crate) fn put_back(&mut self, mut bytes: Vec<u8>) {
        bytes.append(&mut self.unread);
        self.unread = bytes;
    }

    /// Returns another socket of the same connection, for a thread that writes while this one is
    /// read. `None` if the connection is encrypted: one thread at a time can use it.
    pub(crate) fn writer(&self) -> io::Result<Option<Self>> {
        let plain = if self.is_plain() { Some(self.plain()?) } else { None };
        Ok(plain.map(|plain| Self { plain, cipher: None, unread: Vec::new() }))
    }

    /// Bounds the wait of each call. A deadline may end it earlier.
    pub(crate) fn set_timeout(&mut self, time: Option<Duration>) -> io::Result<()> {
        self.plain.timeout = time;
        match &self.plain.stream {
            Stream::Tcp(tcp) => {
                tcp.set_read_timeout(time)?;
                tcp.set_write_timeout(time)
            }
            Stream::Unix(unix) => {
                unix.set_read_timeout(time)?;
                unix.set_write_timeout(time)
            }
        }
    }

    /// Bounds all calls together. Calls after the deadline, and one that waits at that time, fail
    /// with [`DeadlinePassed`](super::deadline::DeadlinePassed).
    pub(super) fn set_deadline(&mut self, deadline: Option<Deadline>) {
        self.plain.waits |= deadline.is_some();
        self.plain.deadline = deadline;
    }

    /// Writes bytes to which more will be added at once (`MSG_MORE`).
    pub(super) fn write_more(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let flags = MsgFlags::from_bits_retain(libc::MSG_MORE | libc::MSG_NOSIGNAL);
        while !bytes.is_empty() {
            let written = match &mut self.cipher {
                Some(cipher) => cipher.write(&mut self.plain, bytes, true),
                None => self.plain.call(PollFlags::POLLOUT, |stream| {
                    Ok(send(stream.as_fd().as_raw_fd(), bytes, flags)?)
                }),
            };
            match written {
                Ok(size) => bytes = bytes.get(size..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Moves at most so many bytes into a pipe without a copy. The socket has to be plain, and the
    /// pipe empty. Returns 0 at the end.
    pub(super) fn splice_into(&mut self, pipe: &OwnedFd, most: usize) -> io::Result<usize> {
        let flags = SpliceFFlags::SPLICE_F_MOVE | SpliceFFlags::SPLICE_F_NONBLOCK;
        loop {
            let moved = self.plain.call(PollFlags::POLLIN, |stream| {
                Ok(splice(stream.as_fd(), None, pipe, None, most, flags)?)
            });
            match moved {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                moved => return moved,
            }
        }
    }

    /// Sends so many bytes of a file, from an offset on; without a copy if the socket is plain.
    /// Returns `UnexpectedEof` for a shorter file.
    pub(super) fn send_file(&mut self, file: &File, offset: u64, size: u64) -> io::Result<()> {
        if !self.is_plain() {
            return self.copy_file(file, offset, size);
        }
        let mut at = i64::try_from(offset).map_err(io::Error::other)?;
        let mut left = usize::try_from(size).map_err(io::Error::other)?;
        while left > 0 {
            let sent = self.plain.call(PollFlags::POLLOUT, |stream| {
                Ok(sendfile(stream.as_fd(), file, Some(&mut at), left)?)
            });
            match sent {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(now) => left = left.saturating_sub(now),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn copy_file(&mut self, file: &File, mut offset: u64, size: u64) -> io::Result<()> {
        let mut left = usize::try_from(size).map_err(io::Error::other)?;
        let mut buffer = vec![0; left.min(COPIED)];
        while left > 0 {
            let now = left.min(buffer.len());
            let piece = buffer.get_mut(..now).unwrap_or_default();
            file.read_exact_at(piece, offset)?;
            self.write_all(piece)?;
            left -= now;
            offset = offset.saturating_add(now as u64);
        }
        Ok(())
    }

    /// Tells an encrypted peer that nothing follows. The peer may be gone.
    pub(super) fn finish(&mut self) {
        if let Some(cipher) = &mut self.cipher {
            let _ = cipher.finish(&mut self.plain);
        }
    }

    /// Ends a client's part of the connection. With TLS, both ends tell that nothing follows, and
    /// the client waits for the server's message: CRIU's server fails if the connection ends with
    /// that on its way.
    pub(crate) fn part(&mut self) {
        if !self.is_plain() {
            self.finish();
            self.wait_for_end();
        }
    }

    /// Waits until the peer ends a TCP connection, for [`A_WHILE`] at most, whatever the peer sends
    /// meanwhile. The socket can only be closed then.
    pub(super) fn wait_for_end(&mut self) {
        if matches!(self.plain.stream, Stream::Tcp(_)) {
            let end = Deadline::after(A_WHILE, Instant::now());
            self.set_deadline(Some(self.plain.deadline.map_or(end, |now| now.sooner(end))));
            let _ = self.read(&mut [0]);
        }
    }

    /// Ends the connection in both directions, for everybody who uses the socket.
    pub(crate) fn shutdown(&self) {
        self.plain.shutdown();
    }

    /// Returns a copy of the socket that can end the connection from elsewhere.
    pub(super) fn plain(&self) -> io::Result<Plain> {
        let stream = match &self.plain.stream {
            Stream::Tcp(tcp) => Stream::Tcp(tcp.try_clone()?),
            Stream::Unix(unix) => Stream::Unix(unix.try_clone()?),
        };
        Ok(Plain::new(stream))
    }
}

impl Plain {
    fn new(stream: Stream) -> Self {
        Self { stream, timeout: None, deadline: None, nonblocking: false, waits: true }
    }

    /// Makes a system call. With a deadline, the call does not block and is repeated when the
    /// socket is ready, until the deadline or the timeout.
    fn call<T>(
        &mut self,
        ready: PollFlags,
        mut call: impl FnMut(&mut Stream) -> io::Result<T>,
    ) -> io::Result<T> {
        let nonblocking = self.deadline.is_some() || !self.waits;
        if self.nonblocking != nonblocking {
            self.nonblocking = nonblocking;
            self.stream.set_nonblocking(nonblocking)?;
        }
        let Some(deadline) = self.deadline else {
            return call(&mut self.stream);
        };
        loop {
            let left = deadline.left(Instant::now())?;
            match call(&mut self.stream) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.wait(ready, left)?
                }
                result => return result,
            }
        }
    }

    /// Waits until a call may succeed, or `left` has passed.
    fn wait(&self, ready: PollFlags, left: Duration) -> io::Result<()> {
        let time = self.timeout.map_or(left, |timeout| timeout.min(left));
        let mut fds = [PollFd::new(self.as_fd(), ready)];
        match poll(&mut fds, poll_timeout(time)) {
            Ok(0) if time < left => Err(io::ErrorKind::WouldBlock.into()),
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Ends the connection in both directions, for everybody who uses the socket.
    pub(super) fn shutdown(&self) {
        let _ = match &self.stream {
            Stream::Tcp(tcp) => tcp.shutdown(Shutdown::Both),
            Stream::Unix(unix) => unix.shutdown(Shutdown::Both),
        };
    }
}

impl Stream {
    fn set_nonblocking(&self, on: bool) -> io::Result<()> {
        match self {
            Self::Tcp(tcp) => tcp.set_nonblocking(on),
            Self::Unix(unix) => unix.set_nonblocking(on),
        }
    }
}

impl Read for Plain {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.call(PollFlags::POLLIN, |stream| match stream {
            Stream::Tcp(tcp) => tcp.read(buffer),
            Stream::Unix(unix) => unix.read(buffer),
        })
    }
}

impl Write for Plain {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.call(PollFlags::POLLOUT, |stream| match stream {
            Stream::Tcp(tcp) => tcp.write(bytes),
            Stream::Unix(unix) => unix.write(bytes),
        })
    }

    fn write_vectored(&mut self, bytes: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.call(PollFlags::POLLOUT, |stream| match stream {
            Stream::Tcp(tcp) => tcp.write_vectored(bytes),
            Stream::Unix(unix) => unix.write_vectored(bytes),
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(tcp) => tcp.as_fd(),
            Self::Unix(unix) => unix.as_fd(),
        }
    }
}

impl AsFd for Plain {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.unread.is_empty() {
            let size = self.unread.as_slice().read(buffer)?;
            self.unread.drain(..size);
            return Ok(size);
        }
        match &mut self.cipher {
            Some(cipher) => cipher.read(&mut self.plain, buffer),
            None => self.plain.read(buffer),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.cipher {
            Some(cipher) => cipher.write(&mut self.plain, bytes, false),
            None => self.plain.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.cipher {
            Some(cipher) => cipher.write(&mut self.plain, &[], false).map(|_| ()),
            None => Ok(()),
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.plain.as_fd()
    }
}

impl fmt::Display for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.plain.stream {
            Stream::Tcp(tcp) => match tcp.peer_addr() {
                Ok(address) => address.fmt(f),
                Err(_) => f.write_str("a client that is gone"),
            },
            Stream::Unix(_) => f.write_str("a unix socket"),
        }
    }
}

/// The time after which bytes that were on their way have come.
pub(super) const A_WHILE: Duration = Duration::from_millis(500);
/// The bytes of a file that are in memory on their way to an encrypted socket.
const COPIED: usize = 256 << 10;

/// Returns connected sockets whose buffers hold so many bytes. For root that may be more than the
/// system's limit.
pub(super) fn wide_pair(bytes: usize) -> io::Result<(UnixStream, UnixStream)> {
    let (one, other) = UnixStream::pair()?;
    for socket in [&one, &other] {
        if setsockopt(socket, sockopt::SndBufForce, &bytes).is_err() {
            let _ = setsockopt(socket, sockopt::SndBuf, &bytes);
        }
    }
    Ok((one, other))
}
