//! Summaries of many programs.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use super::walk::Budget;
use super::{Program, Summary};
use crate::arch::Architecture;
use crate::error::Result;

/// Summaries of the filters of a set. Equal programs share a summary, and all programs share a
/// budget.
#[derive(Debug)]
pub(crate) struct Summaries {
    /// The summaries, by the place of their filter in `seccomp.img`.
    known: HashMap<(Architecture, u32), Arc<Summary>>,
    programs: HashMap<(Architecture, Vec<u8>), Arc<Summary>>,
    budget: Budget,
}

impl Summaries {
    /// Returns the summary of the filter at a place, whose instructions are `code`. `read` reads
    /// the instructions if they were not seen before.
    pub(crate) fn of(
        &mut self,
        place: (Architecture, u32),
        code: &[u8],
        read: impl FnOnce() -> Result<Program>,
    ) -> Result<Arc<Summary>> {
        let Self { known, programs, budget } = self;
        if let Some(summary) = known.get(&place) {
            return Ok(Arc::clone(summary));
        }
        let summary = match programs.entry((place.0, code.to_vec())) {
            Entry::Occupied(same) => Arc::clone(same.get()),
            Entry::Vacant(new) => Arc::clone(new.insert(Arc::new(read()?.summary_within(budget)))),
        };
        known.insert(place, Arc::clone(&summary));
        Ok(summary)
    }
}

impl Default for Summaries {
    fn default() -> Self {
        Self { known: HashMap::new(), programs: HashMap::new(), budget: Budget::of_set() }
    }
}
