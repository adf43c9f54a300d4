//! A session without its socket: bytes in, what they ask for out.

use criu_images::memory::PageObject;

use super::page_size::page_size;
use super::proto::{self, Command, Header, Layout, Recognised};

/// What a page server's session asks for, one thing after another, whatever pieces its bytes come in.
///
/// It does no I/O and keeps no bytes: whoever drives it hands it what has been received and not yet been
/// taken, does what each [`PageStep`] says, and sends the answers.
///
/// ```
/// use criu_rs::pages::{Layout, PageSession, PageStep};
///
/// let mut session = PageSession::new(Some(Layout::Wide));
/// // PARENT for task 7: does the parent set have it?
/// let bytes = [&[5, 0, 0, 0][..], &[0; 20], &[1, 7, 0, 0, 0, 0, 0, 0]].concat();
/// let (taken, step) = session.next(&bytes)?;
/// assert!(matches!(step, PageStep::Parent { .. }) && taken == 32);
/// # Ok::<(), criu_rs::pages::PageProtocolError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "it does nothing until it is driven"]
pub struct PageSession {
    layout: Option<Layout>,
    page_size: u64,
    /// The object that pages belong to, and where the last run ended.
    open: Option<(PageObject, u64)>,
    /// Bytes of the run that have not come yet.
    payload: u64,
    ended: bool,
    /// Bytes taken.
    at: u64,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PageStep {
    /// Receive more: at least so many bytes are needed in all that is not yet taken.
    More(usize),
    /// A session that only closes, whose layout shows in whether more bytes come:
    /// [`assume`](PageSession::assume) one after a while.
    MoreOrAssume,
    /// An object's pages begin. With `answer`, a byte is wanted: whether the parent set has it.
    Open {
        /// The object.
        object: PageObject,
        /// Whether the byte is wanted.
        answer: bool,
    },
    /// Four bytes are wanted: whether the parent set has an object.
    Parent {
        /// The object.
        object: PageObject,
    },
    /// Pages of the open object, after those before. Their bytes follow if they are present.
    Run {
        /// The first address.
        address: u64,
        /// How many.
        pages: u64,
        /// Their flags, as a pagemap has them.
        flags: u16,
    },
    /// So many of the next bytes belong to the run.
    Payload(usize),
    /// Pages are wanted.
    Get {
        /// The task.
        pid: u32,
        /// The first address.
        address: u64,
        /// At most how many.
        pages: u64,
        /// What the answer repeats.
        id: u64,
    },
    /// Everything has been sent. Four bytes are wanted: 0, or what went wrong.
    Close,
    /// Nothing comes after the end.
    Ended,
}

/// A session that breaks the protocol: where, and how.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("byte {at} of the session: {what}")]
pub struct PageProtocolError {
    /// Offset in what has been received.
    pub at: u64,
    /// What is wrong.
    pub what: String,
}

impl PageSession {
    /// A session in a layout, or in the one that its first bytes show.
    pub fn new(layout: Option<Layout>) -> Self {
        Self { layout, page_size: page_size().bytes(), open: None, payload: 0, ended: false, at: 0 }
    }

    /// The layout, as soon as it is known.
    pub fn layout(&self) -> Option<Layout> {
        self.layout
    }

    /// Settles the layout of a session that does not show it.
    pub fn assume(&mut self, layout: Layout) {
        self.layout.get_or_insert(layout);
    }

    /// Bytes of the present run that have not been taken.
    pub fn payload(&self) -> u64 {
        self.payload
    }

    /// Takes bytes of the run that never were in a buffer of ours.
    pub fn passed(&mut self, bytes: u64) {
        self.payload = self.payload.saturating_sub(bytes);
        self.at = self.at.saturating_add(bytes);
    }

    /// Whether the session may end here: it has been closed, or nothing has been begun.
    pub fn may_end(&self) -> bool {
        self.ended
    }

    /// Looks at what has been received and not yet been taken. Returns how many bytes are taken, and what
    /// to do.
    ///
    /// # Errors
    /// [`PageProtocolError`]; the session cannot go on then.
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
            .map_err(|word| self.wrong(format!("no command is {word:#x}")))?;
        if let Some(object) = self.begins(&header)? {
            self.open = Some((object, 0));
            return Ok((0, PageStep::Open { object, answer: false }));
        }
        let step = self.step(header)?;
        self.at = self.at.saturating_add(size as u64);
        Ok((size, step))
    }

    /// The object that begins with its first run, as CRIUs of long ago send it.
    fn begins(&self, header: &Header) -> Result<Option<PageObject>, PageProtocolError> {
        if !matches!(header.command, Command::Add | Command::Hole | Command::AddF) {
            return Ok(None);
        }
        let object = self.object(header.id)?;
        Ok(Some(object).filter(|object| self.open.is_none_or(|(open, _)| open != *object)))
    }

    fn object(&self, id: u64) -> Result<PageObject, PageProtocolError> {
        proto::object(id).ok_or_else(|| self.wrong(format!("{id:#x} is the id of no object")))
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
                let pid = pid.map_err(|_| self.wrong(format!("{id:#x} is no pid")))?;
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
            return Err(self.wrong("pages of an object that has not been opened"));
        };
        let bytes = self.range(address, pages)?;
        if address < end {
            return Err(self.wrong(format!("pages at {address:#x}, which is below {end:#x}")));
        }
        let stored = proto::PRESENT | proto::PARENT;
        if flags & !7 != 0 || flags & stored == stored || flags == 0 {
            return Err(self.wrong(format!("no pages have flags {flags:#x}")));
        }
        self.open = Some((object, address + bytes));
        if flags & proto::PRESENT != 0 {
            self.payload = bytes;
        }
        Ok(PageStep::Run { address, pages, flags })
    }

    /// Bytes of a range of pages that an address space, or a file, can have.
    fn range(&self, address: u64, pages: u64) -> Result<u64, PageProtocolError> {
        let bytes = pages.checked_mul(self.page_size).filter(|bytes| *bytes > 0);
        let end = bytes.and_then(|bytes| address.checked_add(bytes));
        let end = end.filter(|end| i64::try_from(*end).is_ok());
        match (bytes, end) {
            (Some(bytes), Some(_)) if address % self.page_size == 0 => Ok(bytes),
            _ => Err(self.wrong(format!("{pages} pages at {address:#x}"))),
        }
    }

    fn wrong(&self, what: impl Into<String>) -> PageProtocolError {
        PageProtocolError { at: self.at, what: what.into() }
    }
}
