//! Pages of a set that may lack everything else, such as a page server writes.

use std::fs::File;
use std::path::PathBuf;

use crate::chain::Level;
use crate::error::{Error, ErrorKind, NoPage, Result};
use crate::kind::{self, Kind};
use crate::memory::object::{Object, Place};
use crate::memory::{Chunk, Content, PageSize, PageSource, Run};
use crate::source::{Directory, Source};

/// The pages of a set: its pagemaps, their pages files, and those of its parent sets. The set needs
/// nothing else, not even an inventory.
///
/// ```no_run
/// use criu_images::memory::{PageSet, PageSize, PageSource};
///
/// let set = PageSet::open("/ckpt", PageSize::K4)?;
/// for object in set.objects()? {
///     let pages = set.pages(object)?.expect("it is listed");
///     println!("{object:?}: {} runs", pages.runs().count());
/// }
/// # Ok::<(), criu_images::Error>(())
/// ```
#[derive(Debug)]
pub struct PageSet {
    level: Level,
    page_size: PageSize,
}

/// A task or object that pages belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum PageObject {
    /// A task, by its pid in its own pid namespace.
    Task(u32),
    /// Shared memory, by its id. Addresses are offsets.
    Shared(u64),
}

/// The pages of one object, including pages that the set leaves to its parent sets. Addresses that
/// no run covers are [absent](Content::Absent).
#[derive(Debug)]
pub struct StoredPages<'a> {
    object: Object<'a>,
    page_size: PageSize,
}

/// A run whose bytes lie in a file without compression.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredRun {
    /// First address.
    pub start: u64,
    /// Address after the last byte.
    pub end: u64,
    /// Name of the file, as seen from the set: `parent/pages-1.img`.
    pub file: String,
    /// Offset of the first byte in the file.
    pub offset: u64,
}

impl PageObject {
    fn kind(self) -> (&'static Kind, u64) {
        match self {
            Self::Task(pid) => (kind::PAGEMAP, pid.into()),
            Self::Shared(id) => (kind::PAGEMAP_SHMEM, id),
        }
    }

    /// Returns the name of the object's pagemap.
    pub fn file_name(self) -> String {
        let (kind, id) = self.kind();
        kind.file_name(id)
    }
}

impl PageSet {
    /// Opens the pages in a directory.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if the directory cannot be read.
    pub fn open(directory: impl Into<PathBuf>, page_size: PageSize) -> Result<Self> {
        Ok(Self::new(Directory::open(directory)?, page_size))
    }

    /// Opens the pages that a source holds.
    #[must_use]
    pub fn new(source: impl Source + 'static, page_size: PageSize) -> Self {
        Self { level: Level::new(Box::new(source)), page_size }
    }

    /// Lists the objects with a pagemap in the set itself: tasks, then shared memory, by rising id.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if the names of the images cannot be read.
    pub fn objects(&self) -> Result<Vec<PageObject>> {
        let names = self.level.source().names()?;
        let found = names.iter().filter_map(|name| match Kind::of_file(name)? {
            (kind, Some(id)) if kind == kind::PAGEMAP => {
                Some(PageObject::Task(u32::try_from(id).ok()?))
            }
            (kind, Some(id)) if kind == kind::PAGEMAP_SHMEM => Some(PageObject::Shared(id)),
            _ => None,
        });
        let mut objects: Vec<_> = found.collect();
        objects.sort_unstable();
        Ok(objects)
    }

    /// Opens the pages of an object. Returns `None` if the set does not have its pagemap.
    ///
    /// # Errors
    /// The errors of reading the pagemap.
    pub fn pages(&self, object: PageObject) -> Result<Option<StoredPages<'_>>> {
        let (kind, id) = object.kind();
        let page_size = self.page_size;
        let object = Object::open(&self.level, kind, id, page_size)?;
        Ok(object.map(|object| StoredPages { object, page_size }))
    }

    /// Returns true if the set has a pagemap of an object.
    ///
    /// # Errors
    /// The errors of opening the pagemap.
    pub fn has(&self, object: PageObject) -> Result<bool> {
        Ok(self.level.size(&object.file_name())?.is_some())
    }
}

