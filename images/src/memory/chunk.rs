//! Memory in chunks: stretches whose bytes have the same source.

use std::ops::Range;

use crate::error::{NoPage, Result};
use crate::memory::PageSize;

/// A stretch of memory whose bytes come from one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Chunk<'m> {
    /// First address; in shared memory, the offset in the object.
    pub start: u64,
    /// Address after the last byte.
    pub end: u64,
    /// Source of the bytes.
    pub content: Content<'m>,
}

/// Sources of the bytes of a [`Chunk`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Content<'m> {
    /// The bytes themselves, if the source of the set has them in memory.
    Bytes(&'m [u8]),
    /// A file of the set. [`PageSource::read_at`] reads the bytes.
    Stored,
    /// No source: all bytes are zero.
    Zero,
    /// Bytes that the set does not have.
    Absent(NoPage),
}

/// A source of memory: a task, or an object of shared memory.
///
/// ```no_run
/// use criu_images::ImageSet;
/// use criu_images::memory::{Content, PageSource};
///
/// let set = ImageSet::open("/ckpt")?;
/// let memory = set.checkpoint()?.root().memory()?.expect("the root is alive");
/// for chunk in memory.chunks(0..u64::MAX) {
///     let chunk = chunk?;
///     match chunk.content {
///         Content::Absent(why) => println!("{:x}: {why}", chunk.start),
///         _ => println!("{:x}: {} bytes", chunk.start, chunk.size()),
///     }
/// }
/// # Ok::<(), criu_images::Error>(())
/// ```
pub trait PageSource {
    /// Returns the page size.
    fn page_size(&self) -> PageSize;

    /// Returns the chunk that starts at an address. The time grows with the logarithm of the number
    /// of runs and mappings.
    ///
    /// # Errors
    /// [`ErrorKind::BrokenParent`](crate::ErrorKind::BrokenParent), and the errors of opening a
    /// pages file or a parent set.
    fn chunk(&self, address: u64) -> Result<Chunk<'_>>;

    /// Reads `buf.len()` bytes from an address on. On an error the content of `buf` is unspecified.
    ///
    /// # Errors
    /// [`ErrorKind::NoPage`](crate::ErrorKind::NoPage) if a chunk is [absent](Content::Absent), and
    /// the errors of [`chunk`](Self::chunk) and of reading.
    fn read_at(&self, address: u64, buf: &mut [u8]) -> Result<()>;

    /// Returns the end of the hole that a pages file has at an address. A hole reads as zeros, may
    /// claim any size and takes no room on a disk. `None` for other bytes, for holes below a MiB,
    /// and if the source does not know.
    ///
    /// # Errors
    /// The errors of [`chunk`](Self::chunk).
    fn hole(&self, address: u64) -> Result<Option<u64>> {
        let _ = address;
        Ok(None)
    }

    /// Iterates over the chunks of a range, without gaps. The first chunk starts where the range
    /// starts, and the last one ends where the range ends. After an error the iteration ends.
    fn chunks(&self, range: Range<u64>) -> Chunks<'_, Self>
    where
        Self: Sized,
    {
        Chunks { source: self, range }
    }
}

/// The chunks of a range.
#[derive(Clone, Debug)]
#[must_use = "iterators are lazy"]
pub struct Chunks<'m, S> {
    source: &'m S,
    range: Range<u64>,
}

impl<'m, S: PageSource> Iterator for Chunks<'m, S> {
    type Item = Result<Chunk<'m>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.range.is_empty() {
            return None;
        }
        let chunk = self.source.chunk(self.range.start).map(|chunk| chunk.until(self.range.end));
        self.range.start = chunk.as_ref().map_or(self.range.end, |chunk| chunk.end);
        Some(chunk)
    }
}

impl Chunk<'_> {
    /// Returns the number of bytes.
    pub fn size(&self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    /// Returns the part of the chunk before an address.
    pub fn until(mut self, end: u64) -> Self {
        if end < self.end {
            self.end = end;
            if let Content::Bytes(bytes) = &mut self.content {
                let size = usize::try_from(end.saturating_sub(self.start)).unwrap_or(usize::MAX);
                *bytes = bytes.get(..size).unwrap_or(bytes);
            }
        }
        self
    }
}
