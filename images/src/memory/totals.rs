//! Amounts of memory that tasks have, by its source.

use std::fmt;
use std::iter::Peekable;

use crate::memory::{Backing, Memory, PageFlags, Vma};
use crate::text::count;

/// Amount of memory that a task has, in pages. All fields except `vmas` and `mapped` add up to
/// `mapped`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Totals {
    /// Number of mappings.
    pub vmas: u64,
    /// Pages that the mappings cover.
    pub mapped: u64,
    /// The task's own pages whose bytes are in this set.
    pub present: u64,
    /// The task's own pages whose bytes are in a parent set.
    pub parent: u64,
    /// The task's own pages that the dump kept back for a lazy restore.
    pub lazy: u64,
    /// Pages without a file that have not been touched.
    pub zero: u64,
    /// Pages of mapped files, except the task's own pages.
    pub file: u64,
    /// Pages of shared memory.
    pub shared: u64,
    /// Pages of the kernel and of plugins, and guard pages.
    pub kernel: u64,
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", count(self.vmas, "mapping"), count(self.mapped, "page"))?;
        let parts = [
            (self.present, "stored"),
            (self.parent, "in the parent set"),
            (self.lazy, "kept back"),
            (self.zero, "untouched"),
            (self.file, "of files"),
            (self.shared, "shared"),
            (self.kernel, "of the kernel"),
        ];
        let parts = parts.iter().filter(|(pages, _)| *pages > 0);
        for (i, (pages, what)) in parts.enumerate() {
            let joint = if i == 0 { ": " } else { ", " };
            write!(f, "{joint}{pages} {what}")?;
        }
        Ok(())
    }
}

impl Totals {
    /// Returns the number of the task's own pages, wherever their bytes are.
    pub fn own(&self) -> u64 {
        self.present + self.parent + self.lazy
    }

    /// Adds other amounts. A sum stays at the largest number, because images may claim any number.
    pub(crate) fn add(&mut self, other: &Self) {
        self.vmas = self.vmas.saturating_add(other.vmas);
        self.mapped = self.mapped.saturating_add(other.mapped);
        self.present = self.present.saturating_add(other.present);
        self.parent = self.parent.saturating_add(other.parent);
        self.lazy = self.lazy.saturating_add(other.lazy);
        self.zero = self.zero.saturating_add(other.zero);
        self.file = self.file.saturating_add(other.file);
        self.shared = self.shared.saturating_add(other.shared);
        self.kernel = self.kernel.saturating_add(other.kernel);
    }
}

impl Memory<'_> {
    /// Returns the bytes of a page.
    pub(crate) fn page_bytes(&self) -> u64 {
        self.page_size.bytes()
    }

    /// Counts the pages of all mappings.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        self.usage(|_, pages| totals.add(&pages));
        totals
    }

    /// Counts the pages of each mapping, by rising address, and calls `each` with them.
    pub fn usage(&self, mut each: impl FnMut(Vma<'_>, Totals)) {
        let page = self.page_size.bytes();
        let runs = self.runs().map(|run| (run.range(page), run.flags));
        let mut runs = runs.peekable();
        let guards = self.guards.iter().map(|guard| ((guard.start, guard.end), ()));
        let mut guards = guards.peekable();
        for vma in self.vmas() {
            let range = (vma.start(), vma.end());
            let pages = vma.size() / page;
            let mut totals = Totals { vmas: 1, mapped: pages, ..Totals::default() };
            let mut own = 0;
            overlaps(&mut runs, range, |flags, bytes| {
                let count = match flags {
                    _ if flags.contains(PageFlags::PARENT) => &mut totals.parent,
                    _ if flags.contains(PageFlags::PRESENT) => &mut totals.present,
                    _ => &mut totals.lazy,
                };
                *count += bytes / page;
                own += bytes / page;
            });
            let mut guarded = 0;
            overlaps(&mut guards, range, |(), bytes| guarded += bytes / page);
            let others = pages.saturating_sub(own);
            let guarded = guarded.min(others);
            totals.kernel += guarded;
            *match vma.backing() {
                Backing::Zero => &mut totals.zero,
                Backing::File => &mut totals.file,
                Backing::Shared(_) => &mut totals.shared,
                Backing::Kernel => &mut totals.kernel,
            } += others - guarded;
            each(vma, totals);
        }
    }
}

/// Calls `each` for every item whose range overlaps `range`, with the number of bytes that they
/// share. Both ascend from call to call. An item that reaches past `range` stays for the next call.
fn overlaps<T: Copy>(
    items: &mut Peekable<impl Iterator<Item = ((u64, u64), T)>>,
    range: (u64, u64),
    mut each: impl FnMut(T, u64),
) {
    while let Some(&((start, end), item)) = items.peek() {
        if start >= range.1 {
            break;
        }
        let shared = end.min(range.1).saturating_sub(start.max(range.0));
        if shared > 0 {
            each(item, shared);
        }
        if end > range.1 {
            break;
        }
        items.next();
    }
}
