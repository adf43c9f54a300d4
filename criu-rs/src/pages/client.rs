//! The client of a page server.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use criu_images::memory::{Content, PageFlags, PageObject, PageSet, PageSource, StoredPages};

use super::deadline::Deadline;
use super::drive::{PageReceiver, drive};
use super::error::PagesError;
use super::page_size::page_size;
use super::proto::{Command, Header, LAZY, Layout, PARENT, PRESENT, object_id};
use super::session::{PageProtocolError, PageSession};
use super::socket::Socket;
#[cfg(feature = "tls")]
use crate::value::Tls;

/// A client of a page server, ours or CRIU's: sends the pages of a checkpoint and fetches pages.
///
/// ```no_run
/// use criu_rs::pages::{Client, Layout};
///
/// // Sends the pages of a checkpoint whose other images have been copied already.
/// let mut client = Client::connect("198.51.100.7:27000", Layout::Wide)?;
/// let sent = client.send_set("/ckpt")?;
/// client.close()?;
/// println!("{} pages", sent.pages);
/// # Ok::<(), criu_rs::pages::PagesError>(())
/// ```
#[derive(Debug)]
#[must_use = "the server keeps nothing unless close is called"]
pub struct Client {
    socket: Socket,
    layout: Layout,
    /// The object that pages belong to; `true` if the server's parent set has it.
    open: Option<(PageObject, bool)>,
}

/// The numbers of what a client has sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sent {
    /// Objects, such as the memory of a task.
    pub objects: u64,
    /// Pages sent with their bytes.
    pub pages: u64,
    /// Pages left to the server's parent set.
    pub holes: u64,
}

impl Client {
    /// Connects over TCP. The caller has to know the server's layout, which the protocol does not
    /// tell.
    ///
    /// # Errors
    /// [`PagesError::Socket`] if connecting fails.
    pub fn connect(address: impl ToSocketAddrs, layout: Layout) -> Result<Self, PagesError> {
        let tcp = TcpStream::connect(address).map_err(PagesError::socket("connect"))?;
        tcp.set_nodelay(true).map_err(PagesError::socket("set up the connection"))?;
        Ok(Self::new(Socket::from(tcp), layout))
    }

    /// Connects over TCP and agrees on TLS, within 10 seconds. The server's certificate has to be
    /// for this host, unless [any name](crate::Tls::any_name) is accepted.
    ///
    /// # Errors
    /// [`PagesError`] if connecting fails, a file cannot be used or either end refuses the other's
    /// certificate. A server that refuses may say so only in a later call.
    #[cfg(feature = "tls")]
    pub fn connect_tls(
        host: &str,
        port: u16,
        tls: &Tls,
        layout: Layout,
    ) -> Result<Self, PagesError> {
        let tls = super::tls::client(tls, host)?;
        let mut client = Self::connect((host, port), layout)?;
        super::tls::encrypt(&mut client.socket, tls)?;
        Ok(client)
    }

    /// Connects to a unix socket.
    ///
    /// # Errors
    /// [`PagesError::Socket`] if connecting fails.
    pub fn connect_unix(path: impl AsRef<Path>, layout: Layout) -> Result<Self, PagesError> {
        let unix = UnixStream::connect(path).map_err(PagesError::socket("connect"))?;
        Ok(Self::new(Socket::from(unix), layout))
    }

    /// A client over a connected socket.
    pub fn new(socket: Socket, layout: Layout) -> Self {
        Self { socket, layout, open: None }
    }

    /// Bounds the whole exchange, from this call to the end of [`close`](Self::close). Without a
    /// deadline a client waits for its peer as long as the connection lasts.
    ///
    /// At the deadline a waiting call fails with [`PagesError::Deadline`], and so does every later
    /// call, even if the peer still sends now and then. The time to connect is not included. The
    /// socket becomes non-blocking, also for others who share it.
    pub fn deadline(mut self, limit: Duration) -> Self {
        self.socket.set_deadline(Some(Deadline::after(limit, Instant::now())));
        self
    }

    /// Sends all pages of the set in a directory, shared memory first, as CRIU does.
    ///
    /// Pages that the set leaves to its parent set are left to the server's parent set if that has
    /// the object, and are sent otherwise.
    ///
    /// # Errors
    /// [`PagesError`] if an image cannot be read or the connection fails.
    pub fn send_set(&mut self, directory: impl AsRef<Path>) -> Result<Sent, PagesError> {
        let set = PageSet::open(directory.as_ref(), page_size())?;
        let mut objects = set.objects()?;
        objects.sort_by_key(|object| matches!(object, PageObject::Task(_)));
        let mut sent = Sent::default();
        for object in objects {
            if let Some(pages) = set.pages(object)? {
                self.send_object(object, &pages, &mut sent)?;
            }
        }
        Ok(sent)
    }

