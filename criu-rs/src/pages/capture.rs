//! Captures: dumps whose pages go into memory, and to disk or a page server when the tasks run on.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::client::{Client, Sent};
use super::deadline::Deadline;
use super::drive::{PageReceiver, drive};
use super::error::PagesError;
use super::limits::ServerLimits;
use super::metrics::Counters;
use super::pool::Pool;
use super::receive::{Received, keep_connection, read};
use super::session::PageSession;
use super::socket::{Socket, wide_pair};
use super::store::{Part, Store};
use crate::hooks::{Action, At, Hooks};
use crate::sys::proc_link;

/// A capture that is being written, in the background.
#[derive(Debug)]
#[must_use = "without wait, the outcome and the pool are lost"]
pub struct Writing {
    written: Arc<AtomicU64>,
    bytes: u64,
    thread: JoinHandle<Ended>,
}

type Outcome = Result<Received, PagesError>;
type Ended = (Pool, Outcome);

impl Writing {
    /// Returns the bytes of pages written so far, and of all pages kept in memory.
    pub fn progress(&self) -> (u64, u64) {
        (self.written.load(Ordering::Relaxed), self.bytes)
    }

    /// Returns `true` when everything has been written, or writing has failed.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits until everything has been written. Returns the pool too, for the next capture.
    ///
    /// # Errors
    /// [`PagesError`] if a file cannot be written, or the page server does not take the pages. No
    /// pagemap is left then. After [`Dump::capture`](crate::Dump::capture) no image of the dump is
    /// left, and a checkpoint that it was to replace is back.
    pub fn wait(self) -> (Option<Pool>, Result<Received, PagesError>) {
        match self.thread.join() {
            Ok((pool, result)) => (Some(pool), result),
            Err(_) => (None, Err(PagesError::Stopped)),
        }
    }
}

/// The receiving end of a capture, for a dump that is driven step by step.
/// [`Dump::capture`](crate::Dump::capture) does all steps in one call.
///
/// ```no_run
/// use criu_rs::pages::{Capture, Pool};
/// use criu_rs::{Criu, Dump, Pid};
///
/// let pid: Pid = "4711".parse()?;
/// let capture = Capture::new(Pool::new(1 << 30)?, "/ckpt")?;
/// let dump = Dump::new(pid, "/ckpt").page_server_socket(&capture);
/// // The dump kills the tasks: hold it until their memory is written.
/// dump.start(&Criu::new())?.finish(&mut capture.hold(&mut (), true))?;
/// capture.write().wait().1?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "without write or discard, the memory and the pool are lost"]
pub struct Capture {
    /// The end for criu.
    socket: OwnedFd,
    received: Receiver<Result<u64, String>>,
    go: Sender<Option<OnWritten>>,
    outcome: Receiver<Result<(), String>>,
    written: Arc<AtomicU64>,
    deadline: Arc<Mutex<Option<Deadline>>>,
    others_read: Arc<AtomicBool>,
    thread: JoinHandle<Ended>,
}

/// The end of the socket for criu.
impl AsFd for Capture {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Capture {
    /// Prepares to receive the pages of one dump into the pool, and to write them into the
    /// directory later.
    ///
    /// # Errors
    /// The system has no socket or thread left.
    pub fn new(pool: Pool, directory: impl Into<PathBuf>) -> io::Result<Self> {
        let directory = directory.into();
        Self::begin(pool, move |pool, socket, progress| {
            write_out(pool, socket, &progress, directory)
        })
    }

    /// Prepares to receive as [`new`](Self::new) does, for a directory that is open already.
    /// `shown` is its path for errors.
    pub(crate) fn within(pool: Pool, held: Arc<OwnedFd>, shown: PathBuf) -> io::Result<Self> {
        Self::begin(pool, move |pool, socket, progress| {
            let link = proc_link(held.as_fd());
            let written = write_out(pool, socket, &progress, link.clone());
            written.map_err(|error| error.shown_in(&link, &shown))
        })
    }

    /// Prepares to receive the pages of one dump into the pool, and to send them to a page server
    /// later. No page goes to a disk of this machine.
    ///
    /// A dump that does not fit into the pool fails. The dump has no parent set.
    ///
    /// # Errors
    /// The system has no socket or thread left.
    pub fn to(pool: Pool, server: Client) -> io::Result<Self> {
        Self::begin(pool, move |pool, socket, progress| send_on(pool, socket, &progress, server))
    }

