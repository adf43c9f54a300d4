//! The pages of an object in address order: those that a dump has sent, and those of a holder.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;

use super::error::PagesError;
use super::held::{HeldTask, Mapping};
use super::page_size::page_size;
use super::proto::{LAZY, PARENT, PRESENT};
use super::recording::{RecordedRun, RecordedRuns};
use super::sink::PageRun;

/// Pages in a row that come from one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) run: PageRun,
    pub(super) from: From,
}

/// The place of pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    /// The recording of the dump, at this offset.
    Recording(u64),
    /// The holder.
    Holder,
}

/// The pieces of an object, ascending. Where both the dump and the holder have a page, the one of
/// the dump counts.
#[derive(Debug)]
pub(super) struct Pieces<'p> {
    recorded: Option<RecordedRuns<'p>>,
    /// The next run of the dump.
    sent: Option<RecordedRun>,
    held: Option<HeldRuns<'p>>,
    /// The rest of a run of the holder.
    rest: Option<HeldRun>,
}

impl<'p> Pieces<'p> {
    pub(super) fn new(
        recorded: Option<RecordedRuns<'p>>,
        held: Option<HeldTask<'p>>,
    ) -> Result<Self, PagesError> {
        let mut pieces = Self { recorded, sent: None, held: held.map(HeldRuns::new), rest: None };
        pieces.advance()?;
        Ok(pieces)
    }

    /// Returns the next piece.
    ///
    /// # Errors
    /// [`PagesError`] if the recording or the holder cannot be read, or the holder has other pages
    /// than before.
    pub(super) fn next(&mut self) -> Result<Option<Piece>, PagesError> {
        if self.rest.is_none() {
            self.rest = self.held.as_mut().map(HeldRuns::next).transpose()?.flatten();
        }
        let sent = self.sent.map(|sent| sent.run);
        match (sent, self.rest) {
            (None, None) => Ok(None),
            (Some(sent), Some(held)) if held.start < sent.address => {
                self.take(held, held.end.min(sent.address)).map(Some)
            }
            (None, Some(held)) => self.take(held, held.end).map(Some),
            (Some(sent), _) => {
                let at = self.sent.map_or(0, |sent| sent.at);
                let end = end(&sent);
                self.skip(end)?;
                self.advance()?;
                Ok(Some(Piece { run: sent, from: From::Recording(at) }))
            }
        }
    }

    /// Checks, after the last piece, that the holder still has all its pages. Pages that a holder
    /// loses may read as zeros.
    ///
    /// # Errors
    /// [`PagesError::Changed`], and the errors of looking at the pages.
    pub(super) fn check_again(&self) -> Result<(), PagesError> {
        match &self.held {
            Some(held) => check_counts(held.task, &held.counts),
            None => Ok(()),
        }
    }

    /// Returns, after the last piece, the number of pages in each mapping of the holder.
    pub(super) fn into_counts(self) -> Vec<u64> {
        self.held.map(|held| held.counts).unwrap_or_default()
    }

    fn advance(&mut self) -> Result<(), PagesError> {
        self.sent = self.recorded.as_mut().map(RecordedRuns::next).transpose()?.flatten();
        Ok(())
    }

    /// Passes over the holder's pages below an address.
    fn skip(&mut self, address: u64) -> Result<(), PagesError> {
        while let Some(held) = self.rest.filter(|held| held.start < address) {
            if held.end > address {
                self.rest = Some(HeldRun { start: address, ..held });
                return Ok(());
            }
            self.rest = self.held.as_mut().map(HeldRuns::next).transpose()?.flatten();
        }
        Ok(())
    }

    /// Takes pages of the holder, at most up to `end`.
    fn take(&mut self, held: HeldRun, end: u64) -> Result<Piece, PagesError> {
        let task = self.held.as_ref().map(|held| held.task);
        let parent = task.and_then(|task| Some((task.pid, task.in_parent?)));
        let (mut end, mut flags) = (end, PRESENT | if held.lazy { LAZY } else { 0 });
        if let Some((pid, parent)) = parent {
            let failed = holder_error(pid, held.start);
            let (is_there, until) = parent.stretch(held.start..end).map_err(&failed)?;
            if until <= held.start || until % page_size().bytes() != 0 {
                return Err(failed(io::Error::other("a stretch of no pages")));
            }
            end = end.min(until);
            if is_there {
                flags = PARENT;
            }
        }
        self.rest = Some(HeldRun { start: end, ..held }).filter(|rest| rest.start < rest.end);
        let pages = (end - held.start) / page_size().bytes();
        Ok(Piece { run: PageRun { address: held.start, pages, flags }, from: From::Holder })
    }
}

