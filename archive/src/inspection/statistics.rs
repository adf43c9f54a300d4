//! CRIU's counters of a dump, as a view.

use std::fmt;
use std::time::Duration;

use criu_images::DumpStats;
use serde::Serialize;

/// Statistics of a dump. Times are in microseconds, counters in pages unless noted. Counters that
/// an older CRIU does not have are `None`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Statistics {
    /// Time to stop all tasks.
    pub freezing_us: u64,
    /// Time for which tasks were stopped.
    pub frozen_us: u64,
    /// Time to find and drain memory.
    pub memdump_us: u64,
    /// Time to write memory.
    pub memwrite_us: u64,
    /// Time to find the paths of watched inodes.
    pub irmap_resolve_us: Option<u64>,
    /// Pages scanned.
    pub pages_scanned: u64,
    /// Pages left to the parent set.
    pub pages_skipped_parent: u64,
    /// Pages written.
    pub pages_written: u64,
    /// Pages that a restore may fetch lazily.
    pub pages_lazy: u64,
    /// Pipes used to drain memory.
    pub page_pipes: Option<u64>,
    /// Buffers of these pipes.
    pub page_pipe_bufs: Option<u64>,
    /// Shared pages scanned.
    pub shpages_scanned: Option<u64>,
    /// Shared pages left to the parent set.
    pub shpages_skipped_parent: Option<u64>,
    /// Shared pages written.
    pub shpages_written: Option<u64>,
}

impl Statistics {
    pub(crate) fn new(stats: &DumpStats) -> Self {
        Self {
            freezing_us: micros(stats.freezing),
            frozen_us: micros(stats.frozen),
            memdump_us: micros(stats.memdump),
            memwrite_us: micros(stats.memwrite),
            irmap_resolve_us: stats.irmap_resolve.map(micros),
            pages_scanned: stats.pages_scanned,
            pages_skipped_parent: stats.pages_skipped_parent,
            pages_written: stats.pages_written,
            pages_lazy: stats.pages_lazy,
            page_pipes: stats.page_pipes,
            page_pipe_bufs: stats.page_pipe_bufs,
            shpages_scanned: stats.shpages_scanned,
            shpages_skipped_parent: stats.shpages_skipped_parent,
            shpages_written: stats.shpages_written,
        }
    }
}

impl fmt::Display for Statistics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |us: u64| format!("{}.{:03} ms", us / 1000, us % 1000);
        write!(f, "freezing {}", ms(self.freezing_us))?;
        write!(f, ", frozen {}", ms(self.frozen_us))?;
        write!(f, ", memory found in {}", ms(self.memdump_us))?;
        write!(f, " and written in {}", ms(self.memwrite_us))?;
        write!(f, "; {} pages scanned, {} written", self.pages_scanned, self.pages_written)?;
        let parts =
            [(self.pages_skipped_parent, "left to the parent set"), (self.pages_lazy, "lazy")];
        for (pages, what) in parts.iter().filter(|(pages, _)| *pages > 0) {
            write!(f, ", {pages} {what}")?;
        }
        Ok(())
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
