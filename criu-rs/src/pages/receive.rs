//! A connection of a page server: receives pages into a store and sends those of a set.

use std::fmt;
use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use criu_images::memory::PageObject;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SpliceFFlags, fcntl, splice};

use super::drive::{PageReceiver, drive};
use super::error::PagesError;
use super::limits::ServerLimits;
use super::metrics::Counters;
use super::page_size::page_size;
use super::proto::Layout;
use super::session::PageSession;
use super::socket::{A_WHILE, Socket};
use super::store::{PagesFile, Store};

/// The numbers of what a connection has carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Received {
    /// Objects that were begun.
    pub objects: u64,
    /// Pages received with their bytes.
    pub pages: u64,
    /// Pages left to the parent set.
    pub holes: u64,
    /// Pages sent on request.
    pub served: u64,
    /// The layout that the peer spoke, if it showed.
    pub layout: Option<Layout>,
    /// The time that the connection took.
    pub time: Duration,
}

/// Stores the pages that a peer sends, until the peer closes the session.
///
/// At most 1 MiB of received bytes is in memory, and for each object what its pagemap takes.
///
/// # Errors
/// [`PagesError`]. The peer learns of it by the end of the connection, or by the answer to its last
/// header. The store has no pagemap of this session then.
pub(super) fn store_connection(
    socket: &mut Socket,
    store: &mut Store,
    layout: Option<Layout>,
    limits: &ServerLimits,
    counters: &Counters,
) -> Result<Received, PagesError> {
    let mut buffer = vec![0; BUFFER];
    Connection::new(socket, store, &mut buffer, limits, counters).run(layout)
}

/// Receives a peer's pages until it closes the session, and leaves them in `buffer`.
///
/// Pages that do not fit into the buffer are written at once. The answer to the last header says
/// only that everything has been received. Nothing is sent.
pub(super) fn keep_connection(
    socket: &mut Socket,
    store: &mut Store,
    buffer: &mut [u8],
    layout: Option<Layout>,
    limits: &ServerLimits,
    counters: &Counters,
) -> Result<(Received, Vec<Part>), PagesError> {
    let mut connection = Connection::new(socket, store, buffer, limits, counters);
    connection.keep = true;
    let received = connection.run(layout)?;
    Ok((received, connection.waiting))
}

/// The ranges of a buffer that belong into a pages file, in order.
#[derive(Debug)]
pub(super) struct Part {
    file: Arc<PagesFile>,
    ranges: Vec<Range<usize>>,
}

impl Part {
    /// Returns the number of bytes in the ranges.
    pub(super) fn bytes(&self) -> u64 {
        self.ranges.iter().map(|range| range.len() as u64).sum()
    }

    /// Writes the ranges. Calls `wrote` with the bytes written since the last call.
    pub(super) fn write(
        &self,
        buffer: &[u8],
        mut wrote: impl FnMut(usize),
    ) -> Result<(), PagesError> {
        let mut file = &self.file.file;
        for ranges in self.ranges.chunks(AT_ONCE) {
            let slices = ranges.iter().filter_map(|range| buffer.get(range.clone()));
            let mut slices: Vec<IoSlice<'_>> = slices.map(IoSlice::new).collect();
            let size = slices.iter().map(|slice| slice.len()).sum();
            write_all(&mut file, &mut slices).map_err(PagesError::file(&self.file.path))?;
            wrote(size);
        }
        Ok(())
    }
}

struct Connection<'c> {
    socket: &'c mut Socket,
    store: &'c mut Store,
    buffer: &'c mut [u8],
    /// Tells that received bytes stay in the buffer while there is room.
    keep: bool,
    /// The part of the buffer that has been received and not been taken.
    window: Range<usize>,
    /// The parts of the buffer that are to be written.
    waiting: Vec<Part>,
    received: Received,
    limits: &'c ServerLimits,
    counters: &'c Counters,
    begun: Instant,
    bytes: u64,
    /// Pages and holes that the shared counters have already.
    counted: (u64, u64),
    /// Tells that runs are long: headers are read alone, and pages go through a pipe.
    long_runs: bool,
    /// The number of short runs since the last long one.
    short_runs: u32,
    /// The pipe, which some file systems cannot read from.
    pipe: Pipe,
}

