//! Numbers of a restore.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
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
    /// The pages that had not come when the restored task that had them ended, or ran another
    /// program. They never come. Pages of children that restored tasks have forked do not count.
    pub unused: u64,
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
    /// Reads of the source that were tried again, of all restores from it.
    pub retries: u64,
    /// Tasks that were ended because their pages were lost. Their children since the restore, which
    /// end with them, are not counted.
    pub killed: u64,
    /// Tasks that run on after their pages were lost, and get `SIGBUS` where a page is missing.
    pub poisoned: u64,
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

/// Counters of a restore, which threads raise without waiting for each other.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) latency: Histogram,
    pub(super) pages: AtomicU64,
    pub(super) touched: AtomicU64,
    pub(super) around: AtomicU64,
    pub(super) filled: AtomicU64,
    pub(super) working_set: AtomicU64,
    pub(super) zeros: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) unused: AtomicU64,
    pub(super) killed: AtomicU64,
    pub(super) poisoned: AtomicU64,
}

impl Counters {
    /// Returns the numbers so far.
    pub(super) fn read(&self) -> LazyStatistics {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        LazyStatistics {
            faults: self.latency.count(),
            latency: self.latency.percentiles(),
            touched: load(&self.touched),
            around: load(&self.around),
            filled: load(&self.filled),
            working_set: load(&self.working_set),
            zeros: load(&self.zeros),
            bytes: load(&self.bytes),
            retries: 0,
            killed: load(&self.killed),
            poisoned: load(&self.poisoned),
        }
    }
}

/// Adds to a counter.
pub(super) fn add(counter: &AtomicU64, number: u64) {
    counter.fetch_add(number, Ordering::Relaxed);
}

/// Times by their logarithm, eight classes for each power of two: a percentile is at most an
/// eighth too long.
pub(super) struct Histogram {
    classes: [AtomicU64; CLASSES],
    longest: AtomicU64,
}

impl Histogram {
    /// Counts a time.
    pub(super) fn count_in(&self, time: Duration) {
        let time = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        add(&self.classes[class(time)], 1);
        self.longest.fetch_max(time, Ordering::Relaxed);
    }

    /// Returns the number of times.
    fn count(&self) -> u64 {
        self.classes.iter().map(|class| class.load(Ordering::Relaxed)).sum()
    }

    fn percentiles(&self) -> Percentiles {
        let counts = self.classes.each_ref().map(|class| class.load(Ordering::Relaxed));
        let (all, longest) = (counts.iter().sum::<u64>(), self.longest.load(Ordering::Relaxed));
        let at = |percent: u64| {
            let wanted = all.saturating_mul(percent).div_ceil(100);
            let mut seen = 0;
            let found = counts.iter().position(|&count| {
                seen += count;
                seen >= wanted && seen > 0
            });
            Duration::from_nanos(found.map_or(0, |class| last_of(class).min(longest)))
        };
        let max = Duration::from_nanos(longest);
        Percentiles { p50: at(50), p90: at(90), p99: at(99), max }
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self { classes: [const { AtomicU64::new(0) }; CLASSES], longest: AtomicU64::new(0) }
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.percentiles().fmt(f)
    }
}

/// Returns the class of a time in nanoseconds.
fn class(time: u64) -> usize {
    let power = time.max(PARTS).ilog2() - PARTS.ilog2();
    // Below 2 * PARTS each number has a class of its own.
    let part = (time >> power) & (PARTS - 1);
    let first = if time < PARTS { 0 } else { u64::from(power) * PARTS + PARTS };
    usize::try_from(first + part).unwrap_or(usize::MAX).min(CLASSES - 1)
}

/// Returns the longest time of a class in nanoseconds.
fn last_of(class: usize) -> u64 {
    let class = class as u64;
    let Some(power) = (class / PARTS).checked_sub(1) else { return class };
    ((PARTS + class % PARTS) << power) + ((1 << power) - 1)
}

/// The number of classes for each power of two.
const PARTS: u64 = 8;

/// The number of classes: the last has all times from 2^48 ns, three days, on.
const CLASSES: usize = 8 * 47;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_at_most_an_eighth_too_long() {
        for scale in [1, 37, 1000, 1_000_000] {
            let times = Histogram::default();
            (1..=1000).for_each(|n| times.count_in(Duration::from_nanos(n * scale)));
            let found = times.percentiles();
            let exact = [(found.p50, 500), (found.p90, 900), (found.p99, 990)];
            for (found, exact) in exact {
                let (found, exact) = (found.as_nanos(), u128::from(exact * scale));
                assert!(found >= exact && found * 8 <= exact * 9, "{found} for {exact}");
            }
            assert_eq!(found.max, Duration::from_nanos(1000 * scale));
            assert_eq!(times.count(), 1000);
        }
    }

    #[test]
    fn each_time_is_in_the_class_that_ends_at_or_above_it() {
        assert_eq!(Histogram::default().percentiles(), Percentiles::default());
        for time in (0..5000).chain((0..48).flat_map(|power| [1 << power, (1 << power) + 1])) {
            let class = class(time);
            assert!(time <= last_of(class), "{time}");
            assert!(class == 0 || time > last_of(class - 1), "{time}");
        }
        assert_eq!(class(u64::MAX), CLASSES - 1);
    }
}
