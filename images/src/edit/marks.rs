//! Marks of pages that a lazy restore may bring later, where a dump has set none.

use std::ops::Range;

use prost::Message as _;

use super::Edited;
use super::rewrite::{Patch, Rewritten, Value, put_entry, rewrite_message};
use crate::error::{ErrorKind, Fault, Result};
use crate::frame::{Image, RawEntry};
use crate::kind;
use crate::memory::{Memory, PageFlags, PageSize, PageSource, Pagemap, Run, Vma};
use crate::proto::PagemapEntry;
use crate::schema::Entry;
use crate::set::ImageSet;

/// A task of which CRIU has marked no page for a lazy restore (`PE_LAZY`), although pages could
/// come later. [`Edit::MarkLazy`](super::Edit::MarkLazy) marks them.
///
/// CRIU does not mark pages that hold the stack pointer of a thread. For that it compares the
/// offsets in a page, and not the numbers of the pages (`is_stack`). If the stack pointer of one
/// thread is at the start of a page, each page of the task passes for a stack. CRIU 4.1.1 and 4.3
/// do so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unmarked {
    /// Process id of the task.
    pub pid: u32,
    /// Id of the thread with a stack pointer at the start of a page.
    pub tid: u32,
    /// Stack pointer of the thread.
    pub stack_pointer: u64,
    /// Number of pages that could come later.
    pub pages: u64,
}

/// Finds the tasks of which CRIU has marked no page for a lazy restore, because a stack pointer is
/// at the start of a page. A task whose pagemap is not in the set is left out.
///
/// ```
/// use criu_images::ImageSet;
/// use criu_images::edit::unmarked;
///
/// let set = ImageSet::open("tests/data/pipeline")?;
/// assert!(unmarked(&set)?.is_empty());
/// # Ok::<(), criu_images::Error>(())
/// ```
///
/// # Errors
/// The errors of reading the images of the tasks, of their threads, and of their memory.
pub fn unmarked(set: &ImageSet) -> Result<Vec<Unmarked>> {
    Ok(tasks(set)?.into_iter().map(|task| task.found).collect())
}

/// Marks the pages of all tasks that have no mark.
pub(super) fn mark(set: &ImageSet) -> Result<Vec<Edited>> {
    let mut edited = Vec::new();
    for task in tasks(set)? {
        let name = kind::PAGEMAP.file_name(task.found.pid.into());
        if let Some(bytes) = set.read(&name)? {
            let (bytes, changes) = task.mark(&name, &bytes)?;
            edited.push(Edited { name, bytes, changes });
        }
    }
    Ok(edited)
}

/// A task without marks.
struct Task {
    found: Unmarked,
    page_size: PageSize,
    /// Addresses of pages that may come later, ascending.
    later: Vec<Range<u64>>,
}

fn tasks(set: &ImageSet) -> Result<Vec<Task>> {
    let mut found = Vec::new();
    for task in set.checkpoint()?.tasks() {
        let threads = task.threads()?;
        let pointers = threads.iter().filter_map(|thread| {
            let pointer = thread.stack_pointer()?;
            Some((thread.tid(), pointer))
        });
        let pointers: Vec<(u32, u64)> = pointers.collect();
        let at_page =
            |size: PageSize| pointers.iter().find(|(_, pointer)| pointer % size.bytes() == 0);
        // Memory is large, and no page is smaller.
        if at_page(PageSize::K4).is_none() {
            continue;
        }
        let Some(memory) = task.memory_here()? else { continue };
        let page_size = memory.page_size();
        let Some(&(tid, stack_pointer)) = at_page(page_size) else { continue };
        if memory.runs().any(|run| run.flags.contains(PageFlags::LAZY)) {
            continue;
        }
        let later = later(&memory, pointers.iter().map(|(_, pointer)| *pointer));
        let pages = memory.runs().map(|run| {
            let parts = parts(&run, page_size.bytes(), &later).into_iter();
            parts.filter(|part| part.is_later).map(|part| part.pages).sum::<u64>()
        });
        let found_one = Unmarked { pid: task.pid(), tid, stack_pointer, pages: pages.sum() };
        if found_one.pages > 0 {
            found.push(Task { found: found_one, page_size, later });
        }
    }
    Ok(found)
}

