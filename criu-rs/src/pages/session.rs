//! A session of a page server without its socket: bytes in, steps out.

use criu_images::memory::PageObject;

use super::page_size::page_size;
use super::proto::{self, Command, Header, Layout, Recognised};

/// A page server's session as a state machine: turns the bytes of a client into [`PageStep`]s.
///
/// The session does no I/O and keeps no bytes. Its driver hands over the received bytes that have
/// not been taken yet, in pieces of any size, does what each step says, and sends the answers.
/// [`drive`](super::drive) is that loop.
///
/// ```
/// use criu_rs::pages::{Layout, PageSession, PageStep};
///
/// let mut session = PageSession::new(Some(Layout::Wide));
/// // Asks for the parent set's object of task 7.
/// let bytes = [&[5, 0, 0, 0][..], &[0; 20], &[1, 7, 0, 0, 0, 0, 0, 0]].concat();
/// let (taken, step) = session.next(&bytes)?;
/// assert!(matches!(step, PageStep::Parent { .. }) && taken == 32);
/// # Ok::<(), criu_rs::pages::PageProtocolError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a session does nothing until it is driven"]
pub struct PageSession {
    layout: Option<Layout>,
    page_size: u64,
    /// The object that pages belong to, and the end of its last run.
    open: Option<(PageObject, u64)>,
    /// Bytes of the present run that have not been taken.
    payload: u64,
    ended: bool,
    /// The number of bytes taken.
    at: u64,
}

/// A step of a session, which its driver takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PageStep {
    /// A request to receive more: at least this many untaken bytes are needed in all.
    More(usize),
    /// A request to wait a while for more bytes. The first header closes the session, so the layout
    /// is not known. If no bytes come, call [`assume`](PageSession::assume) with the narrow layout.
    MoreOrAssume,
    /// The beginning of an object. With `answer`, the driver answers one byte: 1 if the parent set
    /// has the object, else 0.
    Open {
        /// The object that begins.
        object: PageObject,
        /// Tells that the peer waits for the byte.
        answer: bool,
    },
    /// A question for an object of the parent set. The driver answers four bytes: 1 if the parent
    /// set has the object, else 0.
    Parent {
        /// The object that is asked for.
        object: PageObject,
    },
    /// A run of pages of the open object. The bytes of present pages follow. Addresses ascend.
    Run {
        /// The address of the first page.
        address: u64,
        /// The number of pages.
        pages: u64,
        /// The flags of the pages, as in a pagemap.
        flags: u16,
    },
    /// Bytes of the run: so many of the next ones.
    Payload(usize),
    /// A request for pages.
    Get {
        /// The pid of the task.
        pid: u32,
        /// The address of the first page.
        address: u64,
        /// The largest number of pages to send.
        pages: u64,
        /// The id that the answer repeats.
        id: u64,
    },
    /// The end: the peer has sent everything. The driver answers four bytes: 0, or an errno if not
    /// everything could be stored.
    Close,
    /// The state after the end, in which no more bytes may come.
    Ended,
}

/// The error of a peer that breaks the protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("byte {at} of the session: {what}")]
pub struct PageProtocolError {
    /// The offset in the received bytes.
    pub at: u64,
    /// The fault.
    pub what: String,
}

impl PageSession {
    /// A session in a layout. With `None`, its first bytes show the layout.
    pub fn new(layout: Option<Layout>) -> Self {
        Self { layout, page_size: page_size().bytes(), open: None, payload: 0, ended: false, at: 0 }
    }

    /// Returns the layout, as soon as it is known.
    pub fn layout(&self) -> Option<Layout> {
        self.layout
    }

    /// Settles the layout of a session that does not show it. A known layout stays.
    pub fn assume(&mut self, layout: Layout) {
        self.layout.get_or_insert(layout);
    }

    /// Returns the bytes of the present run that have not been taken.
    pub fn payload(&self) -> u64 {
        self.payload
    }

    /// Takes bytes of the present run that its driver moved without showing them to the session.
    pub fn passed(&mut self, bytes: u64) {
        self.payload = self.payload.saturating_sub(bytes);
        self.at = self.at.saturating_add(bytes);
    }

    /// Returns `true` when the session has been closed, so that it may end.
    pub fn may_end(&self) -> bool {
        self.ended
    }

