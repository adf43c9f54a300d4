//! Memory that another process holds for a task, as it was at one moment.

use std::fmt;
use std::io;
use std::ops::Range;

use criu_images::Task;
use criu_images::memory::{Vma, VmaStatus};
use criu_images::proto::VmaEntry;

use super::error::PagesError;
use super::page_size::page_size;

/// Pages of a task as they were at one moment, while the task itself runs on.
///
/// The pages must not change while they are held. Pages of hugetlbfs are not held: the kernel may
/// take them away from a process.
pub(crate) trait HeldPages: Sync {
    /// Appends runs of held pages to `runs`, from the start of the range on, ascending and inside
    /// the range. A call may look at a part of the range only: it returns the address up to which
    /// it has looked, which is above the start.
    ///
    /// A page is held if the task had it in memory or in swap, and it belongs neither to a file nor
    /// to the kernel's page of zeros.
    ///
    /// # Errors
    /// The system's. A holder that has ended is an error, and does not look like no pages.
    fn scan(&self, range: Range<u64>, runs: &mut Vec<Range<u64>>) -> io::Result<u64>;

    /// Reads `buffer.len()` bytes from an address on.
    ///
    /// # Errors
    /// The system's, and `UnexpectedEof` if there are fewer bytes.
    fn read_at(&self, address: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Returns how many pages of the range were held at first. `None` if nobody has counted them.
    fn counted(&self, range: Range<u64>) -> Option<u64>;
}

/// A task whose pages are held.
#[derive(Clone, Copy)]
pub(crate) struct HeldTask<'h> {
    /// Id of the task in its own pid namespace: the id in the names of its images.
    pub(crate) pid: u32,
    /// Memory for which the pages of the holder count.
    pub(crate) mappings: &'h [Mapping],
    /// The pages.
    pub(crate) pages: &'h dyn HeldPages,
    /// Tells which of the pages are in the parent set, if there is one.
    pub(crate) in_parent: Option<&'h dyn InParent>,
}

/// A mapping of a task, or a part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mapping {
    /// First address.
    pub(crate) start: u64,
    /// Address after the last byte.
    pub(crate) end: u64,
    /// A restore may fetch the pages later.
    pub(crate) lazy: bool,
}

/// Knows the pages that the parent set has with the same bytes.
///
/// The parent set must have each page that is said to be in it. Otherwise a
/// [`Store`](super::Store) fails with [`PagesError::Hole`].
pub(crate) trait InParent: Sync {
    /// Looks at held pages, of which there is at least one. Returns `true` if the first one is in
    /// the parent set, and the address up to which the same holds for the others.
    ///
    /// # Errors
    /// The system's.
    fn stretch(&self, pages: Range<u64>) -> io::Result<(bool, u64)>;
}

impl<F: Fn(Range<u64>) -> io::Result<(bool, u64)> + Sync> InParent for F {
    fn stretch(&self, pages: Range<u64>) -> io::Result<(bool, u64)> {
        self(pages)
    }
}

impl fmt::Debug for HeldTask<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeldTask").field("pid", &self.pid).finish_non_exhaustive()
    }
}

/// Returns the mappings of a task for which a holder's pages count, as the mm image lists them:
/// memory of the task's own, without hugetlbfs. The set does not need to have the pagemap.
///
/// Pages are marked for a lazy restore as a plain dump marks them. A plain dump marks none if a
/// stack pointer is at the start of a page. All pages but those of stack pointers are marked then.
///
/// # Errors
/// [`PagesError::Image`] if an image cannot be read; [`PagesError::Mappings`] if the mappings do
/// not ascend.
pub(crate) fn mappings(task: &Task<'_>) -> Result<Vec<Mapping>, PagesError> {
    let pid = task.pid();
    let mut found = Vec::new();
    task.each_vma(|vma| {
        if is_held(&vma) {
            let (start, end, lazy) = (vma.start(), vma.end(), vma.can_be_lazy());
            found.push(Mapping { start, end, lazy });
        }
    })?;
    check(pid, &found)?;
    let threads = task.threads()?;
    let pointers: Vec<u64> = threads.iter().filter_map(|thread| thread.stack_pointer()).collect();
    let page = page_size().bytes();
    if pointers.iter().any(|pointer| pointer % page == 0) {
        let stacks = pointers.iter().map(|pointer| pointer - pointer % page).collect();
        found = without_stacks(found, stacks, page);
    }
    Ok(found)
}