impl StoredPages<'_> {
    /// Iterates over the runs of the set itself, ascending.
    pub fn runs(&self) -> impl Iterator<Item = Run> {
        self.object.runs()
    }

    /// Returns the ranges with bytes somewhere in the chain of sets, joined and ascending.
    ///
    /// # Errors
    /// The errors of opening parent sets.
    pub fn covered(&self) -> Result<Vec<(u64, u64)>> {
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for run in self.runs() {
            let (mut at, end) = run.range(self.page_size.bytes());
            while at < end {
                let next = match self.first_gap(at, end)? {
                    None => end,
                    Some(gap) => gap,
                };
                match ranges.last_mut() {
                    _ if next == at => {}
                    Some(last) if last.1 == at => last.1 = next,
                    _ => ranges.push((at, next)),
                }
                at = if next == end { end } else { self.object.lacking_until(next)?.min(end) };
            }
        }
        Ok(ranges)
    }

    /// Lists the runs whose bytes lie in files without compression: first runs of the set itself,
    /// then runs of its parent sets. Runs of a parent set are included even if the set above
    /// replaces them.
    ///
    /// # Errors
    /// The errors of opening parent sets.
    pub fn stored_runs(&self) -> Result<Vec<StoredRun>> {
        let mut all = Vec::new();
        self.object.stored(&mut |start, end, file, offset| {
            all.push(StoredRun { start, end, file, offset });
        })?;
        Ok(all)
    }

    /// Frees the space that the bytes of a range take in the pages files of the set and of its
    /// parent sets (`FALLOC_FL_PUNCH_HOLE`). The bytes read as zeros then, and the files keep their
    /// sizes. Bytes of compressed runs stay.
    ///
    /// The files are those that the set reads from, even if others have their names by now.
    ///
    /// # Errors
    /// The errors of opening parent sets and pages files, and of fallocate(2). `Unsupported` for a
    /// source that has no files of its own.
    pub fn punch(&self, start: u64, end: u64) -> Result<()> {
        self.object.punch(start, end)
    }

    /// Returns the first address of a range that has no bytes anywhere in the chain.
    ///
    /// # Errors
    /// The errors of opening parent sets. Pages for which a read fails with
    /// [`ErrorKind::BrokenParent`] count as gaps.
    pub fn first_gap(&self, start: u64, end: u64) -> Result<Option<u64>> {
        let mut at = start;
        while at < end {
            match self.chunk(at) {
                Ok(chunk) if matches!(chunk.content, Content::Absent(_)) => return Ok(Some(at)),
                Ok(chunk) => at = chunk.end,
                Err(error) if matches!(error.kind(), ErrorKind::BrokenParent { .. }) => {
                    return Ok(Some(at));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Finds the bytes at an address in a file: returns the file, the offset of the bytes, and the
    /// number of bytes in a row. Returns `None` if the bytes must be [read](PageSource::read_at),
    /// or are absent.
    ///
    /// # Errors
    /// The errors of [`chunk`](PageSource::chunk).
    pub fn in_file(&self, address: u64) -> Result<Option<(&File, u64, u64)>> {
        let (place, end) = self.object.locate(address)?;
        let Place::Stored(object, offset) = place else {
            return Ok(None);
        };
        let file = object.file()?;
        Ok(file.map(|(file, base)| (file, base.saturating_add(offset), end - address)))
    }
}

impl PageSource for StoredPages<'_> {
    fn page_size(&self) -> PageSize {
        self.page_size
    }

    fn chunk(&self, start: u64) -> Result<Chunk<'_>> {
        let (place, end) = self.object.locate(start)?;
        let content = match place {
            Place::Zero => Content::Absent(NoPage::Unmapped),
            place => place.content(end.saturating_sub(start))?,
        };
        Ok(Chunk { start, end, content })
    }

    fn read_at(&self, mut address: u64, mut buf: &mut [u8]) -> Result<()> {
        while !buf.is_empty() {
            let (place, end) = self.object.locate(address)?;
            let (now, later) = super::split(buf, end.saturating_sub(address));
            let place = match place {
                Place::Zero => Place::Absent(NoPage::Unmapped, Some(&self.object)),
                place => place,
            };
            let no_page = |why| Error::new("", ErrorKind::NoPage { address, why });
            place.read(now, no_page)?;
            address = address.saturating_add(now.len() as u64);
            buf = later;
        }
        Ok(())
    }
}
