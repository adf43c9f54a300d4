//! The memory of a dump, where it was in the freeze.

use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use super::held::{Held, Holders};
use crate::pages::held::HeldTask;
use crate::pages::recording::Recording;

/// The pages that CRIU has sent, and the holders until they are [taken](Self::take).
#[derive(Debug)]
pub(super) struct Memory {
    pub(super) recording: Recording,
    holders: RwLock<Option<Holders>>,
}

/// The holders while somebody reads them. They do not end meanwhile.
pub(super) struct InUse<'m>(RwLockReadGuard<'m, Option<Holders>>);

impl Memory {
    pub(super) fn new(recording: Recording, holders: Holders) -> Self {
        Self { recording, holders: RwLock::new(Some(holders)) }
    }

    /// Returns the holders, for a while.
    pub(super) fn holders(&self) -> InUse<'_> {
        InUse(self.holders.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes the holders. Nobody reads them any more.
    pub(super) fn take(&self) -> Option<Holders> {
        self.holders.write().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl InUse<'_> {
    /// Tells if the holders were taken.
    pub(super) fn are_taken(&self) -> bool {
        self.0.is_none()
    }

    /// The tasks with holders; no task once the holders were taken.
    pub(super) fn tasks(&self) -> &[Held] {
        self.0.as_ref().map(Holders::tasks).unwrap_or_default()
    }
}

impl Held {
    /// The pages of the task, none of which are left to a parent set.
    pub(super) fn pages(&self) -> HeldTask<'_> {
        let (pid, mappings) = (self.inner, &*self.mappings);
        HeldTask { pid, mappings, pages: &self.holder, in_parent: None }
    }
}
