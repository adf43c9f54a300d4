//! A relay: the pages of a dump over a unix socket of ours, and from there to a page server elsewhere.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SpliceFFlags, fcntl, splice};

use super::error::PagesError;
#[cfg(feature = "tls")]
use super::proto::Layout;
#[cfg(feature = "tls")]
use super::session::{Session, Step};
#[cfg(feature = "tls")]
use super::socket::Socket;
use super::socket::wide_pair;

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
    there: JoinHandle<io::Result<u64>>,
    back: Option<JoinHandle<io::Result<()>>>,
}

impl Relay {
    /// Connects to the page server.
    ///
    /// # Errors
    /// Those of connecting.
    pub fn connect(address: impl ToSocketAddrs) -> Result<Self, PagesError> {
        let far = TcpStream::connect(address).map_err(PagesError::socket("connect"))?;
        Self::begin(far).map_err(PagesError::socket("set up the relay"))
    }

    /// Connects to a page server that speaks TLS, whose certificate is for this host, unless
    /// [any name](crate::Tls::any_name) will do. The dump itself knows nothing of it.
    ///
    /// # Errors
    /// Those of connecting, of files, and of what either end thinks of the other's certificate; a server may
    /// say that only later.
    #[cfg(feature = "tls")]
    pub fn connect_tls(host: &str, port: u16, tls: &crate::Tls) -> Result<Self, PagesError> {
        let tls = super::tls::client(tls, host)?;
        let far = TcpStream::connect((host, port)).map_err(PagesError::socket("connect"))?;
        let mut far = Socket::from(far);
        super::tls::encrypt(&mut far, tls)?;
        let set_up = PagesError::socket("set up the relay");
        far.prepare(None).map_err(&set_up)?;
        let (socket, near) = wide_pair(BUFFER).map_err(&set_up)?;
        let there = thread::Builder::new().name("relay".into());
        let there = there.spawn(move || {
            let sent = carry(&near, &mut far);
            far.shutdown();
            sent
        });
        Ok(Self { socket: socket.into(), there: there.map_err(set_up)?, back: None })
    }

    fn begin(far: TcpStream) -> io::Result<Self> {
        far.set_nodelay(true)?;
        let (socket, near) = wide_pair(BUFFER)?;
        let (from, to) = (near.try_clone()?, far.try_clone()?);
        let there = thread::Builder::new().name("relay".into()).spawn(move || {
            let sent = forward(&from, &to);
            // Each end sees that the other has ended, however.
            let _ = to.shutdown(Shutdown::Write);
            if sent.is_err() {
                let _ = from.shutdown(Shutdown::Both);
            }
            sent
        })?;
        let back = thread::Builder::new().name("relay back".into()).spawn(move || {
            let answered = answer(far, &near);
            let _ = near.shutdown(Shutdown::Both);
            answered
        })?;
        Ok(Self { socket: socket.into(), there, back: Some(back) })
    }

    /// The dump is done: ends the connection. Returns how many bytes went over it.
    ///
    /// # Errors
    /// Those of either socket.
    pub fn finish(self) -> Result<u64, PagesError> {
        drop(self.socket);
        let sent = ended(self.there);
        let back = self.back.map_or(Ok(()), ended);
        back.and(sent).map_err(PagesError::socket("relay"))
    }
}

fn ended<T>(thread: JoinHandle<io::Result<T>>) -> io::Result<T> {
    let lost = |_| Err(io::Error::other("the relay's thread has ended"));
    thread.join().unwrap_or_else(lost)
}

/// The end for criu.
impl AsFd for Relay {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Moves everything through a pipe, which copies nothing.
fn forward(from: &UnixStream, to: &TcpStream) -> io::Result<u64> {
    let (out, into) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    // A smaller one does as well.
    let _ = fcntl(&into, FcntlArg::F_SETPIPE_SZ(1 << 20));
    let flags = SpliceFFlags::SPLICE_F_MOVE;
    let mut sent = 0u64;
    loop {
        let mut moved = match splice(from.as_fd(), None, &into, None, AT_ONCE, flags) {
            Ok(0) => return Ok(sent),
            Ok(moved) => moved,
            Err(Errno::EINTR) => continue,
            Err(error) => return Err(error.into()),
        };
        sent = sent.saturating_add(moved as u64);
        while moved > 0 {
            match splice(&out, None, to.as_fd(), None, moved, flags) {
                Ok(now) => moved = moved.saturating_sub(now),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Carries everything there and all answers back, where only one thread can have the connection.
#[cfg(feature = "tls")]
fn carry(mut near: &UnixStream, far: &mut Socket) -> io::Result<u64> {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    let mut there = There { session: Session::new(None), buffer: vec![0; AT_ONCE], window: 0..0 };
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

/// What is on its way to a far end that speaks TLS. CRIU's server takes the records of TLS as they come: one in
/// which pages end and a header begins, or that is longer than what a pipe of its takes, stops it for ever. So headers
/// and the pages of each run get records of their own.
#[cfg(feature = "tls")]
struct There {
    session: Session,
    buffer: Vec<u8>,
    window: std::ops::Range<usize>,
}

#[cfg(feature = "tls")]
impl There {
    /// Takes what has come, and sends what of it can go. Returns how much has come; 0 at the end.
    fn carry(&mut self, mut near: &UnixStream, far: &mut Socket) -> io::Result<usize> {
        self.buffer.copy_within(self.window.clone(), 0);
        self.window = 0..self.window.len();
        let size = near.read(self.buffer.get_mut(self.window.end..).unwrap_or_default())?;
        self.window.end += size;
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
                (_, Step::More(_) | Step::Ended) => return Ok(0),
                (_, Step::MoreOrAssume) => self.session.assume(Layout::Narrow),
                // Said of the header that is still there.
                (0, _) => {}
                (taken, _) => return Ok(taken),
            }
        }
    }
}

fn answer(mut from: TcpStream, mut to: &UnixStream) -> io::Result<()> {
    let mut bytes = [0; 256];
    loop {
        match from.read(&mut bytes) {
            Ok(0) => return Ok(()),
            Ok(size) => to.write_all(bytes.get(..size).unwrap_or_default())?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Bytes that may be on their way.
const BUFFER: usize = 4 << 20;
/// Bytes moved by one system call.
const AT_ONCE: usize = 1 << 20;
/// The most bytes in a record of TLS.
#[cfg(feature = "tls")]
const RECORD: usize = 16 << 10;