    fn begin(
        mut pool: Pool,
        run: impl FnOnce(&mut [u8], Socket, Progress) -> Outcome + Send + 'static,
    ) -> io::Result<Self> {
        let (theirs, ours) = wide_pair(BUFFER)?;
        let (sent, received) = mpsc::channel();
        let (go, wait) = mpsc::channel();
        let (ended, outcome) = mpsc::channel();
        let written = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&written);
        let deadline = Arc::new(Mutex::new(None));
        let shared = Arc::clone(&deadline);
        let others_read = Arc::new(AtomicBool::new(false));
        let readable = Arc::clone(&others_read);
        let thread = thread::Builder::new().name("capture".into()).spawn(move || {
            let done = Arc::new(Mutex::new(None));
            let progress = Progress {
                sent: sent.clone(),
                wait,
                done: Arc::clone(&done),
                written: counter,
                deadline: shared,
                others_read: readable,
            };
            let result = run(&mut pool.0, Socket::from(ours), progress);
            let done = done.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(done) = done {
                done(result.is_ok());
            }
            if let Err(error) = &result {
                let _ = sent.send(Err(error.to_string()));
            }
            let _ = ended.send(result.as_ref().map(|_| ()).map_err(ToString::to_string));
            (pool, result)
        })?;
        let socket = theirs.into();
        Ok(Self { socket, received, go, outcome, written, deadline, others_read, thread })
    }

    /// Bounds the time in which the dump's pages come, from this call on. The deadline has to be
    /// set before the dump begins. It takes effect with the dump's first byte; a deadline of the
    /// dump bounds the time before. Without a deadline a capture waits as long as the dump lasts.
    ///
    /// At the deadline the capture ends the connection: the dump fails, and
    /// [`discard`](Self::discard) returns [`PagesError::Deadline`]. The time to write the pages is
    /// not included.
    pub fn deadline(self, limit: Duration) -> Self {
        let deadline = Deadline::after(limit, Instant::now());
        *self.deadline.lock().unwrap_or_else(PoisonError::into_inner) = Some(deadline);
        self
    }

    /// Lets others read the files: they get CRIU's own mode 0644, less the umask, and not 0600. The
    /// restore of a tree in a user namespace of its own reads the images as a user of that
    /// namespace. The setting takes effect if it is made before the dump begins.
    pub fn others_read(self, on: bool) -> Self {
        self.others_read.store(on, Ordering::Relaxed);
        self
    }

    /// Returns hooks that call `hooks`. If the dump `kills` its tasks, they hold it until the
    /// tasks' memory has been written. Memory that cannot be written fails the dump.
    pub fn hold<'h>(&'h self, hooks: &'h mut dyn Hooks, kills: bool) -> impl Hooks + 'h {
        let then = move || if kills { Ok(self.write_now()?) } else { Ok(()) };
        At { hooks, action: Action::PostDump, then }
    }

    /// Writes the received pages, and waits until that is done.
    fn write_now(&self) -> Result<(), String> {
        let _ = self.go.send(Some(Box::new(|_| ())));
        let lost = |_| "the thread that writes panicked".to_owned();
        self.outcome.recv().map_err(lost)?
    }

    /// Writes the received pages in the background, after a dump that succeeded.
    pub fn write(self) -> Writing {
        self.write_and(|_| ())
    }

    /// Writes the received pages in the background, and then calls `done` with `true` if that
    /// succeeded.
    pub(crate) fn write_and(self, done: impl FnOnce(bool) + Send + 'static) -> Writing {
        drop(self.socket);
        let bytes = self.received.recv().ok().and_then(Result::ok).unwrap_or(0);
        let _ = self.go.send(Some(Box::new(done)));
        Writing { written: self.written, bytes, thread: self.thread }
    }

    /// Discards the received pages, after a dump that failed. Returns the pool, and the capture's
    /// error if the capture failed first.
    pub fn discard(self) -> (Option<Pool>, Option<PagesError>) {
        drop(self.socket);
        let _ = self.go.send(None);
        match self.thread.join() {
            // These are the dump's fault: it has ended before everything was sent.
            Ok((pool, Ok(_) | Err(PagesError::Stopped | PagesError::Gone(_)))) => {
                (Some(pool), None)
            }
            Ok((pool, Err(error))) => (Some(pool), Some(error)),
            Err(_) => (None, Some(PagesError::Stopped)),
        }
    }
}

/// The channels of a capture's thread to the thread that drives the dump.
struct Progress {
    sent: Sender<Result<u64, String>>,
    wait: Receiver<Option<OnWritten>>,
    done: Arc<Mutex<Option<OnWritten>>>,
    written: Arc<AtomicU64>,
    deadline: Arc<Mutex<Option<Deadline>>>,
    others_read: Arc<AtomicBool>,
}

/// A function that is called when everything has been written, or cannot be.
type OnWritten = Box<dyn FnOnce(bool) + Send>;

