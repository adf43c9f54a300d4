//! The relay between a dump on this machine and a page server elsewhere.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::deadline::{Deadline, poll_timeout};
use super::drive::{PageReceiver, drive};
use super::error::PagesError;
use super::session::PageSession;
use super::socket::{Plain, Socket, wide_pair};
#[cfg(feature = "tls")]
use crate::value::Tls;

/// A relay between a dump and a page server elsewhere, ours or CRIU's.
///
/// The dump writes to a unix socket, and the relay sends that on over TCP. This saves the 200 ms
/// for which CRIU leaves its last message corked in a TCP socket. The dump ends when the page
/// server has confirmed that it has everything.
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
#[must_use = "finish tells whether the server has everything"]
pub struct Relay {
    socket: OwnedFd,
    /// The far end, to end its connection.
    far: Plain,
    ended: Receiver<()>,
    deadline: Arc<Mutex<Option<Deadline>>>,
    thread: JoinHandle<Result<u64, PagesError>>,
}

impl Relay {
    /// Connects to a page server.
    ///
    /// # Errors
    /// [`PagesError::Socket`] if connecting fails.
    pub fn connect(address: impl ToSocketAddrs) -> Result<Self, PagesError> {
        let far = TcpStream::connect(address).map_err(PagesError::socket("connect"))?;
        Self::begin(far.into()).map_err(PagesError::socket("set up the relay"))
    }

    /// Connects to a page server and agrees on TLS, within 10 seconds. The server's certificate has
    /// to be for this host, unless [any name](crate::Tls::any_name) is accepted. The dump itself
    /// needs no TLS.
    ///
    /// # Errors
    /// [`PagesError`] if connecting fails, a file cannot be used or either end refuses the other's
    /// certificate. A server that refuses may say so only in [`finish`](Self::finish).
    #[cfg(feature = "tls")]
    pub fn connect_tls(host: &str, port: u16, tls: &Tls) -> Result<Self, PagesError> {
        let tls = super::tls::client(tls, host)?;
        let far = TcpStream::connect((host, port)).map_err(PagesError::socket("connect"))?;
        let mut far = Socket::from(far);
        super::tls::encrypt(&mut far, tls)?;
        Self::begin(far).map_err(PagesError::socket("set up the relay"))
    }

    fn begin(mut far: Socket) -> io::Result<Self> {
        far.prepare(None)?;
        let (socket, near) = wide_pair(BUFFER)?;
        let (kept, (end, ended)) = (far.plain()?, mpsc::channel());
        let deadline = Arc::new(Mutex::new(None));
        let shared = Arc::clone(&deadline);
        let thread = thread::Builder::new().name("relay".into()).spawn(move || {
            let sent = carry(Socket::from(near), &mut far, &shared);
            // Each end sees that the other has ended, whatever the reason.
            far.shutdown();
            drop(end);
            sent
        })?;
        Ok(Self { socket: socket.into(), far: kept, ended, deadline, thread })
    }

    /// Bounds the exchange, from this call to the server's last answer. The deadline has to be set
    /// before the dump begins. It takes effect with the dump's first byte; a deadline of the dump
    /// bounds the time before. Without a deadline a relay waits for the server as long as the
    /// connection lasts.
    ///
    /// At the deadline the relay ends both connections: the dump fails, and
    /// [`finish`](Self::finish) returns [`PagesError::Deadline`]. The time to connect is not
    /// included.
    pub fn deadline(self, limit: Duration) -> Self {
        let deadline = Deadline::after(limit, Instant::now());
        *self.deadline.lock().unwrap_or_else(PoisonError::into_inner) = Some(deadline);
        self
    }

    /// Ends the connection after the dump. Returns the number of bytes sent.
    ///
    /// A dump that succeeded has its last answer, so that nothing is on its way. After any other
    /// dump the server has 5 seconds to read the rest: then its connection is ended.
    ///
    /// # Errors
    /// [`PagesError`] if either connection fails, or the deadline has passed.
    pub fn finish(self) -> Result<u64, PagesError> {
        drop(self.socket);
        if self.ended.recv_timeout(REST) == Err(RecvTimeoutError::Timeout) {
            self.far.shutdown();
        }
        let lost = |_| Err(failed(io::Error::other("the relay's thread panicked")));
        self.thread.join().unwrap_or_else(lost)
    }
}

