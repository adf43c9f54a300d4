//! A connection of a provider: pages sent on request, straight from images.

use std::io::{self, Write};
use std::mem;
use std::sync::atomic::Ordering;

use criu_images::memory::{Content, PageObject, PageSet, PageSource, StoredPages};

use super::drive::{PageReceiver, drive};
use super::error::PagesError;
use super::limits::ServerLimits;
use super::metrics::Counters;
use super::page_size::page_size;
use super::patience::Patience;
use super::peer::{Peer, assume_after, in_session};
use super::proto::{Command, Header, Layout, PRESENT};
use super::receive::{Received, read};
use super::session::PageSession;
use super::shortage::Shortage;
use super::socket::{A_WHILE, Socket};

/// Sends a peer the pages of a set that it asks for, until the peer closes the session. A peer that
/// wants to store anything is refused. Brings the report up to date, also for a session that fails.
///
/// # Errors
/// [`PagesError`]. The peer learns of it by the end of the connection.
pub(super) fn serve_connection(
    socket: &mut Socket,
    set: &PageSet,
    layout: Option<Layout>,
    limits: &ServerLimits,
    counters: &Counters,
    report: &mut Received,
) -> Result<(), PagesError> {
    let (peer, source) = (Peer::new(socket, limits, counters), Source::new(set, limits));
    let mut serving = Serving { peer, source, unread: Vec::new(), served: 0 };
    serving.peer.prepare()?;
    let mut session = PageSession::new(layout);
    let ended = drive(&mut session, &mut serving);
    let Serving { peer, served, .. } = serving;
    let (layout, time, came) = (session.layout(), peer.time(), peer.came);
    *report = Received { served, came, layout, time, ..Received::default() };
    ended.map(drop).map_err(in_session)
}

/// A session whose peer fetches pages. It holds nothing that pages could be stored in.
struct Serving<'s> {
    peer: Peer<'s>,
    source: Source<'s>,
    unread: Vec<u8>,
    served: u64,
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
        let size = self.peer.hear(|socket| read(socket, &mut piece))?;
        self.unread.extend(piece.get(..size).unwrap_or_default());
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
        self.peer.patience.renew();
        let layout = session.layout().unwrap_or(Layout::Wide);
        let head = layout.size() as u64;
        let most = self.peer.budget.left().saturating_sub(head) / page_size().bytes();
        if most == 0 {
            return Err(self.peer.budget.fetched());
        }
        let sent = self.source.send(self.peer.socket, layout, pid, address, pages.min(most), id)?;
        self.served += sent;
        self.peer.counters.served.fetch_add(sent, Ordering::Relaxed);
        self.peer.budget.spend(head.saturating_add(sent.saturating_mul(page_size().bytes())))
    }

    fn close(&mut self) -> Result<(), PagesError> {
        self.peer.say(&0i32.to_ne_bytes())?;
        self.peer.part();
        Ok(())
    }
}

/// A set whose pages a connection serves.
struct Source<'s> {
    set: &'s PageSet,
    /// The tasks that pages have been sent of last, the last one at the end.
    tasks: Vec<(u32, StoredPages<'s>)>,
    shortage: Shortage,
}

impl<'s> Source<'s> {
    fn new(set: &'s PageSet, limits: &ServerLimits) -> Self {
        Self { set, tasks: Vec::new(), shortage: Shortage::within(limits) }
    }

    /// Returns the pages of a task. Those of [`TASKS`] tasks stay open.
    fn task(&mut self, pid: u32) -> Result<Option<&StoredPages<'s>>, PagesError> {
        let known = self.tasks.iter().position(|(known, _)| *known == pid);
        let task = match known {
            Some(at) => self.tasks.remove(at),
            None => {
                let (set, shortage) = (self.set, self.shortage);
                let open = |_: &mut Vec<_>| Ok(set.pages(PageObject::Task(pid))?);
                let free = |tasks: &mut Vec<_>| {
                    tasks.clear();
                    Ok(())
                };
                match shortage.wait_out(&mut self.tasks, open, free)? {
                    Some(pages) => (pid, pages),
                    None => return Ok(None),
                }
            }
        };
        if self.tasks.len() >= TASKS {
            self.tasks.remove(0);
        }
        self.tasks.push(task);
        Ok(self.tasks.last().map(|(_, pages)| pages))
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
        let task = self.task(pid)?.ok_or_else(|| no_page("there is no such task".to_owned()))?;
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

/// The tasks whose pages stay open. Each takes the memory of its pagemaps, and a descriptor for
/// each set of the chain.
const TASKS: usize = 16;
/// The most pages that are read into memory.
const PIECE: u64 = 256;
/// The bytes of requests that are received at once.
const BUFFER: usize = 4096;
