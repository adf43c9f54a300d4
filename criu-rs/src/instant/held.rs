//! The holders of a capture.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use criu_images::ImageSet;
use criu_plugin::journal::{Field, Record, State};

use super::error::InstantError;
use super::guard::Guard;
use super::holder::Holder;
use super::shared::{self, Shared};
use super::teardown;
use crate::pages::held::{Mapping, mappings};
use crate::undo::Unreaped;
use crate::value::Pid;

/// The holders of a capture, with the process that ends them if this one is killed. Dropped, they
/// end.
#[derive(Debug)]
pub(super) struct Holders {
    tasks: Vec<Held>,
    /// Stays until the holders have ended.
    _guard: Guard,
    shared: Arc<Shared>,
    /// Tells that no holder but the known ones is to end.
    is_settled: bool,
}

/// A task with a holder.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) pid: Pid,
    /// Its number in its own pid namespace: the number in the names of its images.
    pub(super) inner: u32,
    pub(super) holder: Holder,
    /// Memory for which the pages of the holder count.
    pub(super) mappings: Vec<Mapping>,
    /// Pages of the holder at the time of the dump.
    pub(super) pages: u64,
    /// Time that the fork took.
    pub(super) fork: Duration,
}

impl Holders {
    /// Opens the holders of a dump that has succeeded, and counts their pages. `images` is the
    /// images directory.
    ///
    /// # Errors
    /// A holder is gone, or the images of its task cannot be read. All holders end.
    pub(super) fn open(
        shared: &Arc<Shared>,
        guard: Guard,
        images: &Path,
    ) -> Result<Self, InstantError> {
        let mut holders = Self::left(shared, guard);
        let journal = shared.journal()?;
        if shared::is_unhidden(&journal) {
            return Err(InstantError::Journal("holders that criu may have saved as tasks"));
        }
        let mut records =
            journal.records().filter(|record| record.state() == Some(State::Held)).peekable();
        if records.peek().is_none() {
            return Ok(holders);
        }
        for record in records {
            holders.tasks.push(Held::open(&record)?);
        }
        let set = ImageSet::open(images)?;
        for held in &mut holders.tasks {
            held.count(&set)?;
        }
        Ok(holders)
    }

    /// The tasks with holders.
    pub(super) fn tasks(&self) -> &[Held] {
        &self.tasks
    }
}

impl Holders {
    /// The holders that a failed dump has left: criu was killed.
    pub(super) fn left(shared: &Arc<Shared>, guard: Guard) -> Self {
        let shared = Arc::clone(shared);
        Self { tasks: Vec::new(), _guard: guard, shared, is_settled: false }
    }

    /// Keeps the holders beyond their round. Later holders of the same tasks do not end with them.
    pub(super) fn settle(&mut self) {
        self.is_settled = true;
    }

    /// Ends the holders, and returns those that their tasks have not reaped: see
    /// [`teardown::end`].
    pub(super) fn end(mut self) -> Vec<Unreaped> {
        self.end_all()
    }

    fn end_all(&mut self) -> Vec<Unreaped> {
        let known = std::mem::take(&mut self.tasks).into_iter().map(|held| held.holder);
        let journal = self.shared.journal().ok().filter(|_| !self.is_settled);
        teardown::end(known.collect(), journal.as_ref())
    }
}

impl Drop for Holders {
    fn drop(&mut self) {
        self.end_all();
    }
}

impl Held {
    fn open(record: &Record<'_>) -> Result<Self, InstantError> {
        let broken = || InstantError::Journal("a record");
        let pid = shared::pid(record, Field::Task).ok_or_else(broken)?;
        let inner = u32::try_from(record.get(Field::Inner)).map_err(|_| broken())?;
        let holder = Holder::open(pid, record)?;
        let fork = Duration::from_nanos(record.get(Field::ForkTime));
        Ok(Self { pid, inner, holder, mappings: Vec::new(), pages: 0, fork })
    }

    /// Counts the pages.
    fn count(&mut self, set: &ImageSet) -> Result<(), InstantError> {
        let task = set.checkpoint()?.task(self.inner);
        let task = task.ok_or(InstantError::Journal("a task that the images do not have"))?;
        self.mappings = mappings(&task)?;
        let counted = self.holder.count(&self.mappings);
        self.pages = counted.map_err(InstantError::system("count the pages of a holder"))?;
        Ok(())
    }
}
