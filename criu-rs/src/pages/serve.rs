//! A connection of a provider: pages sent on request, straight from images.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::{self, Write};
use std::sync::atomic::Ordering;
use std::time::Instant;

use criu_images::memory::{Content, PageObject, PageSet, PageSource, StoredPages};

use super::deadline::Deadline;
use super::drive::{PageReceiver, drive};
use super::error::PagesError;
use super::limits::ServerLimits;
use super::metrics::Counters;
use super::page_size::page_size;
use super::proto::{Command, Header, Layout, PRESENT};
use super::receive::{Received, is_timeout, read};
use super::session::PageSession;
use super::socket::{A_WHILE, Socket};

/// Sends a peer the pages of a set that it asks for, until the peer closes the session. A peer that
/// wants to store anything is refused.
///
/// # Errors
/// [`PagesError`]. The peer learns of it by the end of the connection.
pub(super) fn serve_connection(
    socket: &mut Socket,
    set: &PageSet,
    layout: Option<Layout>,
    limits: &ServerLimits,
    counters: &Counters,
) -> Result<Received, PagesError> {
    let begun = Instant::now();
    socket.set_deadline(Some(Deadline::after(limits.total, begun)));
    let prepared = socket.prepare(limits.idle);
    prepared.map_err(PagesError::socket("set up the connection"))?;
    let (source, received) = (Source::new(set), Received::default());
    let mut serving =
        Serving { socket, source, unread: Vec::new(), received, limits, counters, bytes: 0 };
    let mut session = PageSession::new(layout);
    drive(&mut session, &mut serving).map_err(in_time)?;
    Ok(Received { layout: session.layout(), time: begun.elapsed(), ..serving.received })
}

/// Names the limit that a wait has passed.
fn in_time(error: PagesError) -> PagesError {
    match error {
        PagesError::Deadline(_) => PagesError::TimedOut("the session"),
        PagesError::Socket { source, .. } if is_timeout(&source) => {
            PagesError::TimedOut("the next message")
        }
        error => error,
    }
}

/// A session whose peer fetches pages. It holds nothing that pages could be stored in.
struct Serving<'s> {
    socket: &'s mut Socket,
    source: Source<'s>,
    unread: Vec<u8>,
    received: Received,
    limits: &'s ServerLimits,
    counters: &'s Counters,
    /// The number of bytes received.
    bytes: u64,
}

impl PageReceiver for Serving<'_> {
    fn unread(&self, _: &PageSession) -> &[u8] {
        &self.unread
    }

    fn take(&mut self, bytes: usize) -> Result<(), PagesError> {
        self.unread.drain(..bytes.min(self.unread.len()));
        Ok(())
    }

    fn receive(&mut self, _: &mut PageSession, _: usize) -> Result<bool, PagesError> {
        let mut piece = [0; BUFFER];
        let size = read(self.socket, &mut piece).map_err(PagesError::socket("receive"))?;
        if size == 0 && self.counters.stopping.load(Ordering::Relaxed) {
            return Err(PagesError::Stopped);
        }
        if size == 0 {
            return Err(PagesError::Gone(self.bytes));
        }
        self.unread.extend(piece.get(..size).unwrap_or_default());
        self.bytes = self.bytes.saturating_add(size as u64);
        self.counters.bytes.fetch_add(size as u64, Ordering::Relaxed);
        Ok(true)
    }

    fn receive_or_assume(&mut self, session: &mut PageSession) -> Result<(), PagesError> {
        let set = |socket: &mut Socket, time| {
            socket.set_timeout(time).map_err(PagesError::socket("set up the connection"))
        };
        set(self.socket, Some(A_WHILE))?;
        let received = self.receive(session, Layout::Wide.size()).map_err(in_time);
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

    fn open(&mut self, _: PageObject) -> Result<(), PagesError> {
        Err(PagesError::OnlyServes)
    }

    fn parent_has(&mut self, _: PageObject) -> Result<bool, PagesError> {
        Err(PagesError::OnlyServes)
    }

    fn run(&mut self, _: &PageSession, _: u64, _: u64, _: u16) -> Result<(), PagesError> {
        Err(PagesError::OnlyServes)
    }

    fn send(
        &mut self,
        session: &PageSession,
        pid: u32,
        address: u64,
        pages: u64,
        id: u64,
    ) -> Result<(), PagesError> {
        let layout = session.layout().unwrap_or(Layout::Wide);
        let sent = self.source.send(self.socket, layout, pid, address, pages, id)?;
        self.received.served += sent;
        self.counters.served.fetch_add(sent, Ordering::Relaxed);
        Ok(())
    }

    fn close(&mut self) -> Result<(), PagesError> {
        self.answer(&0i32.to_ne_bytes())?;
        // The end that closes a TCP connection first keeps its port busy for a while: let it be the
        // client.
        self.socket.finish();
        self.socket.wait_for_end();
        Ok(())
    }
}

/// A set whose pages a connection serves.
struct Source<'s> {
    set: &'s PageSet,
    /// The tasks that pages have been sent of.
    tasks: HashMap<u32, StoredPages<'s>>,
}

impl<'s> Source<'s> {
    fn new(set: &'s PageSet) -> Self {
        Self { set, tasks: HashMap::new() }
    }

    /// Answers a request for at most `pages` pages with those that lie together. Returns their
    /// number.
    fn send(
        &mut self,
        socket: &mut Socket,
        layout: Layout,
        pid: u32,
        address: u64,
        pages: u64,
        id: u64,
    ) -> Result<u64, PagesError> {
        let no_page = |why: String| PagesError::NoPage { pid, address, why };
        let task = match self.tasks.entry(pid) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let found = self.set.pages(PageObject::Task(pid))?;
                new.insert(found.ok_or_else(|| no_page("there is no such task".to_owned()))?)
            }
        };
        let page = page_size().bytes();
        let chunk = task.chunk(address)?;
        if let Content::Absent(why) = chunk.content {
            return Err(no_page(why.to_string()));
        }
        let together = chunk.end.saturating_sub(address) / page;
        // Pages that no file holds as they are, such as compressed ones, are read into memory
        // first.
        let in_file = task.in_file(address)?;
        let most = if in_file.is_some() { u64::MAX } else { PIECE };
        let count = pages.min(together).min(most).min(u32::MAX.into());
        let header = Header { command: Command::AddF, flags: PRESENT, pages: count, address, id };
        let head = header.to_bytes(layout).unwrap_or_default();
        let sent = PagesError::socket("send pages");
        let head = head.get(..layout.size()).unwrap_or_default();
        let size = count.saturating_mul(page);
        match in_file {
            Some((file, offset, _)) => {
                // The header goes together with the pages.
                socket.write_more(head).map_err(&sent)?;
                socket.send_file(file, offset, size).map_err(|error| match error.kind() {
                    io::ErrorKind::UnexpectedEof => no_page("the pages file ends early".to_owned()),
                    _ => sent(error),
                })?;
            }
            None => {
                let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
                task.read_at(address, &mut bytes)?;
                socket.write_all(head).map_err(&sent)?;
                socket.write_all(&bytes).map_err(&sent)?;
            }
        }
        Ok(count)
    }
}

/// The most pages that are read into memory.
const PIECE: u64 = 256;
/// The bytes of requests that are received at once.
const BUFFER: usize = 4096;
