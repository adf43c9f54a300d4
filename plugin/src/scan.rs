//! The answers to CRIU when it asks the kernel which pages a task has.
//!
//! ```text
//! mapping of more than 2 MiB    the holder has a page of it: all are hidden
//!                               it has none: as the kernel says
//! window of at most 2 MiB       what the kernel says, less what the holder has
//! shared, hugetlb, device       as the kernel says
//! ```

use std::ffi::c_int;
use std::ops::Range;

use crate::journal::{Field, Journal};
use crate::mappings::Look;
use crate::sys::pagemap::{EMPTY, FILE, PRESENT, REGIONS, Region, SMALL, SWAPPED, Scan, ZERO};
use crate::sys::proc::PAGE;
use crate::watch::{Holder, Watch, without};

/// Answers a scan of CRIU's. Returns the number of regions, or `None` if the kernel is to answer.
pub(crate) fn answer(
    watch: &mut Watch,
    journal: &Journal<'_>,
    fd: c_int,
    scan: &mut Scan,
) -> Option<c_int> {
    let range = asked(scan)?;
    let holder = watch.holder(journal, fd)?;
    let (count, field, hidden) = match holder.look(&range) {
        Look { is_special: true, .. } => None,
        _ if range.end - range.start <= SMALL => window(holder, fd, scan, &range),
        Look { is_one: true, .. } => whole(holder, fd, scan, &range),
        // CRIU scans more than one large mapping only in versions that are not known.
        Look { is_one: false, .. } => None,
    }?;
    holder.note(journal, field, hidden);
    c_int::try_from(count).ok()
}

/// The range of a scan by which CRIU looks for the pages that it is to save. Other scans, such as
/// the one for guard regions, and those in ways that are not known, return `None`.
fn asked(scan: &Scan) -> Option<Range<u64>> {
    let is_known = scan.size == size_of::<Scan>() as u64
        && scan.flags == 0
        && scan.max_pages == 0
        && scan.category_mask == ZERO | FILE
        && scan.category_inverted == ZERO | FILE
        && scan.category_anyof_mask == PRESENT | SWAPPED
        && scan.vec != 0;
    (is_known && scan.start < scan.end).then_some(scan.start..scan.end)
}

type Answer = Option<(usize, Field, u64)>;

/// Answers for one large mapping: if the holder has it, only the pages that were written after the
/// fork are shown.
fn whole(holder: &Holder, fd: c_int, scan: &mut Scan, mapping: &Range<u64>) -> Answer {
    if !holder.has_all(mapping) {
        return None;
    }
    let mut hidden = mapping.end - mapping.start;
    let mut shown = EMPTY;
    let mut count = 0;
    for part in holder.written_in(mapping) {
        hidden = hidden.saturating_sub(part.end - part.start);
        count += scan.ask(fd, &part, shown.get_mut(count..)?)?;
    }
    scan.give(shown.get(..count)?)?;
    scan.walk_end = mapping.end;
    Some((count, Field::HiddenWhole, hidden))
}

/// Answers for a window, in which there may be several mappings.
fn window(holder: &Holder, fd: c_int, scan: &mut Scan, range: &Range<u64>) -> Answer {
    let (mut real, mut held, mut shown) = (EMPTY, EMPTY, EMPTY);
    let count = scan.ask(fd, range, &mut real)?;
    let real = real.get(..count)?;
    let held = holder.regions(range, &mut held).ok()?;
    let count = without(real, held, &mut shown)?;
    let shown = shown.get(..count)?;
    scan.give(shown)?;
    scan.walk_end = range.end;
    let hidden = pages(real).saturating_sub(pages(shown));
    Some((count, Field::Hidden, hidden))
}

fn pages(regions: &[Region]) -> u64 {
    regions.iter().map(|region| (region.end - region.start) / PAGE).sum()
}

const _: () = assert!(SMALL / PAGE == REGIONS as u64);
