//! A relay: the pages of a dump over a unix socket of ours, and from there to a page server elsewhere.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::error::PagesError;
use super::proto::Layout;
use super::session::{PageSession, PageStep};
use super::socket::{Socket, wide_pair};

/// A way to a page server elsewhere, ours or CRIU's, that spares a dump the 200 ms for which CRIU leaves its
/// last word corked in a TCP socket. The dump ends when the far end has confirmed that it has everything.
///
/// ```no_run
/// use criu_rs::pages::Relay;
/// use criu_rs::{Criu, Dump, Pid};
///
/// let pid: Pid = "4711".parse()?;
/// let relay = Relay::connect("198.51.100.7:27000")?;
/// Dump::new(pid, "/ckpt").page_server_socket(&relay).run(&Criu::new())?;
/// println!("{} bytes", relay.finish()?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Relay {
    socket: OwnedFd,
    thread: JoinHandle<io::Result<u64>>,
}

impl Relay {
    /// Connects to the page server.
    ///
    /// # Errors
    /// Those of connecting.
    pub fn connect(address: impl ToSocketAddrs) -> Result<Self, PagesError> {
        let far = TcpStream::connect(address).map_err(PagesError::socket("connect"))?;
        Self::begin(far.into()).map_err(PagesError::socket("set up the relay"))
    }

    /// Connects to a page server that speaks TLS, whose certificate is for this host, unless
    /// [any name](crate::Tls::any_name) will do. The dump itself knows nothing of it.
    ///
    /// # Errors
    /// Those of connecting, of files, and of what either end thinks of the other's certificate; a server may
    /// say that only later.
    #[cfg(feature = "tls")]
    pub fn connect_tls(host: &str, port: u16, tls: &crate::value::Tls) -> Result<Self, PagesError> {
        let tls = super::tls::client(tls, host)?;
        let far = TcpStream::connect((host, port)).map_err(PagesError::socket("connect"))?;
        let mut far = Socket::from(far);
        super::tls::encrypt(&mut far, tls)?;
        Self::begin(far).map_err(PagesError::socket("set up the relay"))
    }

    fn begin(mut far: Socket) -> io::Result<Self> {
        far.prepare(None)?;
        let (socket, near) = wide_pair(BUFFER)?;
        let thread = thread::Builder::new().name("relay".into()).spawn(move || {
            let sent = carry(&near, &mut far);
            // Each end sees that the other has ended, however.
            far.shutdown();
            sent
        })?;
        Ok(Self { socket: socket.into(), thread })
    }

    /// The dump is done: ends the connection. Returns how many bytes went over it.
    ///
    /// # Errors
    /// Those of either socket.
    pub fn finish(self) -> Result<u64, PagesError> {
        drop(self.socket);
        let lost = |_| Err(io::Error::other("the relay's thread has ended"));
        self.thread.join().unwrap_or_else(lost).map_err(PagesError::socket("relay"))
    }
}

/// The end for criu.
impl AsFd for Relay {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Carries everything there and all answers back. What goes there is copied: pages that are moved, page by page, take
/// longer through a TCP socket.
fn carry(mut near: &UnixStream, far: &mut Socket) -> io::Result<u64> {
    let mut there =
        There { session: PageSession::new(None), buffer: vec![0; AT_ONCE], window: 0..0 };
    let (mut answer, mut sent) = ([0; 256], 0u64);
    loop {
        let mut fds = [far.as_fd(), near.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(error) => return Err(error.into()),
        }
        let [answered, asked] = fds.map(|fd| fd.any().unwrap_or(false));
        if answered {
            match far.read(&mut answer)? {
                0 => return Ok(sent),
                size => near.write_all(answer.get(..size).unwrap_or_default())?,
            }
        }
        if asked {
            match there.carry(near, far)? {
                0 => {
                    far.part();
                    return Ok(sent);
                }
                size => sent = sent.saturating_add(size as u64),
            }
        }
    }
}

/// What is on its way. With TLS, CRIU's server takes records as they come: one in
/// which pages end and a header begins, or that is longer than what a pipe of its takes, stops it for ever. So headers
/// and the pages of each run get records of their own.
struct There {
    session: PageSession,
    buffer: Vec<u8>,
    window: Range<usize>,
}

impl There {
    /// Takes what has come, and sends what of it can go. Returns how much has come; 0 at the end.
    fn carry(&mut self, mut near: &UnixStream, far: &mut Socket) -> io::Result<usize> {
        self.buffer.copy_within(self.window.clone(), 0);
        self.window = 0..self.window.len();
        let size = near.read(self.buffer.get_mut(self.window.end..).unwrap_or_default())?;
        self.window.end += size;
        if far.is_plain() {
            far.write_all(self.buffer.get(self.window.clone()).unwrap_or_default())?;
            self.window = 0..0;
            return Ok(size);
        }
        while let taken @ 1.. = self.next()? {
            let end = self.window.start + taken;
            far.write_more(self.buffer.get(self.window.start..end).unwrap_or_default())?;
            self.window.start = end;
        }
        far.flush()?;
        Ok(size)
    }

    /// How many bytes go next, together; 0 when there have to be more.
    fn next(&mut self) -> io::Result<usize> {
        loop {
            let unread = self.buffer.get(self.window.clone()).unwrap_or_default();
            let payload = usize::try_from(self.session.payload()).unwrap_or(usize::MAX);
            if payload > 0 {
                let whole = unread.len() - unread.len() % RECORD;
                let taken = if unread.len() >= payload { payload } else { whole };
                self.session.passed(taken as u64);
                return Ok(taken);
            }
            match self.session.next(unread).map_err(io::Error::other)? {
                (_, PageStep::More(_) | PageStep::Ended) => return Ok(0),
                (_, PageStep::MoreOrAssume) => self.session.assume(Layout::Narrow),
                // Said of the header that is still there.
                (0, _) => {}
                (taken, _) => return Ok(taken),
            }
        }
    }
}

/// Bytes that may be on their way.
const BUFFER: usize = 4 << 20;
/// Bytes received at once.
const AT_ONCE: usize = 1 << 20;
/// The most bytes in a record of TLS.
const RECORD: usize = 16 << 10;
