//! The descriptors, threads and memory of this process.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

/// The numbers of one moment.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Count {
    pub(super) descriptors: usize,
    pub(super) threads: usize,
    /// Bytes of memory in use.
    pub(super) memory: u64,
}

impl Count {
    /// Counts now.
    pub(super) fn now() -> Self {
        let entries = |folder: &str| fs::read_dir(folder).map_or(0, Iterator::count);
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let row = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = row.and_then(|row| row.split_whitespace().next()?.parse::<u64>().ok());
        Self {
            descriptors: entries("/proc/self/fd"),
            threads: entries("/proc/self/task"),
            memory: kilobytes.unwrap_or(0) << 10,
        }
    }

    /// Counts when the threads that have ended are gone, or after a while.
    pub(super) fn settled(before: &Self) -> Self {
        let begun = Instant::now();
        loop {
            let now = Self::now();
            let same = now.threads <= before.threads && now.descriptors <= before.descriptors;
            if same || begun.elapsed() > Duration::from_secs(2) {
                return now;
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Returns the larger of each number.
    pub(super) fn or_more(self, other: Self) -> Self {
        Self {
            descriptors: self.descriptors.max(other.descriptors),
            threads: self.threads.max(other.threads),
            memory: self.memory.max(other.memory),
        }
    }
}
