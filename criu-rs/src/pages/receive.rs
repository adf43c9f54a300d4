//! A connection of a page server: receives pages into a store and sends those of a set.

use std::io::{self, Read};
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::{fmt, mem};

use criu_images::memory::PageObject;

use super::drive::{PageReceiver, drive};
use super::error::PagesError;
use super::limits::ServerLimits;
use super::metrics::Counters;
use super::page_size::page_size;
use super::patience::Patience;
use super::peer::{Peer, assume_after, in_session};
use super::pipe::Pipe;
use super::proto::{Layout, PARENT};
use super::session::PageSession;
use super::socket::{A_WHILE, Socket};
use super::store::{Part, Store};

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
    /// Pages that the client keeps and serves later.
    pub lazy: u64,
    /// Pages sent on request.
    pub served: u64,
    /// Bytes that came, headers included.
    pub came: u64,
    /// The layout that the peer spoke, if it showed.
    pub layout: Option<Layout>,
    /// The time that the connection took.
    pub time: Duration,
}

/// Stores the pages that a peer sends, until the peer closes the session. Brings the report up to
/// date, also for a session that fails.
///
/// At most 1 MiB of received bytes is in memory, 60 bytes for each object, and what the parent
/// set's pagemap of the open object takes.
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
    report: &mut Received,
) -> Result<(), PagesError> {
    let mut buffer = vec![0; BUFFER];
    Connection::new(socket, store, &mut buffer, limits, counters).run(layout, report)
}

/// Receives a peer's pages until it closes the session, and leaves them in `buffer`: returns the
/// parts that belong into the store. Brings the report up to date, also for a session that fails.
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
    report: &mut Received,
) -> Result<Vec<Part>, PagesError> {
    store.late();
    let mut connection = Connection::new(socket, store, buffer, limits, counters);
    connection.keep = true;
    connection.run(layout, report)?;
    Ok(connection.waiting)
}

struct Connection<'c> {
    peer: Peer<'c>,
    store: &'c mut Store,
    buffer: &'c mut [u8],
    /// Tells that received bytes stay in the buffer while there is room.
    keep: bool,
    /// The part of the buffer that has been received and not been taken.
    window: Range<usize>,
    /// The parts of the buffer that are to be written, the last one for the open object. Without
    /// `keep` there is no other.
    waiting: Vec<Part>,
    received: Received,
    /// The bytes of pages that have come.
    payload: u64,
    /// Pages and holes that the shared counters have already.
    counted: (u64, u64),
    /// Tells that runs are long: headers are read alone, and pages go through a pipe.
    long_runs: bool,
    /// The number of short runs since the last long one.
    short_runs: u32,
    pipe: Pipe,
}

impl<'c> Connection<'c> {
    fn new(
        socket: &'c mut Socket,
        store: &'c mut Store,
        buffer: &'c mut [u8],
        limits: &'c ServerLimits,
        counters: &'c Counters,
    ) -> Self {
        let pipe = Pipe::new(socket);
        Self {
            peer: Peer::new(socket, limits, counters),
            store,
            buffer,
            keep: false,
            window: 0..0,
            waiting: Vec::new(),
            received: Received::default(),
            payload: 0,
            counted: (0, 0),
            long_runs: false,
            short_runs: 0,
            pipe,
        }
    }

    fn run(&mut self, layout: Option<Layout>, report: &mut Received) -> Result<(), PagesError> {
        self.peer.prepare()?;
        let mut session = PageSession::new(layout);
        let ended = drive(&mut session, self);
        self.count();
        let (layout, time) = (session.layout(), self.peer.time());
        *report = Received { layout, time, came: self.peer.came, ..self.received };
        ended.map(drop).map_err(in_session)
    }

    /// Brings the report and the shared counters up to date: counts pages of which all bytes have
    /// come.
    fn count(&mut self) {
        self.received.pages = self.payload / page_size().bytes();
        let Received { pages, holes, .. } = self.received;
        let (counted_pages, counted_holes) = self.counted;
        self.peer.counters.pages.fetch_add(pages.saturating_sub(counted_pages), Ordering::Relaxed);
        self.peer.counters.holes.fetch_add(holes.saturating_sub(counted_holes), Ordering::Relaxed);
        self.counted = (pages, holes);
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
        let file = self.store.pages();
        let Some(file) = file.filter(|_| self.pipe.is_open()) else {
            self.long_runs = false;
            return Ok(false);
        };
        while session.payload() > 0 && self.pipe.is_open() {
            let most = usize::try_from(session.payload()).unwrap_or(usize::MAX).min(AT_ONCE_PIPED);
            let moved = self.peer.hear(|socket| self.pipe.receive(socket, most))?;
            session.passed(moved as u64);
            self.payload = self.payload.saturating_add(moved as u64);
            self.count();
            self.pipe.empty(&file, moved, self.buffer)?;
        }
        self.long_runs = self.pipe.is_open();
        Ok(true)
    }

