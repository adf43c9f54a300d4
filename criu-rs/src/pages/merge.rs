//! The merge of what a dump has sent and what holders hold.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;

use criu_images::memory::PageObject;

use super::error::PagesError;
use super::held::{HeldTask, Mapping};
use super::page_size::page_size;
use super::pieces::{From, HeldRuns, Piece, Pieces, holder_error};
use super::proto::PARENT;
use super::recording::Recording;
use super::sink::{PageRun, PageSink};

/// The progress of a merge, and the order to end it.
#[derive(Debug)]
pub(crate) struct Course {
    done: AtomicU64,
    total: AtomicU64,
    cancelled: AtomicBool,
    /// The bytes of pages that have gone to the sink, and the most that may.
    spent: AtomicU64,
    most: u64,
}

impl Default for Course {
    fn default() -> Self {
        Self::limited(u64::MAX)
    }
}

impl Course {
    /// A course on which no more than so many bytes of pages may be handed over.
    pub(crate) fn limited(most: u64) -> Self {
        let (done, total, spent) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
        Self { done, total, cancelled: AtomicBool::new(false), spent, most }
    }

    /// Returns the bytes of pages handed over so far, and an estimate of all. Pages that are left
    /// to a parent set count as handed over.
    pub(crate) fn progress(&self) -> (u64, u64) {
        let done = self.done.load(Ordering::Relaxed);
        (done, self.total.load(Ordering::Relaxed).max(done))
    }

    /// Ends the merge soon, with [`PagesError::Stopped`].
    pub(crate) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// Says whether the merge is to end.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// Checks that the merge may go on.
    pub(super) fn check(&self) -> Result<(), PagesError> {
        if self.is_cancelled() { Err(PagesError::Stopped) } else { Ok(()) }
    }

    /// Counts bytes that are about to go to the sink.
    fn spend(&self, bytes: u64) -> Result<(), PagesError> {
        let before = self.spent.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > self.most {
            return Err(PagesError::TooMuch(self.most));
        }
        Ok(())
    }

    pub(super) fn add(&self, bytes: u64) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn begin(&self, total: u64) {
        self.done.store(0, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
    }
}

/// The numbers of what has been merged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Merged {
    /// Objects, such as the memory of a task.
    pub(crate) objects: u64,
    /// Pages with their bytes that the dump has sent.
    pub(crate) sent: u64,
    /// Pages with their bytes from holders.
    pub(crate) held: u64,
    /// Pages left to the parent set.
    pub(crate) in_parent: u64,
}

