//! Working sets of lazy restores: recorded beside the images, and brought first.

use std::time::Duration;

use clap::Args;
use criu_images::source::Directory;
use criu_images::working_set::WorkingSet;
use criu_rs::lazy::{LazyPages, Prefetch};

use crate::options::seconds;

/// Options for working sets, of all words that restore lazily.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Memory")]
pub(crate) struct WorkingSetArgs {
    /// Record which pages the tasks of the first restore touch, for so many seconds or until all
    /// tasks end: in working-set.bin beside the images, whose pages later restores bring first
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true,
        value_parser = seconds)]
    record: Option<Option<Duration>>,
    /// Do not bring the pages of working-set.bin first
    #[arg(long)]
    no_working_set: bool,
}

impl WorkingSetArgs {
    /// Returns the first of these options that is given.
    pub(crate) fn given(&self) -> Option<&'static str> {
        let record = self.record.is_some().then_some("--record");
        record.or(self.no_working_set.then_some("--no-working-set"))
    }

    /// Returns the option that asks for a recording, if it is given.
    pub(crate) fn recording(&self) -> Option<&'static str> {
        self.record.is_some().then_some("--record")
    }

    /// Tells that the pages of a working set come first.
    pub(crate) fn is_used(&self) -> bool {
        self.record.is_none() && !self.no_working_set
    }

    /// Returns the time of a recording that does not go on until all tasks end.
    pub(crate) fn time(&self) -> Option<Duration> {
        self.record.flatten()
    }

    /// Lets restores bring the working set beside the images, or record it. Says what is done.
    ///
    /// # Errors
    /// If the images of a recording cannot be read.
    pub(crate) fn apply(
        &self,
        pages: LazyPages,
        images: &Directory,
        say: impl Fn(String),
    ) -> criu_images::Result<LazyPages> {
        if let Some(time) = self.record {
            return pages.record(images, time);
        }
        if self.no_working_set {
            return Ok(pages);
        }
        Ok(match Prefetch::of(images) {
            Ok(Some(prefetch)) => {
                say(format!("{} pages of the working set come first", prefetch.pages()));
                pages.prefetch(prefetch)
            }
            Ok(None) => pages,
            Err(error) => {
                say(format!("the working set is not used: {error}"));
                pages
            }
        })
    }
}

/// Writes a recorded working set beside its images. Returns the words about it.
///
/// # Errors
/// The reason why the file is not written, for a person.
pub(crate) fn save(set: &WorkingSet, images: &Directory) -> Result<String, String> {
    let (pages, time) = (set.pages(), set.recorded());
    if pages == 0 {
        return Err("no working set is saved: no page was touched".to_owned());
    }
    match set.save(images) {
        Ok(()) => Ok(format!(
            "the working set has {pages} pages, touched in {time:.1?}, which come first from now on"
        )),
        Err(error) => Err(format!("the working set is not saved: {error}")),
    }
}
