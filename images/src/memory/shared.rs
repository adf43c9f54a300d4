//! Memory that tasks share: memory files, shared anonymous memory, System V segments.

use std::fmt;

use crate::error::{Error, ErrorKind, Result};
use crate::files::FileTable;
use crate::kind;
use crate::memory::object::{Object, Place};
use crate::memory::{Chunk, PageSize, PageSource, Run};
use crate::store::Store;
use crate::text::Text;

/// An object of shared memory. Its id is in mappings and memory files.
#[derive(Debug)]
pub struct SharedMemory<'a> {
    id: u64,
    name: Option<&'a [u8]>,
    object: Object<'a>,
    page_size: PageSize,
}

impl<'a> SharedMemory<'a> {
    pub(crate) fn open(
        store: &'a Store,
        files: &'a FileTable,
        id: u64,
        page_size: PageSize,
    ) -> Result<Self> {
        let kind = kind::PAGEMAP_SHMEM;
        let missing = || Error::new(kind.file_name(id), ErrorKind::Missing);
        let object = Object::open(store.level(), kind, id, page_size)?.ok_or_else(missing)?;
        Ok(Self { id, name: files.shared_memory_name(id), object, page_size })
    }

    /// Returns the id, as in `pagemap-shmem-ID.img`.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Returns the name of the memory file with this content. The name of shared anonymous memory
    /// is `/dev/zero`. A System V segment has no name.
    pub fn name(&self) -> Option<&'a [u8]> {
        self.name
    }

    /// Iterates over the runs of pages that this set lists, ascending. Addresses are offsets in the
    /// object.
    pub fn runs(&self) -> impl Iterator<Item = Run> {
        self.object.runs()
    }

    /// Finds the source of the bytes at an offset, and the offset at which this source ends.
    pub(crate) fn locate(&self, offset: u64) -> Result<(Place<'_, 'a>, u64)> {
        self.object.locate(offset)
    }
}

/// Addresses are offsets in the object. Pages that are not listed read as zero. So do bytes past
/// the end of the object, because the pagemap does not have its size.
impl PageSource for SharedMemory<'_> {
    fn page_size(&self) -> PageSize {
        self.page_size
    }

    fn chunk(&self, start: u64) -> Result<Chunk<'_>> {
        let (place, end) = self.locate(start)?;
        Ok(Chunk { start, end, content: place.content(end.saturating_sub(start))? })
    }

    fn hole(&self, offset: u64) -> Result<Option<u64>> {
        let (place, until) = self.locate(offset)?;
        let size = place.hole()?;
        Ok(size.map(|size| offset.saturating_add(size).min(until)))
    }

    fn read_at(&self, mut offset: u64, mut buf: &mut [u8]) -> Result<()> {
        while !buf.is_empty() {
            let (place, until) = self.locate(offset)?;
            let (now, later) = split(buf, until.saturating_sub(offset));
            let no_page = |why| {
                let name = kind::PAGEMAP_SHMEM.file_name(self.id);
                Error::new(name, ErrorKind::NoPage { address: offset, why })
            };
            place.read(now, no_page)?;
            offset = offset.saturating_add(now.len() as u64);
            buf = later;
        }
        Ok(())
    }
}

impl fmt::Display for SharedMemory<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shared memory {}", self.id)?;
        match self.name {
            Some(name) => write!(f, " ({})", Text(name)),
            None => Ok(()),
        }
    }
}

/// Splits a buffer after `len` bytes, or at its end.
pub(crate) fn split(buf: &mut [u8], len: u64) -> (&mut [u8], &mut [u8]) {
    let len = usize::try_from(len).map_or(buf.len(), |len| len.min(buf.len()));
    buf.split_at_mut(len)
}
