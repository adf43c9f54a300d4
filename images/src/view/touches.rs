//! Working sets, beside the memory of their tasks.

use std::fmt;
use std::time::Duration;

use crate::checkpoint::Checkpoint;
use crate::error::Result;
use crate::text::count;
use crate::view::{Table, kib};
use crate::working_set::{TaskTouches, WorkingSet};

/// The pages that a restore of a checkpoint touched. Displays as a table, in KiB.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Touches {
    /// Bytes of a page.
    pub page_size: u64,
    /// Touched pages of all tasks.
    pub pages: u64,
    /// Bytes of the touched pages.
    pub bytes: u64,
    /// Pages that all tasks of the checkpoint have of their own, touched or not.
    pub own_pages: u64,
    /// Microseconds of the recording.
    pub recorded_us: u64,
    /// Tasks with touched pages, by rising pid.
    pub tasks: Vec<TouchRow>,
}

/// The pages that a task touched.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct TouchRow {
    /// Id of the task.
    pub pid: u32,
    /// Name of the task.
    pub name: String,
    /// Touched pages.
    pub pages: u64,
    /// Pages that the task has of its own, touched or not.
    pub own_pages: u64,
    /// Runs of consecutive pages that were touched one after the other.
    pub runs: usize,
    /// Microseconds from the beginning of the recording to the first touch.
    pub first_us: u64,
    /// Microseconds from the beginning of the recording to the first touch of the last run.
    pub last_us: u64,
}

impl Touches {
    /// Compares a working set with the memory of the tasks.
    ///
    /// # Errors
    /// The errors of [`Task::memory`](crate::Task::memory).
    pub fn new(checkpoint: Checkpoint<'_>, set: &WorkingSet) -> Result<Self> {
        let (mut own_pages, mut rows) = (0u64, Vec::new());
        for task in checkpoint.tasks() {
            let memory = task.memory_here()?;
            let own = memory.map_or(0, |memory| memory.totals().own());
            own_pages = own_pages.saturating_add(own);
            let (pid, name) = (task.pid(), task.name());
            let touches = set.tasks().iter().filter(|touches| touches.pid() == pid);
            rows.extend(touches.map(|touches| TouchRow::new(touches, name.to_string(), own)));
        }
        rows.sort_by_key(|row| row.pid);
        let pages = set.pages();
        let page_size = set.page_size().bytes();
        Ok(Self {
            page_size,
            pages,
            bytes: pages.saturating_mul(page_size),
            own_pages,
            recorded_us: micros(set.recorded()),
            tasks: rows,
        })
    }
}

impl TouchRow {
    fn new(touches: &TaskTouches, name: String, own_pages: u64) -> Self {
        let runs = touches.runs();
        let time = |run: Option<&crate::working_set::Touched>| run.map_or(0, |r| micros(r.after));
        Self {
            pid: touches.pid(),
            name,
            pages: touches.pages(),
            own_pages,
            runs: runs.len(),
            first_us: time(runs.first()),
            last_us: time(runs.last()),
        }
    }
}

impl fmt::Display for Touches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { page_size, pages, own_pages, recorded_us, .. } = self;
        let of = |pages| kib(pages, *page_size);
        write!(f, "working set {}, {} KiB", count(*pages, "page"), of(*pages))?;
        write!(f, " of {} KiB ({})", of(*own_pages), share(*pages, *own_pages))?;
        writeln!(f, ", recorded for {} ms", millis(*recorded_us))?;
        let head =
            &[">PID", ">TOUCHED", ">OWN", ">SHARE", ">RUNS", ">FIRST MS", ">LAST MS", "COMMAND"];
        let mut table = Table::new(head);
        for row in &self.tasks {
            table.row(vec![
                row.pid.to_string(),
                of(row.pages),
                of(row.own_pages),
                share(row.pages, row.own_pages),
                row.runs.to_string(),
                millis(row.first_us),
                millis(row.last_us),
                row.name.clone(),
            ]);
        }
        table.fmt(f)
    }
}

/// Formats a part of a whole in percent, with a digit behind the point.
fn share(part: u64, whole: u64) -> String {
    let tenths = u128::from(part) * 1000 / u128::from(whole.max(1));
    format!("{}.{} %", tenths / 10, tenths % 10)
}

fn millis(micros: u64) -> String {
    format!("{}.{:03}", micros / 1000, micros % 1000)
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
