//! Captures: the memory of a dump into memory of ours, and from there to disk when the tasks run on.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};

use memmap2::{Advice, MmapMut, MmapOptions};

use super::error::PagesError;
use super::receive::{Part, Received, keep_connection};
use super::server::{Counters, Limits};
use super::socket::{Socket, wide_pair};
use super::store::Store;
use crate::{External, HookResult, Hooks, Pid};

/// Memory that captures go into, there from the beginning: huge pages where the machine has them. It is meant to be
/// used again, because memory that has been used is what makes a capture quick.
///
/// ```
/// use criu_rs::pages::Pool;
///
/// let pool = Pool::new(64 << 20)?;
/// assert_eq!(pool.size(), 64 << 20);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Pool(MmapMut);

impl Pool {
    /// A pool of so many bytes, a MiB at least. It takes about 0.3 s a GiB.
    ///
    /// # Errors
    /// When there is not as much memory.
    pub fn new(bytes: usize) -> io::Result<Self> {
        let mut map = MmapOptions::new().len(bytes.max(SMALLEST)).map_anon()?;
        // Without huge pages it is slower, and as good.
        let _ = map.advise(Advice::HugePage);
        if map.advise(Advice::PopulateWrite).is_err() {
            for byte in map.iter_mut().step_by(4096) {
                *byte = 0;
            }
        }
        Ok(Self(map))
    }

    /// Bytes that a capture of a process and its descendants takes, about: they may use more, or less, by
    /// the time it is made. What does not fit into a pool goes to disk while they stand still.
    pub fn needed(root: Pid) -> u64 {
        let pages = crate::tree::memory(root);
        // A header stands before each run of pages.
        pages.saturating_add(pages / 64)
    }

    /// Its number of bytes.
    pub fn size(&self) -> usize {
        self.0.len()
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pool").field(&self.size()).finish()
    }
}

/// What is being written of a capture, in the background.
#[derive(Debug)]
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
    /// Those of files. There is no pagemap then.
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
pub struct Capture {
    /// criu's end.
    socket: OwnedFd,
    received: Receiver<Result<u64, String>>,
    go: Sender<bool>,
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
    pub fn new(mut pool: Pool, directory: impl Into<PathBuf>) -> io::Result<Self> {
        let directory = directory.into();
        let (theirs, ours) = wide_pair(BUFFER)?;
        let (sent, received) = mpsc::channel();
        let (go, wait) = mpsc::channel();
        let (ended, outcome) = mpsc::channel();
        let written = Arc::new(AtomicU64::new(0));
        let progress = Arc::clone(&written);
        let thread = thread::Builder::new().name("capture".into()).spawn(move || {
            let mut store = match Store::open(directory) {
                Ok(store) => store.durable(true),
                Err(error) => return (pool, Err(error)),
            };
            let mut socket = Socket::from(ours);
            let limits = Limits { idle: None, ..Limits::default() };
            let counters = Counters::default();
            let kept = keep_connection(&mut socket, &mut store, &mut pool.0, &limits, &counters);
            drop(socket);
            let (received, parts) = match kept {
                Ok(kept) => kept,
                Err(error) => {
                    let _ = sent.send(Err(error.to_string()));
                    return (pool, Err(error));
                }
            };
            let _ = sent.send(Ok(parts.iter().map(Part::bytes).sum()));
            // Not before the tasks run on, or are to be ended.
            if !wait.recv().unwrap_or(false) {
                return (pool, Err(PagesError::Stopped));
            }
            let mut write = || -> Result<(), PagesError> {
                for part in &parts {
                    part.write(&pool.0, |bytes| {
                        progress.fetch_add(bytes as u64, Ordering::Relaxed);
                    })?;
                }
                store.finish()
            };
            let result = write().map(|()| received);
            let _ = ended.send(result.as_ref().map(|_| ()).map_err(ToString::to_string));
            (pool, result)
        })?;
        Ok(Self { socket: theirs.into(), received, go, outcome, written, thread })
    }

    /// Hooks that call others, and, if the dump kills its tasks, keep it from that until their memory is where it
    /// belongs. Memory that cannot be written fails the dump.
    pub fn hold<'h>(&'h self, hooks: &'h mut dyn Hooks, kills: bool) -> Held<'h> {
        Held { hooks, capture: self, kills }
    }

    /// Writes what has come, and waits until it is where it belongs.
    fn write_now(&self) -> Result<(), String> {
        let _ = self.go.send(true);
        let lost = |_| "the thread that writes has ended".to_owned();
        self.outcome.recv().map_err(lost)?
    }

    /// The dump has succeeded: writes what has come.
    pub fn write(self) -> Writing {
        drop(self.socket);
        let bytes = self.received.recv().ok().and_then(Result::ok).unwrap_or(0);
        let _ = self.go.send(true);
        Writing { written: self.written, bytes, thread: self.thread }
    }

    /// The dump has failed: gives the pool back.
    pub fn discard(self) -> Option<Pool> {
        drop(self.socket);
        let _ = self.go.send(false);
        self.thread.join().ok().map(|(pool, _)| pool)
    }
}

/// Keeps CRIU from killing tasks before their memory is where it belongs.
#[allow(missing_debug_implementations, reason = "the hooks are somebody else's")]
pub struct Held<'h> {
    hooks: &'h mut dyn Hooks,
    capture: &'h Capture,
    kills: bool,
}

impl Hooks for Held<'_> {
    fn post_dump(&mut self) -> HookResult {
        self.hooks.post_dump()?;
        match self.kills {
            true => Ok(self.capture.write_now()?),
            false => Ok(()),
        }
    }

    fn pre_stream(&mut self) -> HookResult {
        self.hooks.pre_stream()
    }

    fn pre_dump(&mut self) -> HookResult {
        self.hooks.pre_dump()
    }

    fn network_lock(&mut self) -> HookResult {
        self.hooks.network_lock()
    }

    fn network_unlock(&mut self) -> HookResult {
        self.hooks.network_unlock()
    }

    fn orphan_pts_master(&mut self, master: OwnedFd) -> HookResult {
        self.hooks.orphan_pts_master(master)
    }

    fn status_ready(&mut self) -> HookResult {
        self.hooks.status_ready()
    }

    fn query_ext_files(&mut self) -> HookResult<Vec<External>> {
        self.hooks.query_ext_files()
    }

    fn other(&mut self, action: &str, root: Option<Pid>, fds: Vec<OwnedFd>) -> HookResult {
        self.hooks.other(action, root, fds)
    }
}

/// Bytes of the smallest pool.
const SMALLEST: usize = 1 << 20;
/// Bytes that may be on their way.
const BUFFER: usize = 8 << 20;
