//! Working sets of lazy restores: recorded beside the images, and brought first.

use std::path::Path;
use std::time::Duration;

use clap::Args;
use criu_images::source::Directory;
use criu_images::working_set::WorkingSet;
use criu_rs::lazy::{LazyPages, Prefetch};

use super::MEMORY;
use crate::tool::Fallible;

/// Options for working sets.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct WorkingSetArgs {
    /// Record which pages the tasks of the first restore touch, for so many seconds or until all
    /// tasks end: in working-set.bin beside the images, whose pages later restores bring first
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true,
        value_parser = clap::value_parser!(u32).range(1..), help_heading = MEMORY)]
    record: Option<Option<u32>>,
    /// Do not bring the pages of working-set.bin first
    #[arg(long, help_heading = MEMORY)]
    no_working_set: bool,
}

impl WorkingSetArgs {
    /// Tells if a working set is to be recorded.
    pub(crate) fn records(&self) -> bool {
        self.record.is_some()
    }

    /// Lets restores bring the working set beside the images, or record it.
    ///
    /// # Errors
    /// If the images of a recording cannot be read.
    pub(crate) fn apply(
        &self,
        pages: LazyPages,
        images: &Path,
        say: impl Fn(&str),
    ) -> Fallible<LazyPages> {
        let source = Directory::open(images)?;
        if let Some(seconds) = self.record {
            let time = seconds.map(|seconds| Duration::from_secs(seconds.into()));
            return Ok(pages.record(&source, time)?);
        }
        if self.no_working_set {
            return Ok(pages);
        }
        match Prefetch::of(&source) {
            Ok(Some(prefetch)) => {
                say(&format!("{} pages of the working set come first", prefetch.pages()));
                Ok(pages.prefetch(prefetch))
            }
            Ok(None) => Ok(pages),
            Err(error) => {
                say(&format!("{error}: the file is ignored"));
                Ok(pages)
            }
        }
    }
}

/// Writes a recorded working set beside the images, and says so.
///
/// # Errors
/// If the file cannot be written.
pub(crate) fn save(number: u64, set: &WorkingSet, images: &Path) -> Result<String, String> {
    let (pages, time) = (set.pages(), set.recorded());
    if pages == 0 {
        return Ok(format!("restore {number}: no page was touched, so nothing is recorded"));
    }
    let file = images.join(WorkingSet::FILE);
    let failed = |error: &dyn std::fmt::Display| {
        format!("restore {number}: {}: cannot be written: {error}", file.display())
    };
    let directory = Directory::open(images).map_err(|error| failed(&error))?;
    set.save(&directory).map_err(|error| failed(&error))?;
    let kib = pages.saturating_mul(set.page_size().bytes()) / 1024;
    let file = file.display();
    Ok(format!(
        "restore {number}: {pages} pages, {kib} KiB, were touched in {time:.1?}: recorded in {file}"
    ))
}