    /// Writes the parts of the buffer that are pages.
    fn write_waiting(&mut self) -> Result<(), PagesError> {
        for part in &mut self.waiting {
            self.store.write(part, self.buffer, |_| {})?;
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
        let size = self.peer.hear(|socket| read(socket, room))?;
        self.window.end += size;
        Ok(true)
    }

    fn receive_or_assume(&mut self, session: &mut PageSession) -> Result<(), PagesError> {
        let patience = mem::replace(&mut self.peer.patience, Patience::new(Some(A_WHILE)));
        let received = self.receive(session, Layout::Wide.size());
        self.peer.patience = patience;
        assume_after(received, session)
    }

    fn answer(&mut self, bytes: &[u8]) -> Result<(), PagesError> {
        self.peer.say(bytes)
    }

    fn open(&mut self, object: PageObject) -> Result<(), PagesError> {
        self.peer.patience.renew();
        self.peer.budget.begin()?;
        if !self.keep {
            // The file of the object before is about to be closed.
            self.write_waiting()?;
        }
        self.store.begin(object)?;
        self.received.objects += 1;
        if self.waiting.last().is_some_and(|part| part.ranges.is_empty()) {
            self.waiting.pop();
        }
        self.waiting.extend(self.store.part());
        Ok(())
    }

    fn parent_has(&mut self, object: PageObject) -> Result<bool, PagesError> {
        self.peer.patience.renew();
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
        self.peer.patience.renew();
        // The header is counted, and what else has been received and not been taken.
        let head = session.layout().map_or(0, Layout::size);
        let unread = self.window.len().saturating_sub(head) as u64;
        self.peer.budget.promise(session.payload().saturating_sub(unread))?;
        self.store.run(address, pages, flags)?;
        if session.payload() == 0 {
            let kind = match flags & PARENT {
                0 => &mut self.received.lazy,
                _ => &mut self.received.holes,
            };
            *kind = kind.saturating_add(pages);
        }
        Ok(())
    }

    /// Notes that bytes belong to the open object.
    #[inline]
    fn payload(&mut self, bytes: usize) -> Result<(), PagesError> {
        self.payload = self.payload.saturating_add(bytes as u64);
        let range = self.window.start..self.window.start + bytes;
        if let Some(part) = self.waiting.last_mut() {
            match part.ranges.last_mut() {
                Some(last) if last.end == range.start => last.end = range.end,
                _ => part.ranges.push(range),
            }
        }
        Ok(())
    }

    /// Stores what has been received. The answer is 0, or an errno if that fails. What has been
    /// stored is removed again if the answer cannot be sent.
    fn close(&mut self) -> Result<(), PagesError> {
        self.count();
        if self.keep {
            return self.peer.say(&0i32.to_ne_bytes());
        }
        let stored = self.write_waiting().and_then(|()| self.store.name());
        let status: i32 = match &stored {
            Ok(()) => 0,
            Err(PagesError::Exists { .. }) => libc::EEXIST,
            Err(PagesError::File { source, .. }) => source.raw_os_error().unwrap_or(libc::EIO),
            Err(_) => libc::EIO,
        };
        let said = self.peer.say(&status.to_ne_bytes());
        stored?;
        said?;
        self.store.keep();
        self.peer.part();
        Ok(())
    }
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

impl Received {
    /// Returns the number of bytes in the received pages.
    pub fn bytes(&self) -> u64 {
        self.pages.saturating_mul(page_size().bytes())
    }
}

impl fmt::Display for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { objects, pages, holes, lazy, served, time, .. } = self;
        write!(f, "{pages} pages of {objects} objects")?;
        if *holes > 0 {
            write!(f, ", {holes} left to the parent set")?;
        }
        if *lazy > 0 {
            write!(f, ", {lazy} left for later")?;
        }
        if *served > 0 {
            write!(f, ", {served} served")?;
        }
        write!(f, " in {time:.3?}")
    }
}

/// The bytes of a connection's buffer.
const BUFFER: usize = 1 << 20;
/// Runs are long when so many bytes of a run are still to come.
const LONG: u64 = 64 << 10;
/// The bytes of a run that a pipe takes as quickly as a buffer: shorter runs use the buffer.
const LONG_AS_A_WHOLE: u64 = 64 << 10;
/// Runs are short again after so many short ones.
const SHORT_RUNS: u32 = 8;
/// The most bytes that one system call moves: no more than the buffer holds.
const AT_ONCE_PIPED: usize = BUFFER;