/// The pipe that long runs go through without a copy.
#[derive(Debug, Default)]
enum Pipe {
    #[default]
    NotYet,
    Open(OwnedFd, OwnedFd),
    Useless,
}

impl<'c> Connection<'c> {
    fn new(
        socket: &'c mut Socket,
        store: &'c mut Store,
        buffer: &'c mut [u8],
        limits: &'c ServerLimits,
        counters: &'c Counters,
    ) -> Self {
        let pipe = if socket.is_plain() { Pipe::NotYet } else { Pipe::Useless };
        Self {
            socket,
            store,
            buffer,
            keep: false,
            window: 0..0,
            waiting: Vec::new(),
            received: Received::default(),
            limits,
            counters,
            begun: Instant::now(),
            bytes: 0,
            counted: (0, 0),
            long_runs: false,
            short_runs: 0,
            pipe,
        }
    }

    fn run(&mut self, layout: Option<Layout>) -> Result<Received, PagesError> {
        let prepared = self.socket.prepare(self.limits.idle);
        prepared.map_err(PagesError::socket("set up the connection"))?;
        let mut session = PageSession::new(layout);
        drive(&mut session, self)?;
        let (layout, time) = (session.layout(), self.begun.elapsed());
        Ok(Received { layout, time, ..self.received })
    }

    /// Brings the shared counters up to date.
    fn count(&mut self) {
        let Received { pages, holes, .. } = self.received;
        let (counted_pages, counted_holes) = self.counted;
        self.counters.pages.fetch_add(pages - counted_pages, Ordering::Relaxed);
        self.counters.holes.fetch_add(holes - counted_holes, Ordering::Relaxed);
        self.counted = (pages, holes);
    }

    /// Returns the error of a connection that has ended: by the peer, or by a server that stops.
    fn gone(&self) -> PagesError {
        if self.counters.stopping.load(Ordering::Relaxed) {
            PagesError::Stopped
        } else {
            PagesError::Gone(self.bytes)
        }
    }

    /// Moves the rest of a run through a pipe. Returns `false` if the rest is empty or too small.
    fn splice_run(&mut self, session: &mut PageSession) -> Result<bool, PagesError> {
        match session.payload() {
            0 => return Ok(false),
            1..LONG_AS_A_WHOLE => {
                self.short_runs += 1;
                self.long_runs = self.short_runs < SHORT_RUNS;
                return Ok(false);
            }
            _ => self.short_runs = 0,
        }
        if matches!(self.pipe, Pipe::NotYet) {
            self.pipe = match nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC) {
                Ok((from, to)) => {
                    // A smaller pipe works too.
                    let _ = fcntl(&to, FcntlArg::F_SETPIPE_SZ(PIPE));
                    Pipe::Open(from, to)
                }
                Err(_) => Pipe::Useless,
            };
        }
        let (Pipe::Open(from, to), Some(part)) = (&self.pipe, self.waiting.last()) else {
            self.long_runs = false;
            return Ok(false);
        };
        let (file, flags) = (Arc::clone(&part.file), SpliceFFlags::SPLICE_F_MOVE);
        let mut useless = false;
        while session.payload() > 0 && !useless {
            let most = usize::try_from(session.payload()).unwrap_or(usize::MAX).min(AT_ONCE_PIPED);
            let mut moved = match splice(self.socket.as_fd(), None, to, None, most, flags) {
                Ok(0) => return Err(self.gone()),
                Ok(moved) => moved,
                Err(Errno::EINTR) => continue,
                Err(Errno::EAGAIN) => return Err(PagesError::TimedOut("the next message")),
                Err(error) => {
                    return Err(PagesError::Socket { what: "receive", source: error.into() });
                }
            };
            session.passed(moved as u64);
            self.counters.bytes.fetch_add(moved as u64, Ordering::Relaxed);
            while moved > 0 {
                match splice(from, None, &file.file, None, moved, flags) {
                    Ok(now) => moved = moved.saturating_sub(now),
                    Err(Errno::EINTR) => {}
                    // The file system cannot read from a pipe: its bytes are copied.
                    Err(Errno::EINVAL) => {
                        let room = self.buffer.get_mut(..moved).unwrap_or_default();
                        let read = nix::unistd::read(from, room).map_err(|error| {
                            PagesError::Socket { what: "receive", source: error.into() }
                        })?;
                        let bytes = room.get(..read).unwrap_or_default();
                        (&file.file).write_all(bytes).map_err(PagesError::file(&file.path))?;
                        moved = moved.saturating_sub(read);
                        useless = true;
                    }
                    Err(error) => return Err(PagesError::file(&file.path)(error.into())),
                }
            }
        }
        if useless {
            (self.pipe, self.long_runs) = (Pipe::Useless, false);
        }
        Ok(true)
    }

    /// Writes the parts of the buffer that are pages.
    fn write_waiting(&mut self) -> Result<(), PagesError> {
        for part in &mut self.waiting {
            part.write(self.buffer, |_| {})?;
            part.ranges.clear();
        }
        // The last part belongs to the open object, which goes on.
        let done = self.waiting.len().saturating_sub(1);
        self.waiting.drain(..done);
        Ok(())
    }
}

