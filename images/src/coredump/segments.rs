//! Choice of the memory that goes into the file.

use crate::bounds;
use crate::error::{Error, ErrorKind, Result};
use crate::memory::{Backing, Memory, PageFlags, PageSource, Vma};

/// A piece of one mapping. The file has all of its bytes, or none: `stored` says how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) stored: u64,
    /// `PF_` flags: 4 read, 2 write, 1 execute.
    pub(super) flags: u32,
    /// The dump kept the bytes back.
    pub(super) is_lazy: bool,
}

/// State of a range of addresses.
#[derive(Clone, Copy, PartialEq)]
enum Content {
    Stored,
    Lazy,
    /// Untouched memory, or memory outside the set.
    Absent,
}

/// Splits every mapping into segments that are stored and segments that are not.
pub(super) fn plan(memory: &Memory<'_>) -> Result<Vec<Segment>> {
    let page = memory.page_size().bytes();
    let mut own = memory.runs().map(|run| (run.range(page), content(run.flags))).peekable();
    let mut segments = Vec::new();
    for vma in memory.vmas() {
        let mut known: Vec<((u64, u64), Content)> = Vec::new();
        while let Some(&((start, end), content)) = own.peek() {
            if start >= vma.end() {
                break;
            }
            if vma.is_private() {
                push(&mut known, &vma, (start, end), content);
            }
            if end > vma.end() {
                break;
            }
            own.next();
        }
        if let Backing::Shared(id) = vma.backing() {
            add_shared(memory, &vma, id, &mut known)?;
        }
        cut(memory, &vma, &known, &mut segments);
        if segments.len() > bounds::SEGMENTS.length() {
            let limit = bounds::SEGMENTS.get();
            let kind = ErrorKind::TooLarge { size: segments.len() as u64, limit };
            return Err(Error::new("core file", kind));
        }
    }
    Ok(segments)
}

/// Adds shared memory to a mapping, except where the task has pages of its own.
fn add_shared(
    memory: &Memory<'_>,
    vma: &Vma<'_>,
    id: u64,
    known: &mut Vec<((u64, u64), Content)>,
) -> Result<()> {
    let shared = match memory.shared(id) {
        Ok(shared) => shared,
        // Shared memory was never written, and there is nothing to store.
        Err(error) if matches!(error.kind(), ErrorKind::Missing) => return Ok(()),
        Err(error) => return Err(error),
    };
    let page = memory.page_size().bytes();
    let own = std::mem::take(known);
    let mut own = own.into_iter().peekable();
    for run in shared.runs() {
        let (from, to) = run.range(page);
        let address = |offset: u64| {
            let delta = offset.checked_sub(vma.entry().pgoff);
            delta.map_or(vma.start(), |delta| vma.start().saturating_add(delta))
        };
        let (mut from, to) = (address(from), address(to));
        // The task's own pages hide the shared ones.
        while let Some(&((start, end), content)) = own.peek() {
            if start >= to {
                break;
            }
            push(known, vma, (from, start), self::content(run.flags));
            push(known, vma, (start, end), content);
            from = from.max(end);
            own.next();
        }
        push(known, vma, (from, to), self::content(run.flags));
    }
    known.extend(own);
    Ok(())
}

/// Adds the part of a range that lies in the mapping, if any.
fn push(
    known: &mut Vec<((u64, u64), Content)>,
    vma: &Vma<'_>,
    (start, end): (u64, u64),
    content: Content,
) {
    let range = (start.max(vma.start()), end.min(vma.end()));
    if range.0 < range.1 {
        known.push((range, content));
    }
}

/// Turns what is known of a mapping, ascending, into segments that cover it.
fn cut(
    memory: &Memory<'_>,
    vma: &Vma<'_>,
    known: &[((u64, u64), Content)],
    segments: &mut Vec<Segment>,
) {
    let first = segments.len();
    // Only gaps that read as zero can be filled.
    let fill = match vma.backing() {
        Backing::Zero | Backing::Shared(_) => MAX_GAP,
        Backing::File | Backing::Kernel => 0,
    };
    let mut add = |start: u64, end: u64, content: Content| {
        if start >= end {
            return;
        }
        let (stored, is_lazy) = (content == Content::Stored, content == Content::Lazy);
        if let Some(last) = segments.get_mut(first..).and_then(<[_]>::last_mut) {
            if (last.stored > 0) == stored && last.is_lazy == is_lazy && last.end == start {
                last.end = end;
                last.stored = if stored { end - last.start } else { 0 };
                return;
            }
        }
        let flags = flags(vma);
        let size = if stored { end - start } else { 0 };
        segments.push(Segment { start, end, stored: size, flags, is_lazy });
    };
    let reads_as_zero = |start, end| {
        let guards = memory.guards();
        let next = guards.partition_point(|guard| guard.end <= start);
        end - start <= fill && guards.get(next).is_none_or(|guard| guard.start >= end)
    };
    let mut at = vma.start();
    let mut after_stored = false;
    for &((start, end), content) in known {
        let start = start.max(at);
        let is_stored = content == Content::Stored;
        let gap = if after_stored && is_stored && reads_as_zero(at, start) {
            Content::Stored
        } else {
            Content::Absent
        };
        add(at, start, gap);
        add(start, end, content);
        (at, after_stored) = (end.max(at), is_stored);
    }
    add(at, vma.end(), Content::Absent);
}

fn content(flags: PageFlags) -> Content {
    if flags.intersects(PageFlags::PRESENT | PageFlags::PARENT) {
        Content::Stored
    } else {
        Content::Lazy
    }
}

/// Returns `PF_` flags for the `PROT_` flags of a mapping.
fn flags(vma: &Vma<'_>) -> u32 {
    let prot = vma.entry().prot;
    (prot & 1) << 2 | prot & 2 | (prot & 4) >> 2
}

/// Largest gap of untouched memory that is written as zeros, in bytes. A segment costs 56 bytes,
/// and debuggers look through segments one by one.
const MAX_GAP: u64 = 64 << 10;