    /// Begins an object. Returns `true` if the server's parent set has it.
    pub(super) fn begin(&mut self, object: PageObject) -> Result<bool, PagesError> {
        let id = object_id(object);
        self.put(Header { command: Command::Open2, flags: 0, pages: 0, address: 0, id })?;
        let mut answer = [0];
        self.get(&mut answer)?;
        let has_parent = answer == [1];
        self.open = Some((object, has_parent));
        Ok(has_parent)
    }

    /// Announces a run of pages of the object that was begun last. The bytes of present pages have
    /// to follow.
    ///
    /// # Errors
    /// [`PagesError::Hole`] if the pages are left to a parent set that does not have the object,
    /// and the errors of the connection.
    pub(super) fn run(&mut self, address: u64, pages: u64, flags: u16) -> Result<(), PagesError> {
        let (object, has_parent) = self.open.ok_or(PagesError::NoObject { address })?;
        if flags & PARENT != 0 && !has_parent {
            return Err(PagesError::Hole { object: object.file_name(), address });
        }
        let id = object_id(object);
        self.put(Header { command: Command::AddF, flags, pages, address, id })
    }

    /// Sends bytes of the pages that were announced.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> Result<(), PagesError> {
        self.socket.write_all(bytes).map_err(PagesError::socket("send pages"))
    }

    /// Sends the bytes of a dump's session, of either layout, without the last header, which is for
    /// [`close`](Self::close). Calls `wrote` with the bytes of pages sent since the last call.
    pub(super) fn replay(
        &mut self,
        bytes: &[u8],
        wrote: impl FnMut(usize),
    ) -> Result<Sent, PagesError> {
        let mut replay = Replay { client: self, bytes, sent: Sent::default(), wrote };
        let closed = drive(&mut PageSession::new(None), &mut replay)?;
        let sent = replay.sent;
        if !closed {
            return Err(PagesError::Gone(sent.pages.saturating_mul(page_size().bytes())));
        }
        Ok(sent)
    }

    fn send_object(
        &mut self,
        object: PageObject,
        stored: &StoredPages<'_>,
        sent: &mut Sent,
    ) -> Result<(), PagesError> {
        let id = object_id(object);
        let has_parent = self.begin(object)?;
        sent.objects += 1;
        let page = page_size().bytes();
        for run in stored.runs() {
            let lazy = if run.flags.contains(PageFlags::LAZY) { LAZY } else { 0 };
            if run.flags.contains(PageFlags::PARENT) && has_parent {
                let (flags, pages, address) = (PARENT, run.pages, run.start);
                self.put(Header { command: Command::AddF, flags, pages, address, id })?;
                sent.holes += pages;
                continue;
            }
            let (mut at, end) =
                (run.start, run.start.saturating_add(run.pages.saturating_mul(page)));
            while at < end {
                let chunk = stored.chunk(at)?.until(end);
                let most = u64::from(u32::MAX).min(PIECE);
                let pages = (chunk.size() / page).min(most).max(1);
                if let Content::Absent(_) = chunk.content {
                    // The dump kept these pages back: there are no bytes to send.
                    let flags = LAZY;
                    self.put(Header { command: Command::AddF, flags, pages, address: at, id })?;
                    at = at.saturating_add(pages.saturating_mul(page));
                    continue;
                }
                let flags = PRESENT | lazy;
                self.put(Header { command: Command::AddF, flags, pages, address: at, id })?;
                self.send_pages(stored, at, pages.saturating_mul(page))?;
                sent.pages += pages;
                at = at.saturating_add(pages.saturating_mul(page));
            }
        }
        Ok(())
    }

    fn send_pages(
        &mut self,
        stored: &StoredPages<'_>,
        address: u64,
        size: u64,
    ) -> Result<(), PagesError> {
        let failed = PagesError::socket("send pages");
        if let Some((file, offset, _)) = stored.in_file(address)? {
            return self.socket.send_file(file, offset, size).map_err(failed);
        }
        let mut left = usize::try_from(size).unwrap_or(usize::MAX);
        let mut at = address;
        let mut buffer = vec![0; left.min(1 << 20)];
        while left > 0 {
            let now = left.min(buffer.len());
            let piece = buffer.get_mut(..now).unwrap_or_default();
            stored.read_at(at, piece)?;
            self.socket.write_all(piece).map_err(&failed)?;
            left -= now;
            at = at.saturating_add(now as u64);
        }
        Ok(())
    }

    /// Asks the server for an object of its parent set. Returns `true` if there is one.
    ///
    /// # Errors
    /// [`PagesError`] if the connection fails.
    pub fn parent_has(&mut self, object: PageObject) -> Result<bool, PagesError> {
        let id = object_id(object);
        self.put(Header { command: Command::Parent, flags: 0, pages: 0, address: 0, id })?;
        let mut answer = [0; 4];
        self.get(&mut answer)?;
        Ok(i32::from_ne_bytes(answer) != 0)
    }

    /// Fetches pages of a task, at most so many from an address on. Returns their bytes: at least
    /// one page, at most those that lie together in the server's images.
    ///
    /// # Errors
    /// [`PagesError`] if the connection fails. A server that does not have the pages ends the
    /// connection.
    pub fn fetch(&mut self, pid: u32, address: u64, pages: u64) -> Result<Vec<u8>, PagesError> {
        let id = pid.into();
        self.put(Header { command: Command::Get, flags: 0, pages, address, id })?;
        let mut head = [0; 32];
        let size = self.layout.size();
        self.get(head.get_mut(..size).unwrap_or_default())?;
        let wrong = |what: String| PagesError::Protocol(PageProtocolError { at: 0, what });
        let answer = Header::parse(self.layout, &head);
        let answer = answer.map_err(|word| wrong(format!("unknown command {word:#x}")))?;
        if answer.address != address || answer.id != id || !(1..=pages).contains(&answer.pages) {
            return Err(wrong(format!(
                "the answer has {} pages at {:#x}, not {pages} at {address:#x} or fewer",
                answer.pages, answer.address
            )));
        }
        let bytes = answer.pages.saturating_mul(page_size().bytes());
        let mut found = vec![0; usize::try_from(bytes).unwrap_or(0)];
        self.get(&mut found)?;
        Ok(found)
    }

    /// Tells the server that everything has been sent, and waits until the server has stored it.
    ///
    /// # Errors
    /// [`PagesError::Refused`] if the server could not store everything, and other [`PagesError`]s
    /// if the connection fails.
    pub fn close(mut self) -> Result<(), PagesError> {
        self.end()
    }

    /// Does what [`close`](Self::close) does. Nothing may follow.
    pub(super) fn end(&mut self) -> Result<(), PagesError> {
        self.put(Header { command: Command::Close, flags: 0, pages: 0, address: 0, id: 0 })?;
        let mut answer = [0; 4];
        self.get(&mut answer)?;
        self.socket.part();
        match i32::from_ne_bytes(answer) {
            0 => Ok(()),
            status => Err(PagesError::Refused(status)),
        }
    }

    fn put(&mut self, header: Header) -> Result<(), PagesError> {
        let bytes = header.to_bytes(self.layout).unwrap_or_default();
        let bytes = bytes.get(..self.layout.size()).unwrap_or_default();
        self.socket.write_all(bytes).map_err(PagesError::socket("send"))
    }

    fn get(&mut self, buffer: &mut [u8]) -> Result<(), PagesError> {
        self.socket.read_exact(buffer).map_err(PagesError::socket("wait for an answer"))
    }
}

