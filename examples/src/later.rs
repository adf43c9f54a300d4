//! Memory that comes after a restore, from this program.

use std::io;
use std::path::Path;
use std::time::Duration;

use clap::Args;
use criu_images::source::Directory;
use criu_images::working_set::WorkingSet;
use criu_rs::lazy::{LazyError, LazyHandle, LazyOptions, LazyPages, Prefetch};
use serde_json::json;

use crate::drive::Drive;
use crate::fault::Fault;
use crate::lazy_pages::report::{lazy_stats, numbers};
use crate::options::seconds;
use crate::output::Output;

/// Options of words that bring memory later.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Memory")]
pub(crate) struct Later {
    /// Let the tasks run before their memory is there: this program brings it when they touch it,
    /// and in the background
    #[arg(long)]
    pub(crate) lazy: bool,
    #[command(flatten)]
    record: Record,
}

/// The option to record a working set.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Memory")]
pub(crate) struct Record {
    /// Record the pages that the tasks touch for so many seconds: later restores bring these first
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    record: Option<Duration>,
}

impl Later {
    /// Opens the source of the memory, if it is to come later.
    pub(crate) fn pages(&self, images: &Path, output: &Output) -> Result<Option<LazyPages>, Fault> {
        if !self.lazy {
            return match self.record.record {
                Some(_) => Err(Fault::usage("--record needs --lazy")),
                None => Ok(None),
            };
        }
        let pages = LazyPages::open(images, LazyOptions::default()).map_err(lost)?;
        self.record.apply(pages, images, output).map(Some)
    }

    /// Saves the working set, if one is recorded. Waits for the end of the recording.
    pub(crate) fn recorded(&self, memory: &LazyHandle, images: &Path, output: &Output) {
        if let Some(set) = memory.recorded() {
            save(&set, images, output);
        }
    }

    /// Stays until all memory is there. A signal that asks to stop gives it up.
    pub(crate) fn stay(
        &self,
        memory: LazyHandle,
        drive: &Drive,
        images: &Path,
        output: &Output,
    ) -> Result<(), Fault> {
        let waited = drive.watch(|| {
            loop {
                match memory.wait(Some(LOOK)) {
                    Ok(false) if drive.cancel().is_cancelled() => return Ok(false),
                    Ok(false) => {}
                    ended => return ended,
                }
            }
        })?;
        let all = waited.map_err(lost)?;
        if let (false, Some(received)) = (all, drive.received()) {
            return Err(Fault::Interrupted(received.signal.as_str()));
        }
        self.recorded(&memory, images, output);
        let statistics = memory.statistics();
        output.say(format!("all memory is there: {}", numbers(&statistics)));
        output.object("memory complete", json!({ "statistics": lazy_stats(&statistics) }));
        Ok(())
    }
}

impl Record {
    /// Lets restores use the working set beside the images, or record one.
    pub(crate) fn apply(
        &self,
        pages: LazyPages,
        images: &Path,
        output: &Output,
    ) -> Result<LazyPages, Fault> {
        let unreadable = |error: criu_images::Error| Fault::Failed(error.to_string());
        let source = Directory::open(images).map_err(unreadable)?;
        if self.record.is_some() {
            return pages.record(&source, self.record).map_err(unreadable);
        }
        Ok(match Prefetch::of(&source) {
            Ok(Some(prefetch)) => pages.prefetch(prefetch),
            Ok(None) => pages,
            Err(error) => {
                output.say(format!("the working set is not used: {error}"));
                pages
            }
        })
    }
}

/// Saves a working set beside its images.
pub(crate) fn save(set: &WorkingSet, images: &Path, output: &Output) {
    let pages = set.pages();
    let saved = Directory::open(images).map_err(io::Error::other);
    match saved.and_then(|images| set.save(&images).map_err(io::Error::other)) {
        Ok(()) => {
            output.say(format!("the working set has {pages} pages, which come first from now on"))
        }
        Err(error) => output.say(format!("the working set is not saved: {error}")),
    }
}

/// Makes the fault of memory that does not come.
fn lost(error: LazyError) -> Fault {
    Fault::Failed(error.to_string())
}

/// The time between two looks at a signal.
const LOOK: Duration = Duration::from_millis(100);
