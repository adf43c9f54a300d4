//! Sources of the pages of a snapshot.

use std::{fmt, io};

use super::error::LazyError;

/// A source of a snapshot's pages, which any number of restores share.
pub trait Supply: fmt::Debug + Send + Sync {
    /// Opens a reader for one thread.
    ///
    /// # Errors
    /// If the source cannot be reached.
    fn reader(&self, urgency: Urgency) -> Result<Box<dyn Reader + '_>, LazyError>;

    /// Returns true if the bytes are on this machine, so that several threads that bring pages in
    /// the background gain by it.
    fn is_near(&self) -> bool {
        false
    }

    /// Tells a distant source that all pages of all restores have come. No reader is used after
    /// this call. A source that is dropped without it has failed: `criu dump --lazy-pages` then
    /// lets the dumped tasks run on where they are.
    ///
    /// # Errors
    /// [`LazyError::Source`] if the source does not answer.
    fn close(&self) -> Result<(), LazyError> {
        Ok(())
    }

    /// Returns the number of times that a read was tried again after a fault of the source.
    fn retries(&self) -> u64 {
        0
    }
}

/// A reader of pages that belongs to one thread.
pub trait Reader: Send {
    /// Reads pages: at least one, at most as many as are wanted. Waits until they are here.
    ///
    /// # Errors
    /// [`LazyError::NoPage`] if the snapshot does not have the first page; [`LazyError::Source`] if
    /// the source fails, after it was tried again where that is safe.
    fn read(&mut self, wanted: Wanted) -> Result<Pages<'_>, LazyError>;

    /// Says which pages will be read, in order, so that a distant source can send them meanwhile.
    /// Every announced request is read next, in the order of the announcements. A reader that gains
    /// nothing by this does nothing.
    ///
    /// # Errors
    /// [`LazyError::Source`] if the source fails.
    fn announce(&mut self, wanted: Wanted) -> Result<(), LazyError> {
        let _ = wanted;
        Ok(())
    }

    /// Returns the number of requests that may be announced before the first is read.
    fn depth(&self) -> usize {
        0
    }

    /// Returns the most pages that one request brings. Requests for more are cut, and those of a
    /// thread that announces requests should not be larger.
    fn most(&self) -> u64 {
        u64::MAX
    }
}

/// The purpose of a reader.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Urgency {
    /// A thread of a task waits for the pages.
    Fault,
    /// Nobody waits for the pages yet.
    Background,
}

/// Pages of a task that are wanted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Wanted {
    /// The task, by its pid in the images.
    pub pid: u32,
    /// The address of the first page at the moment of the dump.
    pub address: u64,
    /// The number of pages.
    pub pages: u64,
}

/// Pages that a reader has.
#[derive(Debug)]
pub struct Pages<'r>(pub(crate) Held<'r>);

/// The places of pages.
#[derive(Debug)]
pub(crate) enum Held<'r> {
    /// The bytes themselves.
    Bytes(&'r [u8]),
    /// Pages that read as zeros, by their number of bytes.
    Zeros(u64),
}

impl<'r> Pages<'r> {
    /// Takes the bytes of whole pages.
    pub fn new(bytes: &'r [u8]) -> Self {
        Self(Held::Bytes(bytes))
    }

    /// Takes pages of zeros, by their number of bytes.
    pub fn zeros(bytes: u64) -> Self {
        Self(Held::Zeros(bytes))
    }

    /// Returns the pages without the first bytes.
    pub(super) fn without(&self, bytes: u64) -> Self {
        Self(match self.0 {
            Held::Bytes(all) => Held::Bytes(rest(all, bytes)),
            Held::Zeros(all) => Held::Zeros(all.saturating_sub(bytes)),
        })
    }

    /// Returns the number of bytes.
    pub fn size(&self) -> u64 {
        match self.0 {
            Held::Bytes(bytes) => bytes.len() as u64,
            Held::Zeros(bytes) => bytes,
        }
    }

    /// Copies the bytes from an offset on into `buf`.
    ///
    /// # Errors
    /// `UnexpectedEof` if there are not so many bytes.
    pub fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(buf.len() as u64).filter(|end| *end <= self.size());
        end.ok_or(io::ErrorKind::UnexpectedEof)?;
        match self.0 {
            Held::Bytes(bytes) => {
                buf.iter_mut().zip(rest(bytes, offset)).for_each(|(to, from)| *to = *from);
            }
            Held::Zeros(_) => buf.fill(0),
        }
        Ok(())
    }
}

/// Returns the bytes from an offset on.
pub(super) fn rest(bytes: &[u8], offset: u64) -> &[u8] {
    let offset = usize::try_from(offset).unwrap_or(usize::MAX);
    bytes.get(offset..).unwrap_or_default()
}
