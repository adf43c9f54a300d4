//! The reading of the memory, in the background.

use std::ffi::CString;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use criu_images::memory::PageSet;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::symlinkat;

use super::delta::{Delta, Unchanged};
use super::error::InstantError;
use super::flags::Flags;
use super::images::Taker;
use super::memory::Memory;
use super::outcome::{ReadOut, Reading};
use crate::error::{Error, Result};
use crate::pages::compare::compare;
use crate::pages::held::{HeldPages, HeldTask, Mapping};
use crate::pages::merge::{Course, Merged, merge};
use crate::pages::sink::PageSink;
use crate::pages::{Client, Store, page_size};
use crate::sys::proc_link;
use crate::undo::{ImagesDir, PARENT};
use crate::value::Cancel;

/// The memory of a dump, and where it goes. Dropped, the holders end.
pub(super) struct Job {
    pub(super) memory: Arc<Memory>,
    /// Flags of mappings that CRIU has saved as they were before the freeze.
    pub(super) flags: Flags,
    pub(super) sink: Sink,
    /// The images directory.
    pub(super) directory: Arc<OwnedFd>,
    /// The guard of the images, which are not complete yet.
    pub(super) images: Option<ImagesDir>,
    pub(super) cancel: Option<Cancel>,
    pub(super) verify: bool,
    pub(super) delta: Option<Box<dyn Delta>>,
    pub(super) agreed: Option<Agreed>,
}

/// Is told whether the images are complete, and says whether they are kept.
pub(crate) type Agreed = Box<dyn FnOnce(bool) -> bool + Send>;

/// The place for the pages.
#[derive(Debug)]
pub(super) enum Sink {
    /// The images directory.
    Directory { others_read: bool },
    /// A page server.
    Server(Client),
    /// A function, which gets the other images from the images directory.
    Taker(Option<Taker>),
}

impl Drop for Job {
    fn drop(&mut self) {
        drop(self.memory.take());
    }
}

impl Job {
    /// Begins to read.
    ///
    /// # Errors
    /// The system has no thread left. The holders are ended.
    pub(super) fn start(self) -> Result<Reading> {
        let course = Arc::new(Course::default());
        let shared = Arc::clone(&course);
        let thread = thread::Builder::new().name("instant".into()).spawn(move || self.run(&shared));
        let thread = thread.map_err(|source| Error::system("start a thread", source))?;
        Ok(Reading::new(course, thread))
    }

    fn run(mut self, course: &Arc<Course>) -> Result<ReadOut, InstantError> {
        let begun = Instant::now();
        let cancel = self.cancel.take();
        let read = while_not(cancel.as_ref(), course, || self.read(course));
        let is_cancelled = || course.is_cancelled() || cancel.is_some_and(|one| one.is_cancelled());
        let read = read.map_err(|error| match is_cancelled() {
            true => InstantError::Cancelled,
            false => error,
        });
        let is_agreed = self.agreed.take().is_none_or(|agreed| agreed(read.is_ok()));
        let mut read = read?;
        if !is_agreed {
            return Err(InstantError::Others);
        }
        match self.images.take() {
            // A function has them: those of criu are of no use without the pages.
            Some(images) if matches!(self.sink, Sink::Taker(_)) => drop(images),
            Some(images) => images.keep(),
            None => {}
        }
        read.time = begun.elapsed();
        let complete = Instant::now();
        match (self.delta.take(), self.memory.take()) {
            (Some(mut delta), Some(mut holders)) => {
                holders.settle();
                delta.complete(holders);
            }
            (None, Some(holders)) => {
                read.unreaped = holders.end().iter().map(ToString::to_string).collect();
            }
            (_, None) => {}
        }
        read.teardown = complete.elapsed();
        Ok(read)
    }

