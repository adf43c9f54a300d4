//! The files that the pages of a dump would be in a directory, without a copy of the pages.

use criu_images::memory::{PageFlags, PageObject, PagemapWriter};

use super::error::PagesError;
use super::held::HeldTask;
use super::merge::{Course, Merged, objects};
use super::page_size::page_size;
use super::pieces::{From, Piece, Pieces, check_counts, holder_error};
use super::proto::PARENT;
use super::recording::Recording;
use super::sink::PageRun;

/// The files of an object: a pagemap, and a pages file whose bytes stay where they are.
///
/// A run of pages takes some 40 bytes of memory, most of them in the pagemap.
#[derive(Debug)]
pub(crate) struct LaidOut {
    /// The object.
    pub(crate) object: PageObject,
    /// The number in the name of the pages file.
    pub(crate) pages_id: u32,
    /// The pagemap.
    pub(crate) pagemap: Vec<u8>,
    /// The number of bytes in the pages file.
    pub(crate) size: u64,
    /// The places of the bytes, ascending by their offset in the pages file.
    stretches: Vec<Stretch>,
    /// The number of pages in each mapping of the holder.
    counts: Vec<u64>,
}

/// Bytes in a row, up to the offset of the next stretch.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    /// Offset in the pages file.
    start: u64,
    place: Place,
}

/// The place of the first byte of a stretch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// An offset in the recording.
    Recording(u64),
    /// An address in the memory of the holder.
    Holder(u64),
}

impl Place {
    /// Returns the place so many bytes later.
    fn after(self, bytes: u64) -> Self {
        match self {
            Self::Recording(at) => Self::Recording(at.saturating_add(bytes)),
            Self::Holder(at) => Self::Holder(at.saturating_add(bytes)),
        }
    }
}

/// Lays out the pages of a dump, as [`merge`](super::merge::merge) would hand them over. `pages_id`
/// gives each pages file its number. The course begins with the number of all bytes.
///
/// # Errors
/// [`PagesError::Holder`] and [`PagesError::Changed`] if a holder has ended, or not all its pages
/// any more; [`PagesError::Hole`] for pages that are left to a parent set;
/// [`PagesError::Stopped`] if the course was cancelled; the errors of the recording.
pub(crate) fn lay_out(
    recording: &Recording,
    held: &[HeldTask<'_>],
    mut pages_id: impl FnMut() -> u32,
    course: &Course,
) -> Result<(Vec<LaidOut>, Merged), PagesError> {
    let (mut all, mut merged) = (Vec::new(), Merged::default());
    for (object, task) in objects(recording, held) {
        course.check()?;
        let pieces = Pieces::new(recording.runs(object), task)?;
        all.push(LaidOut::new(object, pages_id(), pieces, &mut merged)?);
        merged.objects += 1;
    }
    course.begin(all.iter().map(|laid_out| laid_out.size).fold(0, u64::saturating_add));
    Ok((all, merged))
}

impl LaidOut {
    fn new(
        object: PageObject,
        pages_id: u32,
        mut pieces: Pieces<'_>,
        merged: &mut Merged,
    ) -> Result<Self, PagesError> {
        let name = object.file_name();
        let written = |error| PagesError::image(&*name)(error);
        let mut pagemap = PagemapWriter::new(Vec::new(), pages_id, page_size()).map_err(written)?;
        let (mut stretches, mut size, mut next) = (Vec::new(), 0u64, None);
        while let Some(Piece { run, from }) = pieces.next()? {
            let PageRun { address, pages, flags } = run;
            if flags & PARENT != 0 {
                return Err(PagesError::Hole { object: name, address });
            }
            let bits = PageFlags::from_bits_retain(flags.into());
            pagemap.run(address, pages, bits).map_err(written)?;
            let bytes = run.payload();
            if bytes == 0 {
                continue;
            }
            let place = match from {
                From::Recording(at) => {
                    merged.sent += pages;
                    Place::Recording(at)
                }
                From::Holder => {
                    merged.held += pages;
                    Place::Holder(address)
                }
            };
            if next != Some(place) {
                stretches.push(Stretch { start: size, place });
            }
            next = Some(place.after(bytes));
            size = size.saturating_add(bytes);
        }
        let pagemap = pagemap.finish().map_err(written)?;
        let counts = pieces.into_counts();
        Ok(Self { object, pages_id, pagemap, size, stretches, counts })
    }

    /// Reads bytes of the pages file from their places. Behind the last byte of the file it checks
    /// that the holder still has all its pages, because pages that a holder loses may read as
    /// zeros. So a reader that has all bytes, in order, has the right ones.
    ///
    /// # Errors
    /// [`PagesError::Holder`] and [`PagesError::Changed`], as [`lay_out`];
    /// [`PagesError::Stopped`] if the course was cancelled; [`PagesError::Gone`] behind the end;
    /// the errors of the recording.
    pub(crate) fn read_at(
        &self,
        recording: &Recording,
        task: Option<HeldTask<'_>>,
        mut offset: u64,
        mut buffer: &mut [u8],
        course: &Course,
    ) -> Result<(), PagesError> {
        let mut at = self.stretches.partition_point(|stretch| stretch.start <= offset);
        while !buffer.is_empty() {
            course.check()?;
            let found = at.checked_sub(1).and_then(|at| self.stretches.get(at));
            let Stretch { start, place } = *found.ok_or(PagesError::Gone(self.size))?;
            let end = self.stretches.get(at).map_or(self.size, |next| next.start);
            let left = usize::try_from(end.saturating_sub(offset)).unwrap_or(usize::MAX);
            if left == 0 {
                return Err(PagesError::Gone(self.size));
            }
            let (here, rest) = buffer.split_at_mut(left.min(buffer.len()));
            match (place.after(offset - start), task) {
                (Place::Recording(at), _) => recording.read_at(at, here)?,
                (Place::Holder(address), Some(HeldTask { pid, pages, .. })) => {
                    pages.read_at(address, here).map_err(holder_error(pid, address))?;
                }
                (Place::Holder(address), None) => return Err(PagesError::NoObject { address }),
            }
            offset = offset.saturating_add(here.len() as u64);
            course.add(here.len() as u64);
            buffer = rest;
            at += 1;
        }
        if let Some(task) = task.filter(|_| offset == self.size) {
            check_counts(task, &self.counts)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
