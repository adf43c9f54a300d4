//! The receiving end of a dump's pages, which records them.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

use criu_images::memory::PageObject;

use super::budget::Budget;
use super::capture::BUFFER;
use super::drive::{PageReceiver, drive};
use super::error::PagesError;
use super::folder::Folder;
use super::limits::ServerLimits;
use super::pool::Pool;
use super::receive::read;
use super::recording::{Index, Recording};
use super::session::PageSession;
use super::socket::{Socket, wide_pair};

/// The receiving end of a dump that records its pages: in a pool, and what does not fit in a file
/// without a name. A tape waits as long as the dump lasts; a deadline of the dump ends both.
///
/// ```text
/// let tape = Tape::new(pool, Some(directory))?;
/// let dump = dump.page_server_socket(&tape);
/// ... run the dump ...
/// let recording = tape.finish()?;
/// ```
#[derive(Debug)]
#[must_use = "without finish or discard, the memory and the pool are lost"]
pub(crate) struct Tape {
    /// The end for criu.
    socket: OwnedFd,
    thread: JoinHandle<Ended>,
}

type Ended = (Pool, Result<Received, PagesError>);

/// The end of the socket for criu.
impl AsFd for Tape {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Tape {
    /// Prepares to receive the pages of one dump into the pool. What does not fit goes into a file
    /// in the directory `spill`, which has no name and is gone when it is closed. Without a
    /// directory, a dump that does not fit into the pool fails.
    ///
    /// # Errors
    /// [`PagesError`] if the directory cannot be opened, or the system has no socket or thread
    /// left.
    pub(crate) fn new(mut pool: Pool, spill: Option<&Path>) -> Result<Self, PagesError> {
        let folder = spill.map(Folder::open).transpose()?;
        let (theirs, ours) = wide_pair(BUFFER).map_err(PagesError::socket("make a socket"))?;
        let record = move || {
            let received = receive(&mut pool.0, Socket::from(ours), folder.as_ref());
            (pool, received)
        };
        let thread = thread::Builder::new().name("tape".into()).spawn(record);
        let thread = thread.map_err(PagesError::socket("begin a thread"))?;
        Ok(Self { socket: theirs.into(), thread })
    }

    /// Returns what has been received, after a dump that succeeded.
    ///
    /// # Errors
    /// [`PagesError`] if not everything has been received.
    pub(crate) fn finish(self) -> Result<Recording, PagesError> {
        drop(self.socket);
        let (pool, received) = self.thread.join().map_err(|_| PagesError::Stopped)?;
        let Received { index, file, size } = received?;
        Ok(Recording::new(pool, file, size, index))
    }

    /// Discards what has been received, after a dump that failed. Returns the pool, and the tape's
    /// error if the tape failed first.
    pub(crate) fn discard(self) -> (Option<Pool>, Option<PagesError>) {
        drop(self.socket);
        match self.thread.join() {
            // The dump has ended before everything was sent.
            Ok((pool, Ok(_) | Err(PagesError::Gone(_)))) => (Some(pool), None),
            Ok((pool, Err(error))) => (Some(pool), Some(error)),
            Err(_) => (None, Some(PagesError::Stopped)),
        }
    }
}

/// The result of a tape's thread, beside the bytes in the pool.
#[derive(Debug)]
struct Received {
    index: Index,
    /// The bytes after those in the pool.
    file: Option<(File, PathBuf)>,
    /// The number of all bytes.
    size: u64,
}

fn receive(
    memory: &mut [u8],
    mut socket: Socket,
    folder: Option<&Folder>,
) -> Result<Received, PagesError> {
    let budget = Budget::new(&ServerLimits::default());
    let (index, spilled) = (Index::default(), None);
    let socket = &mut socket;
    let mut recorder =
        Recorder { socket, memory, taken: 0, received: 0, folder, spilled, index, budget };
    let mut session = PageSession::new(None);
    if !drive(&mut session, &mut recorder)? {
        return Err(PagesError::Gone(recorder.received));
    }
    if let Some(spilled) = &mut recorder.spilled {
        spilled.write_out(recorder.received)?;
    }
    let Recorder { mut index, spilled, received, .. } = recorder;
    index.layout = session.layout();
    let file = spilled.map(|Spilled { file, path, .. }| (file, path));
    Ok(Received { index, file, size: received })
}

/// The bytes of a dump's session, headers included, on their way into memory and a file. Offsets
/// count from the first byte of the session.
struct Recorder<'r> {
    socket: &'r mut Socket,
    memory: &'r mut [u8],
    /// The range of the bytes that have been received and not been taken.
    taken: u64,
    received: u64,
    /// The directory for what does not fit into the memory.
    folder: Option<&'r Folder>,
    spilled: Option<Spilled>,
    index: Index,
    budget: Budget,
}