/// Returns the address after a run. The protocol lets no run pass the end of the address space.
fn end(run: &PageRun) -> u64 {
    run.address.saturating_add(run.pages.saturating_mul(page_size().bytes()))
}

/// Pages of a holder in a row, inside one mapping.
#[derive(Clone, Copy, Debug)]
struct HeldRun {
    start: u64,
    end: u64,
    lazy: bool,
}

/// The runs of a holder, cut at the borders of mappings. Each mapping has to have as many pages as
/// have been counted at first.
#[derive(Debug)]
pub(super) struct HeldRuns<'h> {
    task: HeldTask<'h>,
    /// The next mapping.
    next: usize,
    /// The mapping that is looked at, from which address on, and the pages found so far.
    open: Option<(Mapping, u64, u64)>,
    /// The runs that a call has found, and a buffer for the next call.
    found: VecDeque<Range<u64>>,
    buffer: Vec<Range<u64>>,
    /// The pages of the mappings that have been looked at.
    counts: Vec<u64>,
}

impl<'h> HeldRuns<'h> {
    pub(super) fn new(task: HeldTask<'h>) -> Self {
        let (found, buffer, counts) = (VecDeque::new(), Vec::new(), Vec::new());
        Self { task, next: 0, open: None, found, buffer, counts }
    }

    fn next(&mut self) -> Result<Option<HeldRun>, PagesError> {
        loop {
            if let (Some(Range { start, end }), Some((mapping, _, pages))) =
                (self.found.pop_front(), &mut self.open)
            {
                *pages = pages.saturating_add((end - start) / page_size().bytes());
                return Ok(Some(HeldRun { start, end, lazy: mapping.lazy }));
            }
            match self.open {
                Some((mapping, at, _)) if at < mapping.end => self.scan(mapping, at)?,
                Some((mapping, _, pages)) => {
                    self.compare(mapping, pages)?;
                    self.counts.push(pages);
                    self.open = None;
                }
                None => {
                    let Some(&mapping) = self.task.mappings.get(self.next) else { return Ok(None) };
                    self.next += 1;
                    self.open = Some((mapping, mapping.start, 0));
                }
            }
        }
    }

    /// Looks at a part of a mapping.
    fn scan(&mut self, mapping: Mapping, at: u64) -> Result<(), PagesError> {
        let failed = holder_error(self.task.pid, at);
        self.buffer.clear();
        let range = at..mapping.end;
        let until = self.task.pages.scan(range, &mut self.buffer).map_err(&failed)?;
        if until <= at {
            return Err(failed(io::Error::other("a look at no pages")));
        }
        let (mut free, until) = (at, until.min(mapping.end));
        let page = page_size().bytes();
        for found in self.buffer.drain(..) {
            let is_good = found.start >= free && found.end > found.start && found.end <= until;
            if !is_good || (found.start | found.end) % page != 0 {
                return Err(failed(io::Error::other("runs of pages that do not ascend")));
            }
            free = found.end;
            self.found.push_back(found);
        }
        if let Some((_, at, _)) = &mut self.open {
            *at = until;
        }
        Ok(())
    }

    /// Compares the pages of a mapping with those that have been counted at first.
    fn compare(&self, mapping: Mapping, found: u64) -> Result<(), PagesError> {
        let Mapping { start, end, .. } = mapping;
        let wanted = self.task.pages.counted(start..end).unwrap_or(found);
        if found != wanted {
            return Err(changed(self.task.pid, mapping, found, wanted));
        }
        Ok(())
    }

    /// Counts the pages of all mappings.
    ///
    /// # Errors
    /// [`PagesError`] if the holder cannot be read, or has other pages than at first.
    pub(super) fn count(mut self) -> Result<Vec<u64>, PagesError> {
        while self.next()?.is_some() {}
        Ok(self.counts)
    }
}

/// Checks that a holder has so many pages in each mapping.
///
/// # Errors
/// [`PagesError::Changed`], and the errors of looking at the pages.
pub(super) fn check_counts(task: HeldTask<'_>, counts: &[u64]) -> Result<(), PagesError> {
    let now = HeldRuns::new(task).count()?;
    for ((mapping, &wanted), found) in task.mappings.iter().zip(counts).zip(now) {
        if found != wanted {
            return Err(changed(task.pid, *mapping, found, wanted));
        }
    }
    Ok(())
}

fn changed(pid: u32, mapping: Mapping, found: u64, wanted: u64) -> PagesError {
    let Mapping { start, end, .. } = mapping;
    PagesError::Changed { pid, start, end, found, wanted }
}

/// Returns a function that makes the error of a holder.
pub(super) fn holder_error(pid: u32, address: u64) -> impl Fn(io::Error) -> PagesError {
    move |source| PagesError::Holder { pid, address, source }
}
