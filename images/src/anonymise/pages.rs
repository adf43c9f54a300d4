//! Pages: files of contents, plain or in LZ4 blocks.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use super::filler::Filler;
use super::whole;
use crate::error::Result;
use crate::frame::Image;
use crate::kind::{self, Kind};
use crate::memory::{PageFlags, PageSize, Pagemap, next_place, page_size_of};
use crate::proto::MmEntry;
use crate::source::{Blob, ReadAt, Source};

/// Places of the bytes in the pages files that have blocks.
#[derive(Debug, Default)]
pub(super) struct Layouts(HashMap<String, Vec<Span>>);

/// A part of a pages file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    start: u64,
    /// Bytes in the file.
    len: u64,
    /// Bytes of the pages; for plain pages as many as in the file.
    size: u64,
}

impl Layouts {
    /// Reads all pagemaps of a set.
    pub(super) fn read(source: &dyn Source, page: PageSize) -> Result<Self> {
        let mut layouts = Self::default();
        for name in source.names()? {
            let Some((found, _)) = Kind::of_file(&name) else { continue };
            if found != kind::PAGEMAP && found != kind::PAGEMAP_SHMEM {
                continue;
            }
            let Some(blob) = source.open(&name)? else { continue };
            // A pagemap that cannot be read has no blocks.
            let _ = whole(&name, &blob).and_then(|bytes| layouts.add(&name, &bytes, found, page));
        }
        Ok(layouts)
    }

    fn add(
        &mut self,
        name: &str,
        bytes: &[u8],
        found: &'static Kind,
        page: PageSize,
    ) -> Result<()> {
        let pagemap = Pagemap::parse(name, bytes, found, page)?;
        let (mut spans, mut free, mut has_blocks) = (Vec::new(), Some(0), false);
        let mut runs = pagemap.runs();
        while let Some(next) = runs.with_blocks() {
            let (run, blocks) = next?;
            if !run.flags.contains(PageFlags::PRESENT) {
                continue;
            }
            let Some(start) = next_place(&run, blocks.as_ref(), page, &mut free) else { continue };
            let (first, end) = run.range(page.bytes());
            let Some(blocks) = blocks else {
                let len = end - first;
                spans.push(Span { start, len, size: len });
                continue;
            };
            has_blocks = true;
            let mut at = 0;
            while let Some(block) = blocks.at(at) {
                let start = start.saturating_add(block.stored_at);
                spans.push(Span { start, len: block.stored, size: block.size });
                at = block.start + block.size;
            }
        }
        if has_blocks {
            self.0.insert(kind::PAGES.file_name(pagemap.pages_id().into()), spans);
        }
        Ok(())
    }

    /// Returns the parts of a file, ascending and without gaps.
    pub(super) fn of(&self, name: &str, len: u64) -> Vec<Span> {
        let mut spans = Vec::new();
        let mut free = 0;
        for span in self.0.get(name).into_iter().flatten() {
            // A pagemap that lies: what is left counts as plain pages.
            if span.start < free || span.start.checked_add(span.len).is_none_or(|end| end > len) {
                break;
            }
            if span.start > free {
                let gap = span.start - free;
                spans.push(Span { start: free, len: gap, size: gap });
            }
            free = span.start + span.len;
            spans.extend((span.len > 0).then_some(*span));
        }
        if let Some(rest) = len.checked_sub(free).filter(|rest| *rest > 0) {
            spans.push(Span { start: free, len: rest, size: rest });
        }
        spans
    }
}

/// Returns the page size of the machine that a set was dumped on; `None` if the set has no address
/// space. The smallest size counts, because mappings of a task with a wrong auxiliary vector may
/// agree to a larger one.
pub(super) fn page_size(source: &dyn Source) -> Result<Option<PageSize>> {
    let mut sizes = Vec::new();
    for name in source.names()? {
        if Kind::of_file(&name).is_none_or(|(found, _)| found != kind::MM) {
            continue;
        }
        let Some(blob) = source.open(&name)? else { continue };
        let mm = whole(&name, &blob)
            .and_then(|bytes| Image::parse(&name, &bytes, kind::MM)?.single::<MmEntry>());
        // An address space that cannot be read says no size.
        sizes.extend(mm.ok().as_ref().map(page_size_of));
    }
    Ok(sizes.into_iter().min_by_key(|size| size.bytes()))
}

/// A pages file whose contents are replaced as they are read.
#[derive(Debug)]
pub(super) struct Pages {
    pages: Blob,
    spans: Vec<Span>,
    filler: Arc<Filler>,
}

impl Pages {
    pub(super) fn new(pages: Blob, spans: Vec<Span>, filler: Arc<Filler>) -> Self {
        Self { pages, spans, filler }
    }

    /// Returns the unit that holds a byte: a block, or a plain page. Both are replaced as a whole.
    fn unit(&self, offset: u64) -> Option<Span> {
        let place = self.spans.partition_point(|span| span.start <= offset).checked_sub(1)?;
        let span = self.spans.get(place)?;
        if span.len != span.size {
            return Some(*span);
        }
        let within = (offset - span.start) / PAGE * PAGE;
        let len = PAGE.min(span.len.checked_sub(within)?);
        Some(Span { start: span.start + within, len, size: len })
    }
}

impl ReadAt for Pages {
    fn size(&self) -> u64 {
        self.pages.len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let (mut at, mut rest) = (offset, buf);
        let mut unit = Vec::new();
        while !rest.is_empty() {
            let Span { start, len, size } = self.unit(at).ok_or(io::ErrorKind::UnexpectedEof)?;
            unit.resize(usize::try_from(len).unwrap_or(usize::MAX), 0);
            self.pages.read_at(start, &mut unit)?;
            if len == size {
                self.filler.replace(&mut unit);
            } else {
                let size = usize::try_from(size).unwrap_or(usize::MAX);
                let block = self.filler.block(&unit, size);
                unit = block.ok_or_else(|| io::Error::other("no LZ4 block has these sizes"))?;
            }
            let from = usize::try_from(at - start).unwrap_or(usize::MAX);
            let ready = unit.get(from..).unwrap_or_default();
            let taken = ready.len().min(rest.len());
            if taken == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let (now, later) = rest.split_at_mut(taken);
            now.iter_mut().zip(ready).for_each(|(to, from)| *to = *from);
            rest = later;
            at += taken as u64;
        }
        Ok(())
    }
}

/// Bytes of plain pages that are replaced at once: no page is smaller.
const PAGE: u64 = 4096;