    /// Looks at the received bytes that have not been taken yet. Returns how many of them it takes,
    /// and the next step.
    ///
    /// # Errors
    /// [`PageProtocolError`] if the peer breaks the protocol. The session cannot go on then.
    pub fn next(&mut self, bytes: &[u8]) -> Result<(usize, PageStep), PageProtocolError> {
        if self.payload > 0 {
            let now = usize::try_from(self.payload).unwrap_or(usize::MAX).min(bytes.len());
            if now == 0 {
                return Ok((0, PageStep::More(1)));
            }
            self.passed(now as u64);
            return Ok((now, PageStep::Payload(now)));
        }
        if self.ended {
            if bytes.is_empty() {
                return Ok((0, PageStep::Ended));
            }
            return Err(self.wrong("comes after the end"));
        }
        let layout = match self.layout {
            Some(layout) => layout,
            None => match Layout::recognise(bytes) {
                Recognised::Yes(layout) => *self.layout.insert(layout),
                Recognised::At(need) => return Ok((0, PageStep::More(need))),
                Recognised::IfMore => return Ok((0, PageStep::MoreOrAssume)),
            },
        };
        let size = layout.size();
        let Some(head) = bytes.get(..size) else {
            return Ok((0, PageStep::More(size)));
        };
        let mut whole = [0; 32];
        for (to, from) in whole.iter_mut().zip(head) {
            *to = *from;
        }
        let header = Header::parse(layout, &whole)
            .map_err(|word| self.wrong(format!("unknown command {word:#x}")))?;
        if let Some(object) = self.begins(&header)? {
            self.open = Some((object, 0));
            return Ok((0, PageStep::Open { object, answer: false }));
        }
        let step = self.step(header)?;
        self.at = self.at.saturating_add(size as u64);
        Ok((size, step))
    }

    /// Returns the object that a run begins without an `Open`, as very old CRIUs send it.
    fn begins(&self, header: &Header) -> Result<Option<PageObject>, PageProtocolError> {
        if !matches!(header.command, Command::Add | Command::Hole | Command::AddF) {
            return Ok(None);
        }
        let object = self.object(header.id)?;
        Ok(Some(object).filter(|object| self.open.is_none_or(|(open, _)| open != *object)))
    }

    fn object(&self, id: u64) -> Result<PageObject, PageProtocolError> {
        proto::object(id).ok_or_else(|| self.wrong(format!("no object has the id {id:#x}")))
    }

    fn step(&mut self, header: Header) -> Result<PageStep, PageProtocolError> {
        let Header { command, flags, pages, address, id } = header;
        match command {
            Command::Open | Command::Open2 => {
                let object = self.object(id)?;
                self.open = Some((object, 0));
                Ok(PageStep::Open { object, answer: command == Command::Open2 })
            }
            Command::Parent => Ok(PageStep::Parent { object: self.object(id)? }),
            Command::Add | Command::Hole | Command::AddF => self.run(address, pages, flags),
            Command::Get => {
                let pid = u32::try_from(id);
                let pid = pid.map_err(|_| self.wrong(format!("{id:#x} is not a pid")))?;
                self.range(address, pages)?;
                Ok(PageStep::Get { pid, address, pages, id })
            }
            Command::Close | Command::ForceClose => {
                self.ended = true;
                Ok(PageStep::Close)
            }
        }
    }

    fn run(&mut self, address: u64, pages: u64, flags: u16) -> Result<PageStep, PageProtocolError> {
        let Some((object, end)) = self.open else {
            return Err(self.wrong("pages come before an object is opened"));
        };
        let bytes = self.range(address, pages)?;
        if address < end {
            return Err(self.wrong(format!(
                "pages at {address:#x}, below {end:#x}, the end of the run before"
            )));
        }
        let stored = proto::PRESENT | proto::PARENT;
        if flags & !7 != 0 || flags & stored == stored || flags == 0 {
            return Err(self.wrong(format!("pages cannot have the flags {flags:#x}")));
        }
        self.open = Some((object, address + bytes));
        if flags & proto::PRESENT != 0 {
            self.payload = bytes;
        }
        Ok(PageStep::Run { address, pages, flags })
    }

    /// Returns the bytes of a range of pages, which has to fit into an address space or a file.
    fn range(&self, address: u64, pages: u64) -> Result<u64, PageProtocolError> {
        let bytes = pages.checked_mul(self.page_size).filter(|bytes| *bytes > 0);
        let end = bytes.and_then(|bytes| address.checked_add(bytes));
        let end = end.filter(|end| i64::try_from(*end).is_ok());
        match (bytes, end) {
            (Some(bytes), Some(_)) if address % self.page_size == 0 => Ok(bytes),
            _ => {
                Err(self.wrong(format!("{pages} pages at {address:#x} are not a range of memory")))
            }
        }
    }

    fn wrong(&self, what: impl Into<String>) -> PageProtocolError {
        PageProtocolError { at: self.at, what: what.into() }
    }
}
