//! Recordings: working sets in the making.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use super::fingerprint::Fingerprint;
use super::{TaskTouches, Touched, WorkingSet};
use crate::memory::PageSize;

/// A working set in the making.
#[derive(Clone, Debug)]
pub struct Recording {
    page_size: PageSize,
    tasks: BTreeMap<u32, Task>,
    pages: usize,
}

#[derive(Clone, Debug, Default)]
struct Task {
    runs: Vec<Touched>,
    /// Numbers of the touched pages.
    known: HashSet<u64>,
}

impl Recording {
    /// The most pages that a recording takes; later touches are left out. A recording of so many
    /// pages takes some 50 MiB of memory.
    pub const MAX_PAGES: usize = 1 << 20;

    /// Begins a recording.
    #[must_use]
    pub fn new(page_size: PageSize) -> Self {
        Self { page_size, tasks: BTreeMap::new(), pages: 0 }
    }

    /// Notes that a task has touched the page at an address: its pid in the images, the address at
    /// the moment of the dump, and the time since the beginning of the recording. Only the first
    /// touch of a page counts. Returns false if the touch was left out because the recording
    /// [is full](Self::MAX_PAGES).
    pub fn touch(&mut self, pid: u32, address: u64, after: Duration) -> bool {
        let bytes = self.page_size.bytes();
        let page = address / bytes;
        if page >= u64::MAX / bytes {
            // No task has the last page of 64 bits.
            return true;
        }
        if self.pages >= Self::MAX_PAGES {
            return self.tasks.get(&pid).is_some_and(|task| task.known.contains(&page));
        }
        let task = self.tasks.entry(pid).or_default();
        if !task.known.insert(page) {
            return true;
        }
        self.pages += 1;
        let start = page * bytes;
        // Threads that fault at the same time may be noted in another order.
        let last = task.runs.last().map_or(Duration::ZERO, |last| last.after);
        let after = whole_micros(after).max(last);
        match task.runs.last_mut() {
            Some(run) if run.start.checked_add(run.pages * bytes) == Some(start) => run.pages += 1,
            _ => task.runs.push(Touched { start, pages: 1, after }),
        }
        true
    }

    /// Returns the number of touched pages.
    pub fn pages(&self) -> usize {
        self.pages
    }

    /// Ends the recording: the fingerprint of the images, and the duration of the recording.
    #[must_use]
    pub fn finish(self, fingerprint: Fingerprint, recorded: Duration) -> WorkingSet {
        let tasks =
            self.tasks.into_iter().map(|(pid, Task { runs, .. })| TaskTouches { pid, runs });
        let page_size = self.page_size;
        let recorded = whole_micros(recorded);
        WorkingSet { fingerprint, page_size, recorded, tasks: tasks.collect() }
    }
}

/// Cuts a time to microseconds, and to those that the format holds.
fn whole_micros(time: Duration) -> Duration {
    Duration::from_micros(u64::try_from(time.as_micros()).unwrap_or(u64::MAX))
}
