//! The comparison of images with the memory that they were made of.

use criu_images::memory::{PageObject, PageSet, PageSource, Run, StoredPages};

use super::error::PagesError;
use super::held::HeldTask;
use super::merge::{Course, objects};
use super::page_size::page_size;
use super::pieces::{From, Piece, Pieces, holder_error};
use super::recording::Recording;

/// Compares the pages of a set with those that it was [merged](super::merge::merge) of, byte by
/// byte. Pages that are left to a parent set are compared with the bytes there. Returns the number
/// of pages.
///
/// # Errors
/// [`PagesError::Differs`] at the first page of an object that differs, that the images lack, or
/// that they have beyond; the errors of reading the images, the recording and the holders.
pub(crate) fn compare(
    set: &PageSet,
    recording: &Recording,
    held: &[HeldTask<'_>],
    course: &Course,
) -> Result<u64, PagesError> {
    let mut pages = 0u64;
    for (object, task) in objects(recording, held) {
        // The place of the bytes does not matter here.
        let task = task.map(|task| HeldTask { in_parent: None, ..task });
        let mut pieces = Pieces::new(recording.runs(object), task)?;
        let stored = set.pages(object)?;
        let stored = stored.ok_or_else(|| differs(object, 0, "there is no pagemap"))?;
        let mut listed = Listed { object, runs: stored.runs(), next: None };
        let mut compared =
            Compared { object, stored: &stored, recording, task, buffers: Default::default() };
        while let Some(piece) = pieces.next()? {
            let Piece { run, .. } = piece;
            listed.take(run.address, run.pages.saturating_mul(page_size().bytes()))?;
            compared.piece(piece, course)?;
            pages = pages.saturating_add(run.pages);
        }
        listed.end()?;
        pieces.check_again()?;
    }
    Ok(pages)
}

/// The runs of a pagemap that have not been seen to.
struct Listed<I> {
    object: PageObject,
    runs: I,
    /// The rest of a run: start and end.
    next: Option<(u64, u64)>,
}

impl<I: Iterator<Item = Run>> Listed<I> {
    /// Takes pages that have to be listed next.
    fn take(&mut self, mut address: u64, bytes: u64) -> Result<(), PagesError> {
        let end = address.saturating_add(bytes);
        while address < end {
            match self.peek() {
                Some((start, until)) if start == address => {
                    address = until.min(end);
                    self.next = Some((address, until)).filter(|(start, end)| start < end);
                }
                Some((start, _)) if start < address => return Err(self.beyond(start)),
                _ => return Err(differs(self.object, address, "the page is missing")),
            }
        }
        Ok(())
    }

    /// Checks that no pages are left.
    fn end(&mut self) -> Result<(), PagesError> {
        self.peek().map_or(Ok(()), |(start, _)| Err(self.beyond(start)))
    }

    fn peek(&mut self) -> Option<(u64, u64)> {
        let page = page_size().bytes();
        if self.next.is_none() {
            self.next = self
                .runs
                .next()
                .map(|run| (run.start, run.start.saturating_add(run.pages.saturating_mul(page))));
        }
        self.next
    }

    fn beyond(&self, address: u64) -> PagesError {
        differs(self.object, address, "the page was not to be saved")
    }
}

/// An object whose bytes are compared.
struct Compared<'c> {
    object: PageObject,
    stored: &'c StoredPages<'c>,
    recording: &'c Recording,
    task: Option<HeldTask<'c>>,
    /// Bytes of the images, and of the other side.
    buffers: (Vec<u8>, Vec<u8>),
}

impl Compared<'_> {
    fn piece(&mut self, Piece { run, from }: Piece, course: &Course) -> Result<(), PagesError> {
        let (mut done, bytes) = (0, run.payload());
        while done < bytes {
            course.check()?;
            let size = usize::try_from(bytes - done).unwrap_or(usize::MAX).min(AT_ONCE);
            let (images, other) = &mut self.buffers;
            images.resize(size, 0);
            other.resize(size, 0);
            let address = run.address.saturating_add(done);
            self.stored.read_at(address, images)?;
            match (from, self.task) {
                (From::Recording(at), _) => {
                    self.recording.read_at(at.saturating_add(done), other)?;
                }
                (From::Holder, Some(HeldTask { pid, pages, .. })) => {
                    pages.read_at(address, other).map_err(holder_error(pid, address))?;
                }
                (From::Holder, None) => return Err(PagesError::NoObject { address }),
            }
            if images != other {
                let mut pairs = images.iter().zip(&*other);
                let at = pairs.position(|(one, other)| one != other).unwrap_or(0) as u64;
                return Err(differs(self.object, address.saturating_add(at), "another byte"));
            }
            done = done.saturating_add(size as u64);
            course.add(size as u64);
        }
        Ok(())
    }
}

fn differs(object: PageObject, address: u64, what: &'static str) -> PagesError {
    PagesError::Differs { object: object.file_name(), address, what }
}

/// The bytes that are compared at once.
const AT_ONCE: usize = 1 << 20;
