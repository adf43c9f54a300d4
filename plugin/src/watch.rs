//! The task whose pages CRIU looks at, and what its holder has of them.

use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;

use crate::journal::{Field, Journal, Record, State};
use crate::mappings::{Look, Mappings};
use crate::sys::call::{Access, Fd};
use crate::sys::file;
use crate::sys::pagemap::{EMPTY, Pagemap, Region, SMALL};
use crate::sys::proc::{PAGE, Stat, decimal};

/// The descriptor of a pagemap, and whose pages it shows. CRIU asks about one task after another,
/// so the last one is remembered.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    seen: Option<Seen>,
    holder: Option<Holder>,
}

/// A descriptor that has been looked at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Seen {
    fd: i32,
    file: (u64, u64),
}

impl Watch {
    /// Finds the holder of the task whose pagemap a descriptor is. Returns `None` if it is no
    /// pagemap, or that of a task without a holder.
    pub(crate) fn holder(&mut self, journal: &Journal<'_>, fd: i32) -> Option<&mut Holder> {
        let seen = Seen { fd, file: file::identity(fd).ok()? };
        if self.seen != Some(seen) {
            self.holder = task_of(fd, "pagemap").and_then(|task| Holder::of(journal, task).ok());
            self.seen = Some(seen);
        }
        self.holder.as_mut()
    }
}

/// Tells which task an open file of `/proc/PID` is about: the path says it, and that path leads to
/// the same file.
pub(crate) fn task_of(fd: i32, name: &str) -> Option<i32> {
    let mut buffer = [0; 64];
    let path = file::path_of(fd, &mut buffer).ok()?;
    let rest = path.strip_suffix(name.as_bytes())?.strip_suffix(b"/")?;
    let pid = decimal(rest.rsplit(|byte| *byte == b'/').next()?)?;
    let pid = i32::try_from(pid).ok()?;
    let own = Fd::open(pid, name, Access::Read).ok()?;
    let is_it = file::identity(own.as_raw_fd()).ok()? == file::identity(fd).ok()?;
    is_it.then_some(pid)
}

/// A parked holder, as far as it matters which pages it has.
#[derive(Debug)]
pub(crate) struct Holder {
    task: u64,
    pagemap: Pagemap,
    mappings: Mappings,
    /// Pages that the holder or the injection has written after the fork, ascending. CRIU saves
    /// those of the task.
    written: [Region; 2],
}

impl Holder {
    /// Opens the holder of a task.
    fn of(journal: &Journal<'_>, task: i32) -> io::Result<Self> {
        let missing = || io::Error::from(io::ErrorKind::NotFound);
        let task = u64::from(task.unsigned_abs());
        let record = journal.find(task).filter(|record| record.state() == Some(State::Held));
        let record = record.ok_or_else(missing)?;
        let pid = i32::try_from(record.get(Field::Holder)).map_err(|_| missing())?;
        let pagemap = Pagemap::new(Fd::open(pid, "pagemap", Access::Read)?)?;
        let mappings = Mappings::of(pid)?;
        // Whatever was opened is of the holder, and not of a later process with its number.
        if Stat::of(pid)?.start != record.get(Field::HolderStart) {
            return Err(missing());
        }
        Ok(Self { task, pagemap, mappings, written: written(&record) })
    }

    /// Looks what the holder has mapped in a range. What cannot be looked at is special.
    pub(crate) fn look(&mut self, range: &Range<u64>) -> Look {
        self.mappings.look(range).unwrap_or(Look { is_one: false, is_special: true })
    }

    /// Tells whether the holder has all pages of a part of one mapping. The kernel copies all pages
    /// of a mapping at the fork or none, so one page that the holder has from the task is enough.
    pub(crate) fn has_all(&self, mapping: &Range<u64>) -> bool {
        let has =
            |part: Range<u64>| !part.is_empty() && self.pagemap.has_any(&part).unwrap_or(false);
        let mut start = mapping.start;
        for written in self.written_in(mapping) {
            if has(start..written.start) {
                return true;
            }
            start = written.end;
        }
        has(start..mapping.end)
    }

    /// Returns the parts of a range that were written after the fork, ascending.
    pub(crate) fn written_in(&self, range: &Range<u64>) -> impl Iterator<Item = Range<u64>> {
        let Range { start, end } = *range;
        let parts = self.written.into_iter();
        parts
            .map(move |part| part.start.max(start)..part.end.min(end))
            .filter(|part| !part.is_empty())
    }

    /// Finds the pages of a range that the holder has from the task. The pages that were written
    /// after the fork are not among them.
    ///
    /// # Errors
    /// The errors of `PAGEMAP_SCAN`: `ESRCH` if the process is gone. There is no room.
    pub(crate) fn regions<'b>(
        &self,
        range: &Range<u64>,
        into: &'b mut [Region],
    ) -> io::Result<&'b [Region]> {
        let mut found = EMPTY;
        let (found, _) = self.pagemap.regions(range, &mut found)?;
        let count = without(found, &self.written, into).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(into.get(..count).unwrap_or_default())
    }

    /// Adds what has been hidden to the record of the task.
    pub(crate) fn note(&self, journal: &Journal<'_>, field: Field, hidden: u64) {
        if let Some(record) = journal.find(self.task) {
            record.set(field, record.get(field).saturating_add(hidden));
        }
    }
}

/// The pages that are written after the fork: the injection writes below the stack pointer, and the
/// kernel writes the area for restartable sequences.
fn written(record: &Record<'_>) -> [Region; 2] {
    let pages = |start: u64, end: u64| Region {
        start: start & !(PAGE - 1),
        end: (end & !(PAGE - 1)).saturating_add(PAGE),
        categories: 0,
    };
    let stack = record.get(Field::Stack);
    let stack = pages(stack.saturating_sub(BELOW_STACK), stack);
    let rseq = match record.get(Field::Rseq) {
        0 => Region::default(),
        area => pages(area, area.saturating_add(RSEQ_BYTES)),
    };
    let (first, second) = if rseq.start < stack.start { (rseq, stack) } else { (stack, rseq) };
    if first.end < second.start {
        return [first, second];
    }
    let end = first.end.max(second.end);
    [Region { end, ..first }, Region { start: end, end, categories: 0 }]
}

/// Takes regions off others. Both are ascending, and none overlaps the next. Returns the number of
/// regions that are left, or `None` if there is no room for them.
pub(crate) fn without(regions: &[Region], less: &[Region], into: &mut [Region]) -> Option<usize> {
    let (mut count, mut next) = (0usize, less);
    let mut keep = |start: u64, end: u64, categories: u64| {
        if start < end {
            *into.get_mut(count)? = Region { start, end, categories };
            count = count.saturating_add(1);
        }
        Some(())
    };
    for region in regions {
        let mut start = region.start;
        while let [first, rest @ ..] = next {
            if first.start >= region.end {
                break;
            }
            keep(start, first.start, region.categories)?;
            start = start.max(first.end);
            if first.end > region.end {
                break;
            }
            next = rest;
        }
        keep(start, region.end, region.categories)?;
    }
    Some(count)
}

/// Bytes below the stack pointer in which the injection may write.
const BELOW_STACK: u64 = 16 << 10;

/// Bytes of an area for restartable sequences. Newer kernels may have larger ones.
const RSEQ_BYTES: u64 = 1024;

const _: () = assert!(BELOW_STACK < SMALL);