impl PageReceiver for Connection<'_> {
    #[inline]
    fn unread(&self, _: &PageSession) -> &[u8] {
        self.buffer.get(self.window.clone()).unwrap_or_default()
    }

    #[inline]
    fn take(&mut self, bytes: usize) -> Result<(), PagesError> {
        self.window.start += bytes;
        Ok(())
    }

    /// Makes room for `need` unread bytes in all, and receives some.
    fn receive(&mut self, session: &mut PageSession, need: usize) -> Result<bool, PagesError> {
        let full = self.window.start.saturating_add(need) > self.buffer.len();
        if !self.keep || full || self.window.end == self.buffer.len() {
            self.write_waiting()?;
            if self.window.is_empty() {
                self.window = 0..0;
            } else if full || self.window.end == self.buffer.len() {
                self.buffer.copy_within(self.window.clone(), 0);
                self.window = 0..self.window.len();
            }
        }
        self.count();
        if self.begun.elapsed() > self.limits.total {
            return Err(PagesError::TimedOut("the session"));
        }
        if self.window.is_empty() && !self.keep && session.payload() >= LONG {
            self.long_runs = true;
        }
        if self.long_runs && self.window.is_empty() && self.splice_run(session)? {
            return Ok(true);
        }
        let end = if self.long_runs {
            // The header, or a short run and the next header, and nothing after that.
            let need = match usize::try_from(session.payload()).unwrap_or(usize::MAX) {
                0 => need,
                payload => payload.saturating_add(Layout::Wide.size()),
            };
            self.window.start.saturating_add(need).min(self.buffer.len())
        } else {
            self.buffer.len()
        };
        let room = self.buffer.get_mut(self.window.end..end).unwrap_or_default();
        match read(self.socket, room) {
            Ok(0) => Err(self.gone()),
            Ok(size) => {
                self.window.end += size;
                self.counters.bytes.fetch_add(size as u64, Ordering::Relaxed);
                Ok(true)
            }
            Err(error) if is_timeout(&error) => Err(PagesError::TimedOut("the next message")),
            Err(source) => Err(PagesError::Socket { what: "receive", source }),
        }
    }

    fn receive_or_assume(&mut self, session: &mut PageSession) -> Result<(), PagesError> {
        let set = |socket: &mut Socket, time| {
            socket.set_timeout(time).map_err(PagesError::socket("set up the connection"))
        };
        set(self.socket, Some(A_WHILE))?;
        let received = self.receive(session, Layout::Wide.size());
        set(self.socket, self.limits.idle)?;
        match received {
            Err(PagesError::TimedOut(_) | PagesError::Gone(_)) => {
                session.assume(Layout::Narrow);
                Ok(())
            }
            other => other.map(drop),
        }
    }

    fn answer(&mut self, bytes: &[u8]) -> Result<(), PagesError> {
        self.socket.write_all(bytes).map_err(PagesError::socket("answer"))
    }

    fn open(&mut self, object: PageObject) -> Result<(), PagesError> {
        self.received.objects += 1;
        self.store.begin(object)?;
        let file = self.store.pages().ok_or(PagesError::NoObject { address: 0 })?;
        self.waiting.push(Part { file, ranges: Vec::new() });
        Ok(())
    }

    fn parent_has(&mut self, object: PageObject) -> Result<bool, PagesError> {
        self.store.parent_has(object)
    }

    #[inline]
    fn run(
        &mut self,
        session: &PageSession,
        address: u64,
        pages: u64,
        flags: u16,
    ) -> Result<(), PagesError> {
        self.store.run(address, pages, flags)?;
        match session.payload() {
            0 => self.received.holes += pages,
            _ => self.received.pages += pages,
        }
        self.bytes = self.bytes.saturating_add(session.payload());
        if self.bytes > self.limits.bytes {
            return Err(PagesError::TooMuch(self.limits.bytes));
        }
        Ok(())
    }

    /// Notes that bytes belong to the open object.
    #[inline]
    fn payload(&mut self, bytes: usize) -> Result<(), PagesError> {
        let range = self.window.start..self.window.start + bytes;
        if let Some(part) = self.waiting.last_mut() {
            match part.ranges.last_mut() {
                Some(last) if last.end == range.start => last.end = range.end,
                _ => part.ranges.push(range),
            }
        }
        Ok(())
    }

    /// Stores what has been received. The answer is 0, or an errno if that fails.
    fn close(&mut self) -> Result<(), PagesError> {
        self.count();
        if self.keep {
            return self.answer(&0i32.to_ne_bytes());
        }
        let stored = self.write_waiting().and_then(|()| self.store.finish());
        let status: i32 = match &stored {
            Ok(()) => 0,
            Err(PagesError::Exists { .. }) => libc::EEXIST,
            Err(PagesError::File { source, .. }) => source.raw_os_error().unwrap_or(libc::EIO),
            Err(_) => libc::EIO,
        };
        self.answer(&status.to_ne_bytes())?;
        stored?;
        // The end that closes a TCP connection first keeps its port busy for a while: let it be the
        // client.
        self.socket.finish();
        self.socket.wait_for_end();
        Ok(())
    }
}