impl Progress {
    /// Waits for the dump's first byte, or the end of the connection. Returns the deadline of what
    /// follows.
    fn begin(&self, socket: &Socket) -> Result<Option<Deadline>, PagesError> {
        let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        while let Err(error) = poll(&mut fds, PollTimeout::NONE) {
            if error != Errno::EINTR {
                return Err(PagesError::socket("receive")(error.into()));
            }
        }
        Ok(*self.deadline.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reports the bytes of pages that have been received, and waits until they may be written.
    fn wait(&self, bytes: u64) -> Result<(), PagesError> {
        let _ = self.sent.send(Ok(bytes));
        let done = self.wait.recv().unwrap_or(None).ok_or(PagesError::Stopped)?;
        *self.done.lock().unwrap_or_else(PoisonError::into_inner) = Some(done);
        Ok(())
    }
}

/// Receives pages, and then writes them into a directory.
fn write_out(
    pool: &mut [u8],
    mut socket: Socket,
    progress: &Progress,
    directory: PathBuf,
) -> Result<Received, PagesError> {
    let store = Store::open(directory)?.durable(true);
    let deadline = progress.begin(&socket)?;
    let mut store = store.others_read(progress.others_read.load(Ordering::Relaxed));
    let left = deadline.map(|deadline| deadline.left(Instant::now())).transpose();
    let total = left.map_err(PagesError::socket("receive"))?.unwrap_or(Duration::MAX);
    let limits = ServerLimits { idle: None, total, ..ServerLimits::default() };
    let counters = Counters::default();
    let mut received = Received::default();
    let report = &mut received;
    let kept = keep_connection(&mut socket, &mut store, pool, None, &limits, &counters, report);
    drop(socket);
    let parts = kept.map_err(|error| match (error, deadline) {
        (PagesError::TimedOut(_), Some(deadline)) => PagesError::Deadline(deadline.limit()),
        (error, _) => error,
    })?;
    progress.wait(parts.iter().map(Part::bytes).sum())?;
    for part in &parts {
        store.write(part, pool, |bytes| {
            progress.written.fetch_add(bytes as u64, Ordering::Relaxed);
        })?;
    }
    store.finish()?;
    Ok(received)
}

/// Receives pages, and then sends them to a page server.
fn send_on(
    pool: &mut [u8],
    mut socket: Socket,
    progress: &Progress,
    mut server: Client,
) -> Result<Received, PagesError> {
    let begun = Instant::now();
    socket.set_deadline(progress.begin(&socket)?);
    let (size, bytes) = collect(pool, &mut socket)?;
    drop(socket);
    progress.wait(bytes)?;
    let sent = server.replay(pool.get(..size).unwrap_or_default(), |bytes| {
        progress.written.fetch_add(bytes as u64, Ordering::Relaxed);
    })?;
    server.close()?;
    let Sent { objects, pages, holes } = sent;
    Ok(Received { objects, pages, holes, time: begun.elapsed(), ..Received::default() })
}

/// Receives the bytes of a dump's session into a pool. Returns their number, and that of the pages'
/// bytes.
fn collect(pool: &mut [u8], socket: &mut Socket) -> Result<(usize, u64), PagesError> {
    let mut collected = Collected { pool, socket, start: 0, end: 0, bytes: 0 };
    let closed = drive(&mut PageSession::new(None), &mut collected)?;
    if !closed {
        return Err(PagesError::Gone(collected.end as u64));
    }
    Ok((collected.end, collected.bytes))
}

/// The bytes of a dump's session, from the beginning of a pool on.
struct Collected<'c> {
    pool: &'c mut [u8],
    socket: &'c mut Socket,
    /// The range of the unread bytes.
    start: usize,
    end: usize,
    /// The bytes of pages.
    bytes: u64,
}

impl PageReceiver for Collected<'_> {
    fn unread(&self, _: &PageSession) -> &[u8] {
        self.pool.get(self.start..self.end).unwrap_or_default()
    }

    fn take(&mut self, bytes: usize) -> Result<(), PagesError> {
        self.start += bytes;
        Ok(())
    }

    fn receive(&mut self, _: &mut PageSession, _: usize) -> Result<bool, PagesError> {
        let size = self.pool.len();
        let room = self.pool.get_mut(self.end..).filter(|room| !room.is_empty());
        let room = room.ok_or(PagesError::TooMuch(size as u64))?;
        let received = read(self.socket, room).map_err(PagesError::socket("receive"))?;
        self.end += received;
        Ok(received > 0)
    }

    fn answer(&mut self, bytes: &[u8]) -> Result<(), PagesError> {
        self.socket.write_all(bytes).map_err(PagesError::socket("answer"))
    }

    fn payload(&mut self, bytes: usize) -> Result<(), PagesError> {
        self.bytes += bytes as u64;
        Ok(())
    }
}

/// The bytes that a socket's buffer holds.
pub(super) const BUFFER: usize = 8 << 20;