/// Returns the addresses of mappings that can be lazy, without the pages of stack pointers.
fn later(memory: &Memory<'_>, pointers: impl Iterator<Item = u64>) -> Vec<Range<u64>> {
    let size = memory.page_size().bytes();
    let mut stacks: Vec<u64> = pointers.map(|pointer| pointer - pointer % size).collect();
    stacks.sort_unstable();
    let mut later = Vec::new();
    for vma in memory.vmas().filter(Vma::can_be_lazy) {
        let mut start = vma.start();
        let first = stacks.partition_point(|stack| *stack < start);
        for &stack in stacks.iter().skip(first).take_while(|stack| **stack < vma.end()) {
            later.extend((start < stack).then_some(start..stack));
            start = stack.saturating_add(size);
        }
        later.extend((start < vma.end()).then_some(start..vma.end()));
    }
    later
}

/// A part of a run: pages that may all come later, or none of which may.
struct Part {
    start: u64,
    pages: u64,
    is_later: bool,
}

/// Splits a run. A compressed run stays whole, because its blocks cannot be split at each page.
fn parts(run: &Run, page_size: u64, later: &[Range<u64>]) -> Vec<Part> {
    let (first, end) = run.range(page_size);
    let mut parts = Vec::new();
    let mut add = |start: u64, end: u64, is_later| {
        parts.extend((start < end).then(|| {
            let pages = (end - start) / page_size;
            Part { start, pages, is_later }
        }));
    };
    let mut at = first;
    if run.flags.contains(PageFlags::PRESENT) {
        let next = later.partition_point(|range| range.end <= first);
        for range in later.iter().skip(next).take_while(|range| range.start < end) {
            let from = range.start.max(first);
            add(at, from, false);
            at = range.end.min(end);
            add(from, at, true);
        }
    }
    add(at, end, false);
    if run.compressed && parts.len() > 1 {
        return vec![Part { start: first, pages: run.pages, is_later: false }];
    }
    parts
}

impl Task {
    /// Returns the new pagemap, and the number of runs with a mark.
    fn mark(&self, name: &str, bytes: &[u8]) -> Result<(Vec<u8>, usize)> {
        let mut runs = Pagemap::parse(name, bytes, kind::PAGEMAP, self.page_size)?.runs();
        let mut image = Image::parse(name, bytes, kind::PAGEMAP)?;
        let (mut new, mut marked) = (Vec::with_capacity(bytes.len()), 0);
        // The head, which is no run, stays.
        image.next_entry()?;
        new.extend(bytes.get(..image.position()).unwrap_or_default());
        while let Some(entry) = image.next_entry()? {
            let run = runs.next().transpose()?;
            let run = run.ok_or_else(|| entry.fault(ErrorKind::Missing))?;
            let parts = parts(&run, self.page_size.bytes(), &self.later);
            let is_split = parts.len() > 1;
            for part in parts {
                let changed = part.changed(&run, &entry, is_split);
                let changed = changed.map_err(|fault| entry.fault(fault))?;
                let message = changed.as_deref().unwrap_or(entry.bytes());
                put_entry(&image, &entry, message, &mut new)?;
                marked += usize::from(part.is_later);
            }
        }
        Ok((new, marked))
    }
}

impl Part {
    /// Returns the entry of this part of a run. Returns `None` if the entry stays as it is.
    ///
    /// The number of pages stays in the field that the CRIU of the dump reads.
    fn changed(
        &self,
        run: &Run,
        entry: &RawEntry<'_>,
        is_split: bool,
    ) -> Result<Option<Vec<u8>>, Fault> {
        let schema = PagemapEntry::schema();
        let is_wide = PagemapEntry::decode(entry.bytes()).is_ok_and(|run| run.nr_pages.is_some());
        let number = |value| [Value::Number(value)];
        let mut change = |patch: &mut Patch, _: &[u8]| {
            if patch.message() != schema.name {
                return Ok(());
            }
            if is_split {
                patch.set("vaddr", number(self.start));
                let pages = if is_wide { "nr_pages" } else { "compat_nr_pages" };
                patch.set(pages, number(self.pages));
            }
            if self.is_later {
                patch.set("flags", number((run.flags | PageFlags::LAZY).bits().into()));
            }
            Ok(())
        };
        Ok(match rewrite_message(schema, entry.bytes(), &mut change)? {
            Rewritten::New(bytes) => Some(bytes),
            Rewritten::Same | Rewritten::Removed => None,
        })
    }
}