/// The end of the socket for criu.
impl AsFd for Relay {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Carries bytes to the far end, and answers back, until one end has ended. Returns the number of
/// bytes sent.
fn carry(
    near: Socket,
    far: &mut Socket,
    deadline: &Mutex<Option<Deadline>>,
) -> Result<u64, PagesError> {
    let mut carrier =
        Carrier { near, far, deadline: None, buffer: vec![0; AT_ONCE], window: 0..0, sent: 0 };
    // The dump speaks first, and by then the relay has its deadline: nothing is read before.
    carrier.wait(PollFlags::from_bits_retain(libc::POLLRDHUP))?;
    carrier.set_deadline(*deadline.lock().unwrap_or_else(PoisonError::into_inner));
    // Bytes are copied: moving pages, one by one, into a TCP socket takes longer.
    if carrier.far.is_plain() {
        while carrier.receive_some()? {
            let unread = carrier.buffer.get(carrier.window.clone()).unwrap_or_default();
            carrier.far.write_all(unread).map_err(failed)?;
            carrier.window = 0..0;
        }
        return Ok(carrier.sent);
    }
    // After the end the session still looks at what comes: nothing may.
    let mut session = PageSession::new(None);
    while drive(&mut session, &mut carrier)? && carrier.receive_some()? {}
    Ok(carrier.sent)
}

/// The carrier of a dump's bytes to the far end.
///
/// With TLS, CRIU's server takes records as they come. A record in which pages end and a header
/// begins, or that is longer than what CRIU's pipe takes, stops it for ever. So headers and the
/// pages of each run get records of their own.
struct Carrier<'c> {
    near: Socket,
    far: &'c mut Socket,
    deadline: Option<Deadline>,
    buffer: Vec<u8>,
    /// The part of the buffer that has been received and not been sent.
    window: Range<usize>,
    /// The number of bytes received from the dump.
    sent: u64,
}

impl Carrier<'_> {
    fn set_deadline(&mut self, deadline: Option<Deadline>) {
        self.near.set_deadline(deadline);
        self.far.set_deadline(deadline);
        self.deadline = deadline;
    }

    /// Waits for events of the far end, or until the near end can be read. Returns `true` for each
    /// end that is ready.
    fn wait(&self, far: PollFlags) -> Result<[bool; 2], PagesError> {
        loop {
            let left = self.deadline.map(|deadline| deadline.left(Instant::now())).transpose();
            let left = left.map_err(failed)?.map_or(PollTimeout::NONE, poll_timeout);
            let mut fds = [
                PollFd::new(self.far.as_fd(), far),
                PollFd::new(self.near.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut fds, left) {
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) => return Ok(fds.map(|fd| fd.any().unwrap_or(false))),
                Err(error) => return Err(failed(error.into())),
            }
        }
    }

    /// Receives bytes from the near end, and carries answers back while it waits. Returns `false`
    /// at the end of either connection.
    fn receive_some(&mut self) -> Result<bool, PagesError> {
        self.far.flush().map_err(failed)?;
        let mut answer = [0; 256];
        loop {
            let [answered, asked] = self.wait(PollFlags::POLLIN)?;
            if answered {
                match self.far.read(&mut answer).map_err(failed)? {
                    0 => return Ok(false),
                    size => {
                        let answer = answer.get(..size).unwrap_or_default();
                        self.near.write_all(answer).map_err(failed)?;
                    }
                }
            }
            if asked {
                self.buffer.copy_within(self.window.clone(), 0);
                self.window = 0..self.window.len();
                let room = self.buffer.get_mut(self.window.end..).unwrap_or_default();
                let size = self.near.read(room).map_err(failed)?;
                if size == 0 {
                    self.far.part();
                    return Ok(false);
                }
                self.window.end += size;
                self.sent = self.sent.saturating_add(size as u64);
                return Ok(true);
            }
        }
    }
}

impl PageReceiver for Carrier<'_> {
    /// Returns only whole records of a run that has not been received to its end.
    fn unread(&self, session: &PageSession) -> &[u8] {
        let unread = self.buffer.get(self.window.clone()).unwrap_or_default();
        if (unread.len() as u64) < session.payload() {
            return unread.get(..unread.len() - unread.len() % RECORD).unwrap_or_default();
        }
        unread
    }

    fn take(&mut self, bytes: usize) -> Result<(), PagesError> {
        let end = self.window.start + bytes;
        let taken = self.buffer.get(self.window.start..end).unwrap_or_default();
        self.far.write_more(taken).map_err(failed)?;
        self.window.start = end;
        Ok(())
    }

    fn receive(&mut self, _: &mut PageSession, _: usize) -> Result<bool, PagesError> {
        self.receive_some()
    }

    /// Does nothing: the far end answers.
    fn answer(&mut self, _: &[u8]) -> Result<(), PagesError> {
        Ok(())
    }

    /// Does nothing: the far end sends pages.
    fn send(&mut self, _: &PageSession, _: u32, _: u64, _: u64, _: u64) -> Result<(), PagesError> {
        Ok(())
    }
}

fn failed(source: io::Error) -> PagesError {
    PagesError::socket("relay")(source)
}

/// The bytes that a socket's buffer holds.
const BUFFER: usize = 4 << 20;
/// The time that the server has for what a dump has left behind.
const REST: Duration = Duration::from_secs(5);
/// The bytes received at once.
const AT_ONCE: usize = 1 << 20;
/// The most bytes in a TLS record.
const RECORD: usize = 16 << 10;
