//! Captures: the memory of a dump into memory of ours, and from there to disk when the tasks run on.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use super::client::{Client, Sent};
use super::drive::{PageReceiver, drive};
use super::error::PagesError;
use super::limits::ServerLimits;
use super::metrics::Counters;
use super::pool::Pool;
use super::receive::{Part, Received, keep_connection, read};
use super::session::PageSession;
use super::socket::{Socket, wide_pair};
use super::store::Store;
use crate::hooks::{Action, At, Hooks};

/// What is being written of a capture, in the background.
#[derive(Debug)]
#[must_use = "the outcome is lost, and the pool with it: call wait"]
pub struct Writing {
    written: Arc<AtomicU64>,
    bytes: u64,
    thread: JoinHandle<Ended>,
}

type Ended = (Pool, Result<Received, PagesError>);

impl Writing {
    /// Bytes of pages written so far, and of all that are kept in memory.
    pub fn progress(&self) -> (u64, u64) {
        (self.written.load(Ordering::Relaxed), self.bytes)
    }

    /// Whether everything is written, or nothing more will be.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits until everything is written. The pool comes back in any case.
    ///
    /// # Errors
    /// Those of files. There is no pagemap then; after [`Dump::capture`](crate::Dump::capture) none of the dump's
    /// images, and a checkpoint that it was to replace is back.
    pub fn wait(self) -> (Option<Pool>, Result<Received, PagesError>) {
        match self.thread.join() {
            Ok((pool, result)) => (Some(pool), result),
            Err(_) => (None, Err(PagesError::Stopped)),
        }
    }
}

/// The receiving end of a capture, for a dump that is driven step by step; [`Dump::capture`](crate::Dump::capture) is
/// the same in one call.
///
/// ```no_run
/// use criu_rs::pages::{Capture, Pool};
/// use criu_rs::{Criu, Dump, Pid};
///
/// let pid: Pid = "4711".parse()?;
/// let capture = Capture::new(Pool::new(1 << 30)?, "/ckpt")?;
/// let dump = Dump::new(pid, "/ckpt").page_server_socket(&capture);
/// // The tasks are to be killed: not before their memory is written.
/// dump.start(&Criu::new())?.finish(&mut capture.hold(&mut (), true))?;
/// capture.write().wait().1?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "dropped, it loses the memory and the pool: call write or discard"]
pub struct Capture {
    /// criu's end.
    socket: OwnedFd,
    received: Receiver<Result<u64, String>>,
    go: Sender<Option<Done>>,
    outcome: Receiver<Result<(), String>>,
    written: Arc<AtomicU64>,
    thread: JoinHandle<Ended>,
}

/// criu's end of the socket.
impl AsFd for Capture {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Capture {
    /// Gets ready to receive one dump's pages, which go into the pool, and later into the directory.
    ///
    /// # Errors
    /// When the system has no socket or thread left.
    pub fn new(pool: Pool, directory: impl Into<PathBuf>) -> io::Result<Self> {
        let directory = directory.into();
        Self::begin(pool, move |pool, socket, turn| write_out(pool, socket, &turn, directory))
    }

    /// Gets ready to receive one dump's pages, which go into the pool, and later to a page server: nothing of them
    /// goes to a disk of this machine. A dump that does not fit into the pool fails. It has no parent set.
    ///
    /// # Errors
    /// When the system has no socket or thread left.
    pub fn to(pool: Pool, server: Client) -> io::Result<Self> {
        Self::begin(pool, move |pool, socket, turn| send_on(pool, socket, &turn, server))
    }