/// Hands the pages of a dump over to `sink`: for each object in address order those that the dump
/// has sent, and between them those that the object's holder holds. Does not finish the sink.
///
/// A task of which the dump has sent nothing is included. Two buffers of 1 MiB are in memory.
///
/// # Errors
/// [`PagesError::Holder`] and [`PagesError::Changed`] if a holder has ended, or not all its pages
/// any more; [`PagesError::Stopped`] if the merge was cancelled; [`PagesError::TooMuch`] above the
/// limit of the course; the errors of the recording and of the sink. The sink must be dropped then.
pub(crate) fn merge(
    recording: &Recording,
    held: &[HeldTask<'_>],
    sink: &mut dyn PageSink,
    course: &Course,
) -> Result<Merged, PagesError> {
    course.begin(recording.bytes().saturating_add(count_first(held)?));
    let mut merged = Merged::default();
    for (object, task) in objects(recording, held) {
        course.check()?;
        let has_parent = sink.begin(object)?;
        // Without the object in a parent set, no page is in there.
        let task =
            task.map(|task| HeldTask { in_parent: task.in_parent.filter(|_| has_parent), ..task });
        let mut pieces = Pieces::new(recording.runs(object), task)?;
        let pump = Pump { recording, task, course, merged: &mut merged };
        pump.run(&mut pieces, sink)?;
        pieces.check_again()?;
        merged.objects += 1;
    }
    Ok(merged)
}

/// Lists all objects, shared memory first, with the holders of the tasks.
pub(super) fn objects<'h>(
    recording: &Recording,
    held: &[HeldTask<'h>],
) -> Vec<(PageObject, Option<HeldTask<'h>>)> {
    let tasks = held.iter().map(|task| (PageObject::Task(task.pid), *task));
    let mut tasks: BTreeMap<_, _> = tasks.collect();
    let sent = recording.objects().map(|object| (object, tasks.remove(&object)));
    let mut all: Vec<_> = sent.collect();
    all.extend(tasks.into_iter().map(|(object, task)| (object, Some(task))));
    all
}

/// Returns the number of bytes in the pages of all holders.
fn count_first(held: &[HeldTask<'_>]) -> Result<u64, PagesError> {
    let mut pages = 0u64;
    for task in held {
        let known = |mapping: &Mapping| task.pages.counted(mapping.start..mapping.end);
        let known: Option<Vec<u64>> = task.mappings.iter().map(known).collect();
        let counts = known.map_or_else(|| HeldRuns::new(*task).count(), Ok)?;
        pages = counts.into_iter().fold(pages, u64::saturating_add);
    }
    Ok(pages.saturating_mul(page_size().bytes()))
}

/// Pages of one object on their way from their places to a sink.
struct Pump<'p> {
    recording: &'p Recording,
    task: Option<HeldTask<'p>>,
    course: &'p Course,
    merged: &'p mut Merged,
}

/// Runs that are handed over together, and their bytes.
#[derive(Debug)]
struct Batch {
    runs: Vec<PageRun>,
    buffer: Vec<u8>,
    used: usize,
}

impl Batch {
    fn new() -> Self {
        Self { runs: Vec::new(), buffer: vec![0; BUFFER], used: 0 }
    }

    fn is_full(&self) -> bool {
        self.used == self.buffer.len() || self.runs.len() >= RUNS
    }

    /// Hands the runs and their bytes over, and is empty then.
    fn hand_over(&mut self, sink: &mut dyn PageSink, course: &Course) -> Result<(), PagesError> {
        let bytes = self.buffer.get(..self.used).unwrap_or_default();
        course.spend(bytes.len() as u64)?;
        sink.put(&self.runs, bytes)?;
        let pages = self.runs.iter().map(|run| run.pages).fold(0, u64::saturating_add);
        course.add(pages.saturating_mul(page_size().bytes()));
        self.runs.clear();
        self.used = 0;
        Ok(())
    }
}

impl Pump<'_> {
    fn run(self, pieces: &mut Pieces<'_>, sink: &mut dyn PageSink) -> Result<(), PagesError> {
        let course = self.course;
        let (full, to_write) = mpsc::sync_channel::<Batch>(1);
        let (give_back, free) = mpsc::channel();
        thread::scope(|scope| {
            let write = move || {
                for mut batch in to_write {
                    batch.hand_over(sink, course)?;
                    let _ = give_back.send(batch);
                }
                Ok::<(), PagesError>(())
            };
            let writer = thread::Builder::new().name("merge".into()).spawn_scoped(scope, write);
            let writer = writer.map_err(PagesError::socket("begin a thread"))?;
            let mut spare = Some(Batch::new());
            let read = self.read(pieces, |batch| {
                full.send(batch).map_err(|_| PagesError::Stopped)?;
                spare.take().map_or_else(|| free.recv().map_err(|_| PagesError::Stopped), Ok)
            });
            drop(full);
            // A writer that fails ends the reading, too.
            writer.join().map_err(|_| PagesError::Stopped)??;
            read
        })
    }

    /// Reads all pieces. Calls `hand_over` with each batch, which returns an empty one.
    fn read(
        mut self,
        pieces: &mut Pieces<'_>,
        mut hand_over: impl FnMut(Batch) -> Result<Batch, PagesError>,
    ) -> Result<(), PagesError> {
        let mut batch = Batch::new();
        while let Some(piece) = pieces.next()? {
            let mut done = 0;
            while done < piece.run.pages {
                if batch.is_full() {
                    self.course.check()?;
                    batch = hand_over(batch)?;
                }
                done += self.read_some(&mut batch, piece, done)?;
            }
        }
        hand_over(batch).map(drop)
    }

    /// Adds pages of a piece to a batch that has room. `done` pages of the piece have been added
    /// before. Returns the number of pages.
    fn read_some(
        &mut self,
        batch: &mut Batch,
        Piece { run, from }: Piece,
        done: u64,
    ) -> Result<u64, PagesError> {
        let page = page_size().bytes();
        let skipped = done.saturating_mul(page);
        let (address, left) = (run.address.saturating_add(skipped), run.pages - done);
        if run.payload() == 0 {
            self.merged.in_parent += if run.flags & PARENT != 0 { left } else { 0 };
            batch.runs.push(PageRun { address, pages: left, flags: run.flags });
            return Ok(left);
        }
        let room = batch.buffer.get_mut(batch.used..).unwrap_or_default();
        let pages = left.min(room.len() as u64 / page);
        let size = usize::try_from(pages.saturating_mul(page)).unwrap_or(usize::MAX);
        let room = room.get_mut(..size).unwrap_or_default();
        match (from, self.task) {
            (From::Recording(at), _) => {
                self.recording.read_at(at.saturating_add(skipped), room)?;
                self.merged.sent += pages;
            }
            (From::Holder, Some(HeldTask { pid, pages: holder, .. })) => {
                holder.read_at(address, room).map_err(holder_error(pid, address))?;
                self.merged.held += pages;
            }
            (From::Holder, None) => return Err(PagesError::NoObject { address }),
        }
        batch.runs.push(PageRun { address, pages, flags: run.flags });
        batch.used += size;
        Ok(pages)
    }
}

/// The bytes that are read and handed over together.
const BUFFER: usize = 1 << 20;
/// The runs that are handed over together.
const RUNS: usize = 16 << 10;

#[cfg(test)]
pub(super) mod tests;
