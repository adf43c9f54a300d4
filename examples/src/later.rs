//! Memory that comes after a restore, from this program.

use std::path::Path;
use std::time::{Duration, Instant};

use clap::Args;
use criu_images::source::Directory;
use criu_images::working_set::WorkingSet;
use criu_rs::lazy::{LazyError, LazyHandle, LazyOptions, LazyPages};
use serde_json::json;

use crate::drive::Drive;
use crate::fault::Fault;
use crate::held::{Held, Pages};
use crate::lazy_pages::report::{self, COMPLETE, INCOMPLETE, lazy_stats, never_came, numbers};
use crate::marks::{self, Place};
use crate::output::Output;
use crate::working_set::{WorkingSetArgs, save};

/// Options of words that bring memory later.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Memory")]
pub(crate) struct Later {
    /// Let the tasks run before their memory is there: this program brings it when they touch it,
    /// and in the background
    #[arg(long)]
    pub(crate) lazy: bool,
    #[command(flatten)]
    working_set: WorkingSetArgs,
}

impl Later {
    /// Returns the time at which the pages of an archive are to be brought.
    pub(crate) fn time(&self) -> Pages {
        match (self.lazy, self.working_set.is_used()) {
            (false, _) => Pages::First,
            (true, false) => Pages::Later,
            (true, true) => Pages::WorkingSetFirst,
        }
    }

    /// Opens the source of the memory, if it is to come later.
    pub(crate) fn pages(&self, held: &Held, output: &Output) -> Result<Option<LazyPages>, Fault> {
        if !self.lazy {
            return match self.working_set.given() {
                Some(option) => Err(Fault::usage(format!("{option} needs --lazy"))),
                None => Ok(None),
            };
        }
        if let (Some(option), true) = (self.working_set.recording(), held.is_laid_out()) {
            let why = "needs a directory of images, beside which the record is kept";
            return Err(Fault::usage(format!("{option} {why}")));
        }
        let images = held.directory();
        let place = if held.is_laid_out() { Place::Packed } else { Place::Directory };
        marks::note(images, place, |said| output.say(said));
        let unreadable = |error: LazyError| Fault::Failed(report::unreadable(images, &error));
        let pages = held.pages(LazyOptions::default()).map_err(unreadable)?;
        let source = Directory::open(images).map_err(|error| unreadable(error.into()))?;
        let applied = self.working_set.apply(pages, &source, |said| output.say(said));
        applied.map(Some).map_err(|error| unreadable(error.into()))
    }

    /// Brings all memory of tasks for which the program waits, and saves the working set when its
    /// recording ends. Says so, also if the memory is lost and the tasks are killed.
    ///
    /// # Errors
    /// If the memory is lost, or if the working set is not saved.
    pub(crate) fn accompany(
        &self,
        memory: &LazyHandle,
        images: &Path,
        output: &Output,
    ) -> Result<(), Fault> {
        let saved = Self::save(memory.recorded(), images, output);
        let came = memory.wait(None).map_err(lost);
        came.map(|_| Self::complete(memory, output)).and(saved).inspect_err(|fault| {
            output.say_lines(fault);
        })
    }

    fn save(set: Option<WorkingSet>, images: &Path, output: &Output) -> Result<(), Fault> {
        let Some(set) = set else { return Ok(()) };
        let failed = |error: criu_images::Error| Fault::Failed(error.to_string());
        let images = Directory::open(images).map_err(failed)?;
        output.say(save(&set, &images).map_err(Fault::Failed)?);
        output.object("recorded", json!({ "pages": set.pages() }));
        Ok(())
    }

    fn complete(memory: &LazyHandle, output: &Output) {
        let statistics = memory.statistics();
        let (said, stats) = (numbers(&statistics), lazy_stats(&statistics));
        match memory.progress().unused {
            0 => {
                output.say(format!("all memory is there: {said}"));
                output.object(COMPLETE, json!({ "statistics": stats }));
            }
            unused => {
                output.say(format!("{}: {said}", never_came(unused)));
                output.object(INCOMPLETE, json!({ "statistics": stats, "unused_pages": unused }));
            }
        }
    }

    /// Stays until all memory is there, or no task is left. A signal that asks to stop gives it up.
    pub(crate) fn stay(
        &self,
        memory: LazyHandle,
        drive: &Drive,
        images: &Path,
        output: &Output,
    ) -> Result<(), Fault> {
        let mut saved = Ok(());
        let waited = drive.watch(|| {
            let mut record_until =
                self.working_set.time().and_then(|t| Instant::now().checked_add(t));
            loop {
                // The other memory comes when the recording has ended.
                if record_until.is_some_and(|end| Instant::now() >= end) {
                    record_until = None;
                    saved = Self::save(memory.end_recording(), images, output);
                }
                match memory.wait(Some(LOOK)) {
                    Ok(false) if drive.cancel().is_cancelled() => return Ok(false),
                    Ok(false) => {}
                    ended => return ended,
                }
            }
        })?;
        let all = waited.map_err(lost)?;
        let recorded = Self::save(memory.end_recording(), images, output);
        if !all {
            // The signal may have come before the restore was over.
            let signal = drive.received().map_or("a signal", |received| received.signal.as_str());
            return Err(Fault::Interrupted(signal));
        }
        Self::complete(&memory, output);
        saved.and(recorded)
    }
}

/// Makes the fault of memory that does not come.
fn lost(error: LazyError) -> Fault {
    Fault::Failed(error.to_string())
}

/// The time between two looks at a signal.
const LOOK: Duration = Duration::from_millis(100);