/// A dump's session on its way through a client, from memory.
struct Replay<'a, W> {
    client: &'a mut Client,
    /// The rest of the session's bytes.
    bytes: &'a [u8],
    sent: Sent,
    wrote: W,
}

impl<W: FnMut(usize)> PageReceiver for Replay<'_, W> {
    fn unread(&self, _: &PageSession) -> &[u8] {
        self.bytes
    }

    fn take(&mut self, bytes: usize) -> Result<(), PagesError> {
        self.bytes = self.bytes.get(bytes..).unwrap_or_default();
        Ok(())
    }

    /// Returns `false`: all bytes were there from the beginning.
    fn receive(&mut self, _: &mut PageSession, _: usize) -> Result<bool, PagesError> {
        Ok(false)
    }

    /// Does nothing: the dump had its answers before.
    fn answer(&mut self, _: &[u8]) -> Result<(), PagesError> {
        Ok(())
    }

    fn open(&mut self, object: PageObject) -> Result<(), PagesError> {
        self.client.begin(object)?;
        self.sent.objects += 1;
        Ok(())
    }

    fn run(
        &mut self,
        session: &PageSession,
        address: u64,
        pages: u64,
        flags: u16,
    ) -> Result<(), PagesError> {
        self.client.run(address, pages, flags)?;
        match session.payload() {
            0 => self.sent.holes += pages,
            _ => self.sent.pages += pages,
        }
        Ok(())
    }

    fn payload(&mut self, bytes: usize) -> Result<(), PagesError> {
        let pages = self.bytes.get(..bytes).unwrap_or_default();
        self.client.bytes(pages)?;
        (self.wrote)(bytes);
        Ok(())
    }
}

/// The most pages that one header announces.
const PIECE: u64 = 1 << 20;
