//! Working sets: the pages that the tasks of a restore touched, in the order of first touches.
//!
//! A lazy restore can record a working set. The next restore of the same images brings these pages
//! before the tasks ask for them. The record is the file [`WorkingSet::FILE`] beside the images.
//! CRIU does not know the file and ignores it. The file travels with the images, and may be deleted
//! at any time.
//!
//! ```
//! use std::time::Duration;
//!
//! use criu_images::memory::PageSize;
//! use criu_images::source::Directory;
//! use criu_images::working_set::{Fingerprint, Recording, WorkingSet};
//!
//! let images = Directory::open("tests/data/pipeline")?;
//! let mut recording = Recording::new(PageSize::K4);
//! recording.touch(7, 0x7f00_0000_1000, Duration::from_micros(120));
//! recording.touch(7, 0x7f00_0000_2000, Duration::from_micros(150));
//! recording.touch(7, 0x5600_0000_0000, Duration::from_micros(900));
//! let found = recording.finish(Fingerprint::of(&images)?, Duration::from_secs(1));
//!
//! let bytes = found.to_bytes();
//! let read = WorkingSet::parse(&bytes)?;
//! assert_eq!((read.pages(), read.tasks()[0].runs().len()), (3, 2));
//! # Ok::<(), criu_images::Error>(())
//! ```
//!
//! # Trust
//!
//! A working set says in which order pages are brought. The bytes of the pages come from the images
//! alone. A wrong file makes a restore slower, and nothing else. The checksum and the fingerprint
//! find accidents. They are no protection against somebody who can write into the directory.

mod digest;
mod fingerprint;
mod format;
mod recording;
mod save;

use std::time::Duration;

use crate::bounds;
use crate::error::{Error, ErrorKind, Result};
use crate::memory::PageSize;
use crate::source::Source;

pub use fingerprint::Fingerprint;
pub use recording::Recording;

/// The pages that the tasks of a restore touched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkingSet {
    fingerprint: Fingerprint,
    page_size: PageSize,
    recorded: Duration,
    tasks: Vec<TaskTouches>,
}

/// The pages that a task touched, in the order of first touches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskTouches {
    pid: u32,
    runs: Vec<Touched>,
}

/// Consecutive pages that were touched one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Touched {
    /// The address of the first page at the moment of the dump.
    pub start: u64,
    /// The number of pages, at least one.
    pub pages: u64,
    /// The time from the beginning of the recording to the first touch, in whole microseconds.
    pub after: Duration,
}

impl WorkingSet {
    /// The name of the file.
    pub const FILE: &str = "working-set.bin";

    /// Reads the working set beside images, and checks that it was recorded with these images.
    /// Returns `None` if there is no such file.
    ///
    /// A restore reports an error and goes on without the file.
    ///
    /// # Errors
    /// [`ErrorKind::Stale`] if the file was recorded with other images; [`ErrorKind::TooLarge`]
    /// above [`WORKING_SET`](crate::bounds::WORKING_SET); those of [`parse`](Self::parse) and of
    /// reading the files.
    pub fn of(images: &dyn Source) -> Result<Option<Self>> {
        let Some(blob) = images.open(Self::FILE)? else {
            return Ok(None);
        };
        let fail = |kind| Error::new(Self::FILE, kind);
        let bytes = blob.to_vec(bounds::WORKING_SET.get()).map_err(fail)?;
        let found = Self::parse(&bytes)?;
        if found.fingerprint == Fingerprint::of(images)? {
            Ok(Some(found))
        } else {
            Err(fail(ErrorKind::Stale))
        }
    }

    /// Parses the bytes of a file.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`] if the file is of another format or damaged; [`ErrorKind::Value`]
    /// if a number makes no sense, for example an unknown version; [`ErrorKind::Truncated`];
    /// [`ErrorKind::TooLarge`] above [`WORKING_SET`](crate::bounds::WORKING_SET).
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        check_size(bytes.len() as u64)?;
        format::parse(bytes).map_err(|fault| Error::new(Self::FILE, fault))
    }

    /// Puts the right checksum into the bytes of a file, for tests with changed bytes.
    #[doc(hidden)]
    pub fn seal(bytes: &mut [u8]) {
        format::seal(bytes);
    }

    /// Returns the bytes of a file. Scattered pages take some 5 bytes each.
    pub fn to_bytes(&self) -> Vec<u8> {
        format::encode(self)
    }

    /// Returns the fingerprint of the images that the working set was recorded with.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Returns the size of a page.
    pub fn page_size(&self) -> PageSize {
        self.page_size
    }

    /// Returns the duration of the recording.
    pub fn recorded(&self) -> Duration {
        self.recorded
    }

    /// Returns the tasks with touched pages, by rising pid.
    pub fn tasks(&self) -> &[TaskTouches] {
        &self.tasks
    }

    /// Returns the number of touched pages of all tasks.
    pub fn pages(&self) -> u64 {
        self.tasks.iter().fold(0, |sum, task| sum.saturating_add(task.pages()))
    }

    /// Returns the touched pages of all tasks in the order of first touches, each with the pid of
    /// its task.
    pub fn in_order(&self) -> Vec<(u32, Touched)> {
        let runs = |task: &TaskTouches| {
            let pid = task.pid;
            task.runs.clone().into_iter().map(move |run| (pid, run))
        };
        let mut all: Vec<_> = self.tasks.iter().flat_map(runs).collect();
        all.sort_by_key(|(_, run)| run.after);
        all
    }
}

impl TaskTouches {
    /// Returns the pid of the task in the images. Children that a task made after the restore count
    /// as the task.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Returns the touched pages, in the order of first touches. No page is in two runs.
    pub fn runs(&self) -> &[Touched] {
        &self.runs
    }

    /// Returns the number of touched pages.
    pub fn pages(&self) -> u64 {
        self.runs.iter().fold(0, |sum, run| sum.saturating_add(run.pages))
    }
}

/// Fails above the bound on the size of a file.
fn check_size(size: u64) -> Result<()> {
    let limit = bounds::WORKING_SET.get();
    if size <= limit {
        Ok(())
    } else {
        Err(Error::new(WorkingSet::FILE, ErrorKind::TooLarge { size, limit }))
    }
}

#[cfg(test)]
mod tests;
