//! Receivers of pages: a directory, or a page server.

use std::io::Write;

use criu_images::memory::PageObject;

use super::client::Client;
use super::error::PagesError;
use super::page_size::page_size;
use super::proto::PRESENT;
use super::store::Store;

/// A run of pages of one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PageRun {
    /// Address of the first page; in shared memory, the offset.
    pub(crate) address: u64,
    /// Number of pages.
    pub(crate) pages: u64,
    /// Flags of the pages, as in a pagemap.
    pub(crate) flags: u16,
}

impl PageRun {
    /// Returns the number of bytes that come with the run: none if the pages are elsewhere.
    pub(crate) fn payload(&self) -> u64 {
        match self.flags & PRESENT {
            0 => 0,
            _ => self.pages.saturating_mul(page_size().bytes()),
        }
    }
}

/// A receiver of the pages of a checkpoint.
///
/// The pages count as received when [`finish`](Self::finish) has succeeded.
pub(crate) trait PageSink: Send {
    /// Begins an object, after the object before. Returns `true` if the receiver's parent set has
    /// the object.
    ///
    /// # Errors
    /// The receiver's own.
    fn begin(&mut self, object: PageObject) -> Result<bool, PagesError>;

    /// Takes runs of the object, ascending, and the bytes of all present pages among them.
    ///
    /// # Errors
    /// The receiver's own; [`PagesError::Hole`] for pages that are left to a parent set without
    /// them.
    fn put(&mut self, runs: &[PageRun], bytes: &[u8]) -> Result<(), PagesError>;

    /// Ends the last object: everything has been handed over.
    ///
    /// # Errors
    /// The receiver's own. Nothing counts as received then.
    fn finish(&mut self) -> Result<(), PagesError>;
}

/// A directory. Pagemaps get their names at the end.
impl PageSink for Store {
    fn begin(&mut self, object: PageObject) -> Result<bool, PagesError> {
        Store::begin(self, object)?;
        self.parent_has(object)
    }

    fn put(&mut self, runs: &[PageRun], bytes: &[u8]) -> Result<(), PagesError> {
        for &PageRun { address, pages, flags } in runs {
            self.run(address, pages, flags)?;
        }
        let none = || PagesError::NoObject { address: runs.first().map_or(0, |run| run.address) };
        let to = self.pages().ok_or_else(none)?;
        (&to.file).write_all(bytes).map_err(PagesError::file(&to.path))
    }

    fn finish(&mut self) -> Result<(), PagesError> {
        Store::finish(self)
    }
}

/// A page server. The connection's end is that of the last object.
impl PageSink for Client {
    fn begin(&mut self, object: PageObject) -> Result<bool, PagesError> {
        Client::begin(self, object)
    }

    fn put(&mut self, runs: &[PageRun], mut bytes: &[u8]) -> Result<(), PagesError> {
        for run in runs {
            let size = usize::try_from(run.payload()).unwrap_or(usize::MAX);
            let Some((now, later)) = bytes.split_at_checked(size) else {
                return Err(PagesError::NoObject { address: run.address });
            };
            self.run(run.address, run.pages, run.flags)?;
            self.bytes(now)?;
            bytes = later;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), PagesError> {
        self.end()
    }
}
