//! The holders of a capture.

use std::sync::Arc;
#[cfg(feature = "pod")]
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use criu_images::ImageSet;
use criu_plugin::journal::{Field, Record, State};

use super::error::InstantError;
use super::guard::Guard;
use super::holder::Holder;
use super::shared::{self, Shared};
use super::teardown;
use crate::error::Result;
use crate::pages::held::{Mapping, mappings};
use crate::undo::Unreaped;
use crate::value::Pid;

/// The holders of a capture, with the process that ends them if this one is killed. Dropped, they
/// end.
#[derive(Debug)]
pub(super) struct Holders {
    tasks: Vec<Held>,
    /// Stays until the holders have ended.
    guard: Guard,
    shared: Arc<Shared>,
    /// Tells that no holder but the known ones is to end.
    is_settled: bool,
}

/// Holders of dumps that have failed, and whose tasks are still frozen. A frozen task cannot reap
/// its holder. Dropped, the holders end.
#[cfg(feature = "pod")]
#[derive(Debug, Default)]
pub(crate) struct Late(Mutex<Vec<Holders>>);

#[cfg(feature = "pod")]
impl Late {
    /// Ends the holders. No task is frozen any more.
    pub(crate) fn end(&self) {
        let all = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        drop(all);
    }

    pub(super) fn put(&self, holders: Holders) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(holders);
    }
}

/// A task with a holder.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) pid: Pid,
    /// Number in the pid namespace of the task: the number in the names of its images.
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
    /// The holders of a dump, none of which has been opened. Until [`open`](Self::open), those that
    /// the journal names end with the value.
    pub(super) fn new(shared: Arc<Shared>, guard: Guard) -> Self {
        Self { tasks: Vec::new(), guard, shared, is_settled: false }
    }

    /// Names the criu that makes the holders to the guard: see [`Guard::wait_for`].
    ///
    /// # Errors
    /// The guard is gone.
    pub(super) fn wait_for(&self, criu: Option<Pid>) -> Result<()> {
        self.guard.wait_for(criu)
    }

    /// Keeps the holders beyond their round. Later holders of the same tasks do not end with them.
    pub(super) fn settle(&mut self) {
        self.is_settled = true;
    }

    /// Opens the holders of a dump that has succeeded, and counts their pages.
    ///
    /// # Errors
    /// A holder is gone, or the images of its task cannot be read.
    pub(super) fn open(&mut self, set: &ImageSet) -> Result<(), InstantError> {
        let journal = self.shared.journal()?;
        if shared::is_unhidden(&journal) {
            let why = "criu may have saved the holders of the round before as tasks";
            return Err(InstantError::Journal(why.into()));
        }
        for record in journal.records() {
            if record.state() == Some(State::Held) {
                self.tasks.push(Held::open(&record)?);
            } else if record.get(Field::Hidden) > 0 || record.get(Field::HiddenWhole) > 0 {
                let task = record.get(Field::Task);
                return Err(InstantError::Hidden(task));
            }
        }
        self.tasks.iter_mut().try_for_each(|held| held.count(set))
    }

    /// The tasks with holders.
    pub(super) fn tasks(&self) -> &[Held] {
        &self.tasks
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
        let damaged = |field| {
            let found = record.get(field);
            InstantError::Journal(format!("{found} is no process id ({field:?})"))
        };
        let pid = shared::pid(record, Field::Task).ok_or_else(|| damaged(Field::Task))?;
        let inner = record.get(Field::Inner);
        let inner = u32::try_from(inner).map_err(|_| damaged(Field::Inner))?;
        let holder = Holder::open(pid, record)?;
        let fork = Duration::from_nanos(record.get(Field::ForkTime));
        Ok(Self { pid, inner, holder, mappings: Vec::new(), pages: 0, fork })
    }

    /// Counts the pages.
    pub(super) fn count(&mut self, set: &ImageSet) -> Result<(), InstantError> {
        let (task, holder) = (self.pid, self.holder.pid());
        let lost = |why: String| InstantError::Lost { task, holder, why };
        let Some(saved) = set.checkpoint()?.task(self.inner) else {
            return Err(lost(format!("the images have no task {}", self.inner)));
        };
        self.mappings = mappings(&saved)?;
        self.pages = self.holder.count(&self.mappings).map_err(|error| lost(error.to_string()))?;
        Ok(())
    }
}
