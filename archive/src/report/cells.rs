//! Places of the pages inside a mapping, in so many cells as a drawing has.

use std::collections::HashMap;

use criu_images::memory::{PageFlags, Run};
use criu_images::view::{Mapping, TaskMems};
use criu_images::{ImageSet, Task};

/// Runs of pages of each task, by rising address.
#[derive(Debug, Default)]
pub(super) struct Pages(HashMap<u32, Vec<Run>>);

impl Pages {
    /// Reads the pagemaps of all tasks. Tasks whose pagemap cannot be read are left out.
    pub(super) fn of(set: &ImageSet) -> Self {
        let Ok(checkpoint) = set.checkpoint() else { return Self::default() };
        let runs = |task: Task<'_>| {
            let memory = task.memory().ok()??;
            Some((task.pid(), memory.runs().collect()))
        };
        Self(checkpoint.tasks().filter_map(runs).collect())
    }

    /// Returns the cells of a mapping, as letters with lengths: "p3z29" has three cells with pages,
    /// and 29 without. Empty if nothing tells where the pages are.
    pub(super) fn cells(&self, task: &TaskMems, mapping: &Mapping) -> String {
        let Some(runs) = self.0.get(&task.pid) else { return String::new() };
        let pages = mapping.pages.mapped;
        let Some(cells) = usize::try_from(pages.min(CELLS)).ok().filter(|cells| *cells > 0) else {
            return String::new();
        };
        let mut line = vec![rest(mapping); cells];
        let first = runs.partition_point(|run| end(run, task.page_size) <= mapping.start);
        for run in runs.iter().skip(first).take_while(|run| run.start < mapping.end) {
            let page = |address: u64| address.saturating_sub(mapping.start) / task.page_size.max(1);
            let last = page(end(run, task.page_size).min(mapping.end).saturating_sub(1));
            let cell = |page: u64| {
                let cell = u128::from(page) * line.len() as u128 / u128::from(pages);
                usize::try_from(cell).unwrap_or(usize::MAX)
            };
            let (from, to) = (cell(page(run.start)), cell(last).saturating_add(1));
            let state = state(run.flags);
            for cell in line.iter_mut().take(to).skip(from) {
                // A cell of many pages shows the page that is nearest at hand.
                if rank(state) > rank(*cell) {
                    *cell = state;
                }
            }
        }
        let mut text = String::new();
        for run in line.chunk_by(|a, b| a == b) {
            text.extend(run.first());
            text.push_str(&run.len().to_string());
        }
        text
    }
}

/// State of the pages that no run has.
fn rest(mapping: &Mapping) -> char {
    let pages = &mapping.pages;
    let states = [(pages.zero, 'z'), (pages.file, 'f'), (pages.shared, 's'), (pages.kernel, 'k')];
    states.into_iter().max_by_key(|(pages, _)| *pages).map_or('z', |(_, state)| state)
}

fn state(flags: PageFlags) -> char {
    if flags.contains(PageFlags::PRESENT) {
        'p'
    } else if flags.contains(PageFlags::PARENT) {
        'r'
    } else {
        'l'
    }
}

fn rank(state: char) -> usize {
    "lrp".find(state).map_or(0, |at| at + 1)
}

fn end(run: &Run, page_size: u64) -> u64 {
    run.start.saturating_add(run.pages.saturating_mul(page_size))
}

/// Most cells of a mapping.
const CELLS: u64 = 64;
