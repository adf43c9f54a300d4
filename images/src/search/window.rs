//! A buffer that slides over contiguous memory: the part of memory that is searched.

use std::collections::VecDeque;
use std::ops::Range;

use crate::error::{NoPage, Result};
use crate::memory::{Chunk, Content, PageSource};

/// A stretch of contiguous memory, whose bytes come in order.
#[derive(Debug)]
pub(crate) struct Window<'m, S> {
    source: &'m S,
    /// Ranges still to come, ascending.
    ranges: VecDeque<Range<u64>>,
    /// The rest of a chunk of the first range.
    pending: Option<Chunk<'m>>,
    /// Memory of the window. Bytes from `len` on are left over, and are written before they are
    /// read: to clear them each time costs as much as to read them.
    buffer: Vec<u8>,
    len: usize,
    /// Address of the first byte.
    pub(crate) address: u64,
    /// Ranges that the set has. All other bytes are untouched memory, or holes of pages files.
    stored: VecDeque<Range<u64>>,
    /// The stretch is complete: the memory that comes next does not touch it.
    pub(crate) whole: bool,
    /// Bytes skipped because the dump kept them back.
    pub(crate) lazy: u64,
    /// Bytes of untouched memory to look at before and after stored memory.
    edge: u64,
}

impl<'m, S: PageSource> Window<'m, S> {
    pub(crate) fn new(source: &'m S, ranges: VecDeque<Range<u64>>, edge: usize) -> Self {
        Self {
            source,
            ranges,
            pending: None,
            buffer: Vec::new(),
            len: 0,
            address: 0,
            stored: VecDeque::new(),
            whole: true,
            lazy: 0,
            edge: edge.min(MAX_EDGE) as u64,
        }
    }

    /// Returns true if the set has some of these bytes.
    pub(crate) fn is_stored(&self, bytes: &Range<usize>) -> bool {
        let (start, end) = (self.address_of(bytes.start), self.address_of(bytes.end));
        self.stored.iter().any(|stored| stored.start < end && start < stored.end)
    }

    pub(crate) fn address_of(&self, index: usize) -> u64 {
        self.address + index as u64
    }

    /// Begins the next stretch. Returns false if there is none left.
    pub(crate) fn next_stretch(&mut self) -> Result<bool> {
        self.len = 0;
        self.stored.clear();
        self.whole = false;
        loop {
            let Some(chunk) = self.next_chunk()? else {
                return Ok(false);
            };
            let start = match chunk.content {
                Content::Absent(_) => continue,
                // A match that continues in stored memory can only begin near the end of untouched
                // memory.
                Content::Zero => chunk.end - chunk.size().min(self.edge),
                _ => chunk.start,
            };
            self.address = start;
            self.pending = Some(after(chunk, start));
            return Ok(true);
        }
    }

    /// Drops the bytes before an index.
    pub(crate) fn forget(&mut self, before: usize) {
        let before = before.min(self.len);
        self.buffer.copy_within(before..self.len, 0);
        self.len -= before;
        self.address += before as u64;
        while self.stored.front().is_some_and(|stored| stored.end <= self.address) {
            self.stored.pop_front();
        }
    }

    /// Adds bytes until there are `want`, or until the stretch is complete.
    pub(crate) fn fill(&mut self, want: usize) -> Result<()> {
        while !self.whole && self.len < want {
            let next = self.address_of(self.len);
            let Some(chunk) = self.next_chunk()? else {
                self.whole = true;
                break;
            };
            if chunk.start != next {
                self.pending = Some(chunk);
                self.whole = true;
                break;
            }
            let room = want - self.len;
            let size = usize::try_from(chunk.size()).map_or(room, |size| size.min(room));
            let end = chunk.start + size as u64;
            match chunk.content {
                Content::Absent(_) => self.whole = true,
                Content::Zero if chunk.size() > 2 * self.edge => {
                    // A match that has begun may end here. The next stretch begins near the end of
                    // this chunk.
                    self.grow(usize::try_from(self.edge).unwrap_or(0)).fill(0);
                    self.whole = true;
                    self.pending = Some(after(chunk, chunk.end - self.edge));
                }
                Content::Zero => {
                    self.grow(size).fill(0);
                    self.keep(chunk, end);
                }
                Content::Bytes(bytes) => {
                    // A source of another crate may give less than it says.
                    let bytes = bytes.get(..size).unwrap_or(bytes);
                    let end = chunk.start + bytes.len() as u64;
                    self.grow(bytes.len()).copy_from_slice(bytes);
                    self.have(chunk.start..end);
                    if bytes.is_empty() {
                        self.whole = true;
                    } else {
                        self.keep(chunk, end);
                    }
                }
                Content::Stored => {
                    let source = self.source;
                    source.read_at(chunk.start, self.grow(size))?;
                    self.have(chunk.start..end);
                    self.keep(chunk, end);
                }
            }
        }
        Ok(())
    }

    /// The bytes of the window.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.buffer.get(..self.len).unwrap_or_default()
    }

    /// Makes room for more bytes at the end and returns it. The caller writes all of it.
    fn grow(&mut self, size: usize) -> &mut [u8] {
        let old = self.len;
        self.len = old.saturating_add(size);
        if self.buffer.len() < self.len {
            self.buffer.resize(self.len, 0);
        }
        self.buffer.get_mut(old..self.len).unwrap_or_default()
    }

    fn have(&mut self, range: Range<u64>) {
        match self.stored.back_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => self.stored.push_back(range),
        }
    }

    /// Keeps the part of a chunk from an address on for later.
    fn keep(&mut self, chunk: Chunk<'m>, from: u64) {
        self.pending = (from < chunk.end).then(|| after(chunk, from));
    }

    /// Returns the next chunk. A hole of a pages file counts as untouched memory.
    fn next_chunk(&mut self) -> Result<Option<Chunk<'m>>> {
        let Some(mut chunk) = self.next_source()? else { return Ok(None) };
        if chunk.content == Content::Stored {
            let hole = self.source.hole(chunk.start)?;
            if let Some(end) = hole.filter(|end| *end > chunk.start) {
                if end < chunk.end {
                    self.ranges.push_front(end..chunk.end);
                }
                chunk = Chunk { content: Content::Zero, ..chunk.until(end) };
            }
        }
        Ok(Some(chunk))
    }

    fn next_source(&mut self) -> Result<Option<Chunk<'m>>> {
        if let Some(chunk) = self.pending.take() {
            return Ok(Some(chunk));
        }
        while let Some(range) = self.ranges.front_mut() {
            if range.is_empty() {
                self.ranges.pop_front();
                continue;
            }
            let chunk = self.source.chunk(range.start)?.until(range.end);
            range.start = chunk.end;
            if chunk.content == Content::Absent(NoPage::Lazy) {
                self.lazy += chunk.size();
            }
            return Ok(Some(chunk));
        }
        Ok(None)
    }
}

/// Returns the part of a chunk from an address on.
fn after(mut chunk: Chunk<'_>, start: u64) -> Chunk<'_> {
    if let Content::Bytes(bytes) = &mut chunk.content {
        let skipped = usize::try_from(start - chunk.start).unwrap_or(usize::MAX);
        *bytes = bytes.get(skipped..).unwrap_or_default();
    }
    chunk.start = start;
    chunk
}

/// Most bytes of untouched memory to look at before and after stored memory. No match has more.
const MAX_EDGE: usize = 4096;