/// The bytes that do not fit into memory.
struct Spilled {
    file: File,
    path: PathBuf,
    /// The last bytes, which include all that have not been taken.
    window: Vec<u8>,
    /// The offset of the window's first byte.
    base: u64,
    /// The offset up to which bytes are in memory or in the file.
    kept: u64,
}

impl Recorder<'_> {
    /// Begins to spill: the memory is full.
    fn spill(&mut self) -> Result<&mut Spilled, PagesError> {
        let size = self.memory.len() as u64;
        let Some(folder) = self.folder.filter(|_| self.spilled.is_none()) else {
            return self.spilled.as_mut().ok_or(PagesError::TooMuch(size));
        };
        let (file, path) = folder.unnamed()?;
        let mut window = vec![0; WINDOW];
        let start = usize::try_from(self.taken).unwrap_or(usize::MAX);
        for (to, from) in window.iter_mut().zip(self.memory.get(start..).unwrap_or_default()) {
            *to = *from;
        }
        Ok(self.spilled.insert(Spilled { file, path, window, base: self.taken, kept: size }))
    }
}

impl Spilled {
    /// Writes all bytes up to an offset into the file, unless they are in memory.
    fn write_out(&mut self, received: u64) -> Result<(), PagesError> {
        let at = |offset: u64| usize::try_from(offset.saturating_sub(self.base)).ok();
        let range = at(self.kept).zip(at(received)).map(|(start, end)| start..end);
        let bytes = range.and_then(|range| self.window.get(range)).unwrap_or_default();
        self.file.write_all(bytes).map_err(PagesError::file(&self.path))?;
        self.kept = self.kept.max(received);
        Ok(())
    }

    /// Returns the free part of the window. A window without one is written out first, and begins
    /// with the first byte that has not been taken then.
    fn room(&mut self, taken: u64, received: u64) -> Result<&mut [u8], PagesError> {
        let size = self.window.len() as u64;
        if received.saturating_sub(self.base) >= size {
            self.write_out(received)?;
            let from = usize::try_from(taken.saturating_sub(self.base)).unwrap_or(usize::MAX);
            let from = from.min(self.window.len());
            self.window.copy_within(from.., 0);
            self.base = taken;
        }
        let used = usize::try_from(received.saturating_sub(self.base)).unwrap_or(usize::MAX);
        Ok(self.window.get_mut(used..).unwrap_or_default())
    }
}

impl PageReceiver for Recorder<'_> {
    #[inline]
    fn unread(&self, _: &PageSession) -> &[u8] {
        let (bytes, base) = match &self.spilled {
            Some(spilled) => (&spilled.window[..], spilled.base),
            None => (&*self.memory, 0),
        };
        let at = |offset: u64| usize::try_from(offset.saturating_sub(base)).unwrap_or(usize::MAX);
        bytes.get(at(self.taken)..at(self.received)).unwrap_or_default()
    }

    #[inline]
    fn take(&mut self, bytes: usize) -> Result<(), PagesError> {
        self.taken = self.taken.saturating_add(bytes as u64);
        Ok(())
    }

    fn receive(&mut self, _: &mut PageSession, _: usize) -> Result<bool, PagesError> {
        let used = usize::try_from(self.received).unwrap_or(usize::MAX);
        let is_full = self.spilled.is_some() || used >= self.memory.len();
        let size = if is_full {
            let (taken, received) = (self.taken, self.received);
            self.spill()?;
            let Some(spilled) = &mut self.spilled else { return Ok(false) };
            read(self.socket, spilled.room(taken, received)?)
        } else {
            read(self.socket, self.memory.get_mut(used..).unwrap_or_default())
        };
        let size = size.map_err(PagesError::socket("receive"))?;
        self.received = self.received.saturating_add(size as u64);
        Ok(size > 0)
    }

    fn answer(&mut self, bytes: &[u8]) -> Result<(), PagesError> {
        self.socket.write_all(bytes).map_err(|error| match error.kind() {
            // The dump has ended.
            io::ErrorKind::BrokenPipe => PagesError::Gone(self.received),
            _ => PagesError::socket("answer")(error),
        })
    }

    fn open(&mut self, object: PageObject) -> Result<(), PagesError> {
        self.budget.begin()?;
        self.index.begin(object, self.taken);
        Ok(())
    }

    #[inline]
    fn payload(&mut self, bytes: usize) -> Result<(), PagesError> {
        self.index.bytes = self.index.bytes.saturating_add(bytes as u64);
        Ok(())
    }
}

/// The bytes that are received and written at once when the memory is full.
const WINDOW: usize = 1 << 20;

#[cfg(test)]
mod tests;