    /// Makes the images complete.
    fn read(&mut self, course: &Arc<Course>) -> Result<ReadOut, InstantError> {
        let mut read = ReadOut::default();
        let flags = std::mem::take(&mut self.flags);
        (read.early_flags, read.corrected) =
            flags.correct(self.memory.holders().tasks(), self.directory.as_fd())?;
        if let Sink::Taker(taker) = &mut self.sink {
            if let Some(taker) = taker.take() {
                let Merged { sent, held, .. } =
                    taker.call(&self.directory, &self.memory, course)?;
                (read.captured, read.held) = (sent, held);
            }
            return Ok(read);
        }
        let unchanged = self.unchanged()?;
        let memory = Arc::clone(&self.memory);
        let (recording, holders) = (&memory.recording, memory.holders());
        let held: Vec<HeldTask<'_>> = (holders.tasks().iter().zip(&unchanged))
            .map(|(task, unchanged)| HeldTask {
                in_parent: unchanged.as_ref().map(|unchanged| unchanged as _),
                ..task.pages()
            })
            .collect();
        let mut hand_over = |sink: &mut dyn PageSink| -> Result<(), InstantError> {
            let Merged { sent, held, in_parent, .. } = merge(recording, &held, &mut *sink, course)?;
            (read.captured, read.held, read.inherited) = (sent, held, in_parent);
            Ok(sink.finish()?)
        };
        match &mut self.sink {
            Sink::Taker(_) => {}
            Sink::Server(server) => hand_over(server)?,
            Sink::Directory { others_read } => {
                if let Some(parent) = self.delta.as_ref().and_then(|delta| delta.parent()) {
                    link_parent(&self.directory, &parent)?;
                }
                let path = proc_link(self.directory.as_fd());
                let store = Store::open(&path)?.durable(true);
                hand_over(&mut store.others_read(*others_read))?;
                if self.verify {
                    let set = PageSet::open(&path, page_size())?;
                    read.verified = Some(compare(&set, recording, &held, course)?);
                }
            }
        }
        Ok(read)
    }

    /// Returns the pages of each task that are left to the images of an earlier round.
    fn unchanged(&mut self) -> Result<Vec<Option<Unchanged>>, InstantError> {
        let holders = self.memory.holders();
        let tasks = holders.tasks();
        let Some(delta) = &mut self.delta else { return Ok(tasks.iter().map(|_| None).collect()) };
        let mut all = Vec::new();
        for task in tasks {
            let held = held_runs(&task.holder, &task.mappings);
            let held = held.map_err(InstantError::system("look at the pages of a holder"))?;
            all.push(Some(Unchanged(delta.unchanged(task.inner, &task.holder, &held)?)));
        }
        Ok(all)
    }
}

/// The runs of pages that a holder holds in mappings.
pub(super) fn held_runs(
    holder: &dyn HeldPages,
    mappings: &[Mapping],
) -> std::io::Result<Vec<Range<u64>>> {
    let mut runs = Vec::new();
    for mapping in mappings {
        let mut at = mapping.start;
        while at < mapping.end {
            at = holder.scan(at..mapping.end, &mut runs)?;
        }
    }
    Ok(runs)
}

/// Makes the link to the images of an earlier round.
fn link_parent(directory: &OwnedFd, parent: &CString) -> Result<(), InstantError> {
    let made = symlinkat(parent.as_c_str(), directory, PARENT);
    made.map_err(|source| InstantError::system("link the parent images")(source.into()))
}

/// Runs a merge, and ends it when the handle is cancelled.
fn while_not<T>(cancel: Option<&Cancel>, course: &Course, run: impl FnOnce() -> T) -> T {
    let over = Cancel::new().ok();
    let (Some(cancel), Some(over)) = (cancel, over) else { return run() };
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut fds = [cancel, &over].map(|one| PollFd::new(one.as_fd(), PollFlags::POLLIN));
            while poll(&mut fds, PollTimeout::NONE) == Err(Errno::EINTR) {}
            if cancel.is_cancelled() {
                course.cancel();
            }
        });
        let result = run();
        over.cancel();
        result
    })
}
