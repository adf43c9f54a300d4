//! The pages of one object, a task's memory or shared memory, down the chain of parent sets.

use std::sync::OnceLock;

use crate::chain::Level;
use crate::error::{Error, ErrorKind, NoPage, Result};
use crate::kind::{self, Kind};
use crate::memory::{PageFlags, PageSize, Pagemap, Run};
use crate::source::Blob;

/// What one set has of an object. The pages file and the parent set are opened when first needed.
#[derive(Debug)]
pub(crate) struct Object<'a> {
    level: &'a Level,
    kind: &'static Kind,
    id: u64,
    page_size: PageSize,
    /// Ascending.
    runs: Vec<Placed>,
    /// Name of the file with the bytes.
    pages_file: String,
    pages: OnceLock<Blob>,
    parent: OnceLock<Option<Box<Object<'a>>>>,
}

/// A run and the place of its bytes.
#[derive(Debug)]
struct Placed {
    run: Run,
    /// First address after the run.
    end: u64,
    /// Offset in the pages file, where the run is present and no compressed one lies before it.
    offset: Option<u64>,
}

/// What an object has at an address.
pub(crate) enum Place<'o, 'a> {
    /// The pagemap does not list it.
    Hole,
    /// Bytes from an offset of the object's pages file on.
    Stored(&'o Object<'a>, u64),
}

impl<'a> Object<'a> {
    /// Opens the object; `None` when the set does not have its pagemap.
    pub(crate) fn open(
        level: &'a Level,
        kind: &'static Kind,
        id: u64,
        page_size: PageSize,
    ) -> Result<Option<Self>> {
        let file = kind.file_name(id);
        let name = level.place(&file);
        let Some(bytes) = level.read(&file)? else {
            return Ok(None);
        };
        let pagemap = Pagemap::parse(&name, &bytes, kind, page_size)?;
        let mut runs = Vec::new();
        let mut offset = Some(0u64);
        for run in pagemap.runs() {
            let run = run?;
            let (start, end) = run.range(page_size.bytes());
            let present = run.flags.contains(PageFlags::PRESENT);
            if present && run.compressed {
                offset = None;
            }
            runs.push(Placed { run, end, offset: offset.filter(|_| present) });
            if present {
                offset = offset.and_then(|offset| offset.checked_add(end - start));
            }
        }
        Ok(Some(Self {
            level,
            kind,
            id,
            page_size,
            runs,
            pages_file: kind::PAGES.file_name(pagemap.pages_id().into()),
            pages: OnceLock::new(),
            parent: OnceLock::new(),
        }))
    }

    /// The runs of the set itself.
    pub(crate) fn runs(&self) -> impl Iterator<Item = Run> {
        self.runs.iter().map(|placed| placed.run)
    }

    /// Finds what is at an address, and up to which other address that goes on.
    pub(crate) fn locate(&self, address: u64) -> Result<(Place<'_, 'a>, u64)> {
        let mut found = match self.find(address) {
            Ok(found) => found,
            Err(next) => return Ok((Place::Hole, next)),
        };
        let mut object = self;
        let mut until = found.end;
        while found.run.flags.contains(PageFlags::PARENT) {
            let parent = object.parent()?;
            let inherited = parent.and_then(|parent| Some((parent, parent.find(address).ok()?)));
            let broken = || object.fault(ErrorKind::BrokenParent { address });
            (object, found) = inherited.ok_or_else(broken)?;
            until = until.min(found.end);
        }
        let no_page = |why| Err(object.fault(ErrorKind::NoPage { address, why }));
        if !found.run.flags.contains(PageFlags::PRESENT) {
            return no_page(NoPage::Lazy);
        }
        let Some(offset) = found.offset else {
            return no_page(NoPage::Compressed);
        };
        let offset = offset.saturating_add(address - found.run.start);
        Ok((Place::Stored(object, offset), until))
    }

    /// Reads from an offset of the pages file.
    pub(crate) fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let blob = match self.pages.get() {
            Some(blob) => blob,
            None => {
                let missing = || Error::new(self.level.place(&self.pages_file), ErrorKind::Missing);
                let blob = self.level.open(&self.pages_file)?.ok_or_else(missing)?;
                self.pages.get_or_init(|| blob)
            }
        };
        let read = blob.read_at(offset, buf);
        read.map_err(|error| Error::new(self.level.place(&self.pages_file), error))
    }

    /// The run that covers an address, or the start of the next.
    fn find(&self, address: u64) -> Result<&Placed, u64> {
        let after = self.runs.partition_point(|placed| placed.run.start <= address);
        let before = after.checked_sub(1).and_then(|i| self.runs.get(i));
        before.filter(|placed| address < placed.end).ok_or_else(|| {
            let next = self.runs.get(after);
            next.map_or(u64::MAX, |placed| placed.run.start)
        })
    }

    /// The same object in the parent set.
    fn parent(&self) -> Result<Option<&Self>> {
        if let Some(parent) = self.parent.get() {
            return Ok(parent.as_deref());
        }
        let parent = match self.level.parent()? {
            Some(level) => Self::open(level, self.kind, self.id, self.page_size)?,
            None => None,
        };
        Ok(self.parent.get_or_init(|| parent.map(Box::new)).as_deref())
    }

    fn fault(&self, kind: ErrorKind) -> Error {
        Error::new(self.level.place(&self.kind.file_name(self.id)), kind)
    }
}