    fn begin(
        mut pool: Pool,
        run: impl FnOnce(&mut [u8], Socket, Turn) -> Result<Received, PagesError> + Send + 'static,
    ) -> io::Result<Self> {
        let (theirs, ours) = wide_pair(BUFFER)?;
        let (sent, received) = mpsc::channel();
        let (go, wait) = mpsc::channel();
        let (ended, outcome) = mpsc::channel();
        let written = Arc::new(AtomicU64::new(0));
        let progress = Arc::clone(&written);
        let thread = thread::Builder::new().name("capture".into()).spawn(move || {
            let done = Arc::new(Mutex::new(None));
            let turn =
                Turn { sent: sent.clone(), wait, done: Arc::clone(&done), written: progress };
            let result = run(&mut pool.0, Socket::from(ours), turn);
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
        Ok(Self { socket: theirs.into(), received, go, outcome, written, thread })
    }

    /// Hooks that call others, and, if the dump kills its tasks, keep it from that until their memory is where it
    /// belongs. Memory that cannot be written fails the dump.
    pub fn hold<'h>(&'h self, hooks: &'h mut dyn Hooks, kills: bool) -> impl Hooks + 'h {
        let then = move || if kills { Ok(self.write_now()?) } else { Ok(()) };
        At { hooks, action: Action::PostDump, then }
    }

    /// Writes what has come, and waits until it is where it belongs.
    fn write_now(&self) -> Result<(), String> {
        let _ = self.go.send(Some(Box::new(|_| ())));
        let lost = |_| "the thread that writes has ended".to_owned();
        self.outcome.recv().map_err(lost)?
    }

    /// The dump has succeeded: writes what has come.
    pub fn write(self) -> Writing {
        self.write_and(|_| ())
    }

    /// The same, and then tells whether it is written.
    pub(crate) fn write_and(self, done: impl FnOnce(bool) + Send + 'static) -> Writing {
        drop(self.socket);
        let bytes = self.received.recv().ok().and_then(Result::ok).unwrap_or(0);
        let _ = self.go.send(Some(Box::new(done)));
        Writing { written: self.written, bytes, thread: self.thread }
    }

    /// The dump has failed: gives the pool back, and says whether it was the capture that failed first.
    pub fn discard(self) -> (Option<Pool>, Option<PagesError>) {
        drop(self.socket);
        let _ = self.go.send(None);
        match self.thread.join() {
            // The dump has ended, and with it what it sends.
            Ok((pool, Ok(_) | Err(PagesError::Stopped | PagesError::Gone(_)))) => {
                (Some(pool), None)
            }
            Ok((pool, Err(error))) => (Some(pool), Some(error)),
            Err(_) => (None, Some(PagesError::Stopped)),
        }
    }
}

/// What a capture's thread says to, and hears from, whoever drives the dump.
struct Turn {
    sent: Sender<Result<u64, String>>,
    wait: Receiver<Option<Done>>,
    done: Arc<Mutex<Option<Done>>>,
    written: Arc<AtomicU64>,
}

/// What is to be done when everything is written, or cannot be.
type Done = Box<dyn FnOnce(bool) + Send>;

impl Turn {
    /// So many bytes of pages have come: waits until the tasks run on, or are to be ended.
    fn wait(&self, bytes: u64) -> Result<(), PagesError> {
        let _ = self.sent.send(Ok(bytes));
        let done = self.wait.recv().unwrap_or(None).ok_or(PagesError::Stopped)?;
        *self.done.lock().unwrap_or_else(PoisonError::into_inner) = Some(done);
        Ok(())
    }
}

/// Receives pages, and writes them into a directory.
fn write_out(
    pool: &mut [u8],
    mut socket: Socket,
    turn: &Turn,
    directory: PathBuf,
) -> Result<Received, PagesError> {
    let mut store = Store::open(directory)?.durable(true);
    let limits = ServerLimits { idle: None, ..ServerLimits::default() };
    let counters = Counters::default();
    let kept = keep_connection(&mut socket, &mut store, pool, None, &limits, &counters);
    drop(socket);
    let (received, parts) = kept?;
    turn.wait(parts.iter().map(Part::bytes).sum())?;
    for part in &parts {
        part.write(pool, |bytes| {
            turn.written.fetch_add(bytes as u64, Ordering::Relaxed);
        })?;
    }
    store.finish()?;
    Ok(received)
}

/// Receives pages, and sends them to a page server.
fn send_on(
    pool: &mut [u8],
    mut socket: Socket,
    turn: &Turn,
    mut server: Client,
) -> Result<Received, PagesError> {
    let begun = Instant::now();
    let (size, bytes) = collect(pool, &mut socket)?;
    drop(socket);
    turn.wait(bytes)?;
    let sent = server.send_again(pool.get(..size).unwrap_or_default(), |bytes| {
        turn.written.fetch_add(bytes as u64, Ordering::Relaxed);
    })?;
    server.close()?;
    let Sent { objects, pages, holes } = sent;
    Ok(Received { objects, pages, holes, time: begun.elapsed(), ..Received::default() })
}

/// Receives all that a dump sends, as it is. Returns its number of bytes, and of those the pages'.
fn collect(pool: &mut [u8], socket: &mut Socket) -> Result<(usize, u64), PagesError> {
    let mut collected = Collected { pool, socket, start: 0, end: 0, bytes: 0 };
    let closed = drive(&mut PageSession::new(None), &mut collected)?;
    if !closed {
        return Err(PagesError::Gone(collected.end as u64));
    }
    Ok((collected.end, collected.bytes))
}

/// What a dump has sent, from the beginning of a pool on.
struct Collected<'c> {
    pool: &'c mut [u8],
    socket: &'c mut Socket,
    /// Where the unread bytes are.
    start: usize,
    end: usize,
    /// Bytes of pages.
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

/// Bytes that may be on their way.
const BUFFER: usize = 8 << 20;