/// Writes all slices, with as few system calls as possible.
fn write_all(file: &mut &File, mut slices: &mut [IoSlice<'_>]) -> io::Result<()> {
    while !slices.is_empty() {
        let now = slices.len().min(AT_ONCE);
        match file.write_vectored(slices.get(..now).unwrap_or_default()) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(size) => IoSlice::advance_slices(&mut slices, size),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads some bytes. An interrupted call is repeated.
pub(super) fn read(socket: &mut Socket, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match socket.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

pub(super) fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

impl Received {
    /// Returns the number of bytes in the received pages.
    pub fn bytes(&self) -> u64 {
        self.pages.saturating_mul(page_size().bytes())
    }
}

impl fmt::Display for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { objects, pages, holes, served, time, .. } = self;
        write!(f, "{pages} pages of {objects} objects")?;
        if *holes > 0 {
            write!(f, ", {holes} left to the parent set")?;
        }
        if *served > 0 {
            write!(f, ", {served} served")?;
        }
        write!(f, " in {time:.3?}")
    }
}

/// The bytes of a connection's buffer.
const BUFFER: usize = 1 << 20;
/// The most slices that one system call writes.
const AT_ONCE: usize = 1024;
/// Runs are long when so many bytes of a run are still to come.
const LONG: u64 = 64 << 10;
/// The bytes of a run that a pipe takes as quickly as a buffer: shorter runs use the buffer.
const LONG_AS_A_WHOLE: u64 = 64 << 10;
/// Runs are short again after so many short ones.
const SHORT_RUNS: u32 = 8;
/// The bytes of the pipe.
const PIPE: i32 = 1 << 20;
/// The most bytes that one system call moves: no more than the buffer holds.
const AT_ONCE_PIPED: usize = BUFFER;
