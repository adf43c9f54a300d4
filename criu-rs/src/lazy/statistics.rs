//! Numbers of a restore.

use std::time::Duration;

/// The progress of a restore.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct LazyProgress {
    /// The pages that have come.
    pub pages: u64,
    /// The pages that are still missing.
    pub missing: u64,
    /// Tasks, forks included, that still have missing pages.
    pub tasks: u64,
}

/// The numbers of a restore.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct LazyStatistics {
    /// The faults that were served.
    pub faults: u64,
    /// The time from the moment a fault was read to the moment its thread was woken.
    pub latency: Percentiles,
    /// Pages that came because a task touched them.
    pub touched: u64,
    /// Pages that came with a touched page.
    pub around: u64,
    /// Pages that came in the background.
    pub filled: u64,
    /// Pages that came because they are in the working set.
    pub working_set: u64,
    /// Pages that read as zeros, because the tasks have discarded them or never had them.
    pub zeros: u64,
    /// Bytes that were read from the source.
    pub bytes: u64,
    /// Reads of the source that were tried again.
    pub retries: u64,
}

/// Percentiles of times.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Percentiles {
    /// The median.
    pub p50: Duration,
    /// 90 of 100 are at most this.
    pub p90: Duration,
    /// 99 of 100 are at most this.
    pub p99: Duration,
    /// The longest.
    pub max: Duration,
}
