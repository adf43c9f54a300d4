//! The pages that a dump has sent.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use criu_images::memory::PageObject;

use super::error::PagesError;
use super::pool::Pool;
use super::proto::{self, Command, Header, Layout};
use super::session::PageProtocolError;
use super::sink::PageRun;

/// The bytes of a dump's session, in a pool and a file without a name, as a
/// [`Tape`](super::tape::Tape) has received them.
///
/// An object takes some 50 bytes of memory beside the pool, and a run none.
#[derive(Debug)]
pub(crate) struct Recording {
    pool: Pool,
    /// The bytes after those in the pool.
    file: Option<(File, PathBuf)>,
    /// The number of all bytes.
    size: u64,
    index: Index,
}

/// The objects of a session.
#[derive(Debug, Default)]
pub(super) struct Index {
    pub(super) layout: Option<Layout>,
    /// The offsets of the headers with which the objects begin.
    objects: BTreeMap<PageObject, u64>,
    /// The bytes of pages.
    pub(super) bytes: u64,
}

impl Index {
    /// Notes the beginning of an object. An object that begins twice keeps what came last.
    pub(super) fn begin(&mut self, object: PageObject, at: u64) {
        self.objects.insert(object, at);
    }
}

/// A run of pages in a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordedRun {
    /// The run.
    pub(crate) run: PageRun,
    /// Offset of the bytes in the recording.
    pub(crate) at: u64,
}

/// The runs of an object in a recording, ascending.
#[derive(Clone, Debug)]
pub(crate) struct RecordedRuns<'r> {
    recording: &'r Recording,
    object: PageObject,
    /// The offset of the next header.
    at: u64,
    begun: bool,
}

impl Recording {
    pub(super) fn new(pool: Pool, file: Option<(File, PathBuf)>, size: u64, index: Index) -> Self {
        Self { pool, file, size, index }
    }

    /// Returns the objects: shared memory first, as CRIU sends them.
    pub(crate) fn objects(&self) -> impl Iterator<Item = PageObject> + use<'_> {
        let is_task = |object: &PageObject| matches!(object, PageObject::Task(_));
        let all = self.index.objects.keys().copied();
        all.clone().filter(move |object| !is_task(object)).chain(all.filter(is_task))
    }

    /// Returns the runs of an object; `None` if the dump has not sent it.
    pub(crate) fn runs(&self, object: PageObject) -> Option<RecordedRuns<'_>> {
        let at = *self.index.objects.get(&object)?;
        Some(RecordedRuns { recording: self, object, at, begun: false })
    }

    /// Returns the number of bytes in all pages.
    pub(crate) fn bytes(&self) -> u64 {
        self.index.bytes
    }

    /// Returns the number of bytes that did not fit into the pool.
    #[cfg(test)]
    pub(super) fn spilled(&self) -> u64 {
        self.size.saturating_sub(self.pool.size() as u64)
    }

    /// Reads bytes at an offset.
    ///
    /// # Errors
    /// [`PagesError::File`] if the file cannot be read.
    pub(crate) fn read_at(&self, at: u64, buffer: &mut [u8]) -> Result<(), PagesError> {
        let start = usize::try_from(at).unwrap_or(usize::MAX);
        let here = self.pool.0.get(start..).unwrap_or_default();
        let size = here.len().min(buffer.len());
        let (first, rest) = buffer.split_at_mut(size);
        first.copy_from_slice(here.get(..size).unwrap_or_default());
        let Some((file, path)) = self.file.as_ref().filter(|_| !rest.is_empty()) else {
            return if rest.is_empty() { Ok(()) } else { Err(PagesError::Gone(self.size)) };
        };
        let offset = at.saturating_add(size as u64).saturating_sub(self.pool.size() as u64);
        file.read_exact_at(rest, offset).map_err(PagesError::file(path))
    }
}

impl RecordedRuns<'_> {
    /// Returns the next run.
    ///
    /// # Errors
    /// [`PagesError`] if the recording cannot be read.
    pub(crate) fn next(&mut self) -> Result<Option<RecordedRun>, PagesError> {
        let Some(layout) = self.recording.index.layout else { return Ok(None) };
        let size = layout.size();
        while self.at < self.recording.size {
            let mut head = [0; 32];
            self.recording.read_at(self.at, head.get_mut(..size).unwrap_or_default())?;
            let header = Header::parse(layout, &head).map_err(|word| {
                let what = format!("unknown command {word:#x}");
                PageProtocolError { at: self.at, what }
            })?;
            let is_first = !std::mem::replace(&mut self.begun, true);
            let bytes = self.at.saturating_add(size as u64);
            match header.command {
                Command::Open | Command::Open2 if is_first => self.at = bytes,
                Command::Parent => self.at = bytes,
                Command::Add | Command::Hole | Command::AddF
                    if proto::object(header.id) == Some(self.object) =>
                {
                    let Header { address, pages, flags, .. } = header;
                    let run = PageRun { address, pages, flags };
                    self.at = bytes.saturating_add(run.payload());
                    return Ok(Some(RecordedRun { run, at: bytes }));
                }
                _ => break,
            }
        }
        Ok(None)
    }
}
