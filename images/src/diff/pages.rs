//! Pages whose content differs.

use std::fmt;
use std::ops::Range;

use crate::error::{NoPage, Result};
use crate::memory::{Chunk, Content, Memory, PageSource};

/// A mapping of both checkpoints with pages that differ or cannot be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct DirtyMapping {
    /// First address, in the newer checkpoint.
    pub start: u64,
    /// Address after the last byte, in the newer checkpoint.
    pub end: u64,
    /// Permissions, as in /proc/PID/maps: "rw-p".
    pub permissions: String,
    /// Name of the file, or the kernel's name in brackets; empty without either.
    pub name: String,
    /// Number of pages that both checkpoints map here.
    pub pages: u64,
    /// Number of these pages that differ.
    pub dirty: u64,
    /// Ranges of the pages that differ.
    pub ranges: Vec<PageRange>,
    /// Number of these pages that cannot be compared: a dump kept them back for a lazy restore.
    pub unknown: u64,
}

/// Consecutive pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct PageRange {
    /// Address of the first page.
    pub address: u64,
    /// Number of pages.
    pub pages: u64,
}

/// Returns the mappings of `new` with pages that `old` maps too, and that differ or cannot be
/// compared.
pub(super) fn dirty(old: &Memory<'_>, new: &Memory<'_>) -> Result<Vec<DirtyMapping>> {
    let page = new.page_bytes();
    let mut before = old.vmas().map(|vma| vma.start()..vma.end()).peekable();
    let mut buffers = Buffers::default();
    let mut found = Vec::new();
    for vma in new.vmas() {
        let mut dirty = DirtyMapping {
            start: vma.start(),
            end: vma.end(),
            permissions: vma.permissions(),
            name: vma.name().unwrap_or_default(),
            pages: 0,
            dirty: 0,
            ranges: Vec::new(),
            unknown: 0,
        };
        // Both lists ascend. A range that reaches past this mapping stays for the next one.
        while let Some(range) = before.peek().filter(|range| range.start < vma.end()) {
            let both = range.start.max(vma.start())..range.end.min(vma.end());
            let ends = range.end <= vma.end();
            if !both.is_empty() {
                dirty.pages += (both.end - both.start) / page;
                compare(old, new, both, page, &mut buffers, &mut dirty)?;
            }
            if !ends {
                break;
            }
            before.next();
        }
        if dirty.dirty + dirty.unknown > 0 {
            found.push(dirty);
        }
    }
    Ok(found)
}

fn compare(
    old: &Memory<'_>,
    new: &Memory<'_>,
    range: Range<u64>,
    page: u64,
    buffers: &mut Buffers,
    dirty: &mut DirtyMapping,
) -> Result<()> {
    let mut at = range.start;
    while at < range.end {
        let (a, b) = (next(old, at)?.until(range.end), next(new, at)?.until(range.end));
        let end = a.end.min(b.end);
        // Only stored pages are read in pieces. A mapping without content may have any size.
        let end = match (a.content, b.content) {
            (Content::Absent(_), _) | (_, Content::Absent(_)) => end,
            (Content::Zero, Content::Zero) | (Content::Bytes(_), Content::Bytes(_)) => end,
            _ => end.min(at.saturating_add(PIECE)),
        };
        let (a, b) = (a.until(end), b.until(end));
        let pages = (end - at).div_ceil(page);
        match (a.content, b.content) {
            (Content::Absent(NoPage::Lazy), _) | (_, Content::Absent(NoPage::Lazy)) => {
                dirty.unknown += pages;
            }
            (Content::Absent(a), Content::Absent(b)) if a == b => {}
            // Only one checkpoint has a copy of the page, or both lack the page for different
            // reasons.
            (Content::Absent(_), _) | (_, Content::Absent(_)) => dirty.add(at, pages, page),
            (Content::Zero, Content::Zero) => {}
            (Content::Bytes(a), Content::Bytes(b)) => differ(a, b, at, page, dirty),
            _ => {
                let (a, b) = buffers.of(end - at);
                old.read_at(at, a)?;
                new.read_at(at, b)?;
                differ(a, b, at, page, dirty);
            }
        }
        at = end;
    }
    Ok(())
}

/// Returns the chunk at an address. A hole of a pages file is zero, and may have any size.
fn next<'m>(memory: &'m Memory<'_>, at: u64) -> Result<Chunk<'m>> {
    let chunk = memory.chunk(at)?;
    let hole = if chunk.content == Content::Stored { memory.hole(at)? } else { None };
    Ok(match hole {
        Some(end) => Chunk { content: Content::Zero, ..chunk.until(end) },
        None => chunk,
    })
}

fn differ(a: &[u8], b: &[u8], at: u64, page: u64, dirty: &mut DirtyMapping) {
    if a == b {
        return;
    }
    let size = usize::try_from(page).unwrap_or(usize::MAX);
    let mut address = at;
    for (a, b) in a.chunks(size).zip(b.chunks(size)) {
        if a != b {
            dirty.add(address, 1, page);
        }
        address = address.saturating_add(page);
    }
}

/// Buffers for a piece of both memories.
#[derive(Default)]
struct Buffers(Vec<u8>, Vec<u8>);

impl Buffers {
    fn of(&mut self, size: u64) -> (&mut [u8], &mut [u8]) {
        // The caller asks for one piece at most.
        let size = usize::try_from(size.min(PIECE)).unwrap_or(0);
        self.0.resize(size, 0);
        self.1.resize(size, 0);
        (&mut self.0, &mut self.1)
    }
}

impl DirtyMapping {
    fn add(&mut self, address: u64, pages: u64, page: u64) {
        self.dirty += pages;
        match self.ranges.last_mut() {
            Some(last) if last.end(page) == address => last.pages += pages,
            _ => self.ranges.push(PageRange { address, pages }),
        }
    }
}

impl PageRange {
    fn end(self, page: u64) -> u64 {
        self.address.saturating_add(self.pages.saturating_mul(page))
    }
}

impl fmt::Display for DirtyMapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { start, end, permissions, name, pages, dirty, unknown, .. } = self;
        write!(f, "pages of {start:x}-{end:x} {permissions} {name}")?;
        let space = if name.is_empty() { "" } else { " " };
        write!(f, "{space}{dirty} of {pages} differ")?;
        match unknown {
            0 => Ok(()),
            unknown => write!(f, ", {unknown} were kept back"),
        }
    }
}

/// Bytes compared at once: a multiple of every page size.
const PIECE: u64 = 1 << 20;