/// Returns `true` if a holder's pages count for a mapping.
fn is_held(vma: &Vma<'_>) -> bool {
    let VmaEntry { flags, .. } = vma.entry();
    let kernel = VmaStatus::VSYSCALL | VmaStatus::VVAR | VmaStatus::GUARD;
    vma.is_private()
        && !vma.status().intersects(kernel)
        && flags & (MAP_PRIVATE | MAP_HUGETLB) == MAP_PRIVATE
}

/// Checks that mappings ascend, do not overlap, and consist of pages.
fn check(pid: u32, mappings: &[Mapping]) -> Result<(), PagesError> {
    let page = page_size().bytes();
    let mut free = 0;
    for &Mapping { start, end, .. } in mappings {
        if start < free || end <= start || (start | end) % page != 0 {
            return Err(PagesError::Mappings { pid, start, end });
        }
        free = end;
    }
    Ok(())
}

/// Takes the mark for a lazy restore from pages, which are split off their mappings.
fn without_stacks(mappings: Vec<Mapping>, mut stacks: Vec<u64>, page: u64) -> Vec<Mapping> {
    stacks.sort_unstable();
    stacks.dedup();
    let mut parts = Vec::new();
    for Mapping { mut start, end, lazy } in mappings {
        let first = stacks.partition_point(|stack| *stack < start);
        let inside = stacks.iter().skip(first).take_while(|stack| lazy && **stack < end);
        for &stack in inside {
            let after = stack.saturating_add(page);
            parts.extend((start < stack).then_some(Mapping { start, end: stack, lazy }));
            parts.push(Mapping { start: stack, end: after, lazy: false });
            start = after;
        }
        parts.extend((start < end).then_some(Mapping { start, end, lazy }));
    }
    parts
}

// From mmap(2): the numbers hold on all architectures that holders are made on.
const MAP_PRIVATE: u32 = 2;
const MAP_HUGETLB: u32 = 0x4_0000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_stack_pointers_are_split_off_and_not_lazy() {
        let mapping = |start, end, lazy| Mapping { start, end, lazy };
        let all = vec![
            mapping(0x1000, 0x5000, true),
            mapping(0x5000, 0x7000, false),
            mapping(0x9000, 0xa000, true),
        ];
        let parts = without_stacks(all.clone(), vec![0x6000, 0x2000, 0x9000, 0x2000], 0x1000);
        let want = [
            mapping(0x1000, 0x2000, true),
            mapping(0x2000, 0x3000, false),
            mapping(0x3000, 0x5000, true),
            mapping(0x5000, 0x7000, false),
            mapping(0x9000, 0xa000, false),
        ];
        assert_eq!(parts, want);
        assert_eq!(without_stacks(all.clone(), vec![0x8000], 0x1000), all);
    }

    #[test]
    fn mappings_that_do_not_ascend_are_refused() {
        let mapping = |start, end| Mapping { start, end, lazy: true };
        check(7, &[mapping(0x1000, 0x2000), mapping(0x2000, 0x3000)]).unwrap();
        for wrong in [
            [mapping(0x1000, 0x3000), mapping(0x2000, 0x4000)],
            [mapping(0x3000, 0x4000), mapping(0x1000, 0x2000)],
            [mapping(0x1000, 0x2000), mapping(0x2000, 0x2000)],
            [mapping(0x1000, 0x2000), mapping(0x2000, 0x2800)],
        ] {
            let error = check(7, &wrong).unwrap_err().to_string();
            assert!(error.starts_with("the mappings of task 7 do not ascend at "), "{error}");
        }
    }
}
