//! The failed sessions that a log tells of, so that no peer fills a disk with lines.

use std::time::{Duration, Instant};

/// A bound for lines about failed sessions: [`MOST`] in a minute, and the number of the others.
#[derive(Debug)]
pub(super) struct Failures {
    since: Instant,
    told: u32,
    untold: u64,
}

impl Failures {
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, told: 0, untold: 0 }
    }

    /// Returns the lines for a failure: none, its own, or also one about those before it.
    pub(super) fn lines(&mut self, own: String, now: Instant) -> Vec<String> {
        let mut lines = Vec::new();
        if now.saturating_duration_since(self.since) >= SPAN {
            lines.extend(self.rest());
            (self.since, self.told) = (now, 0);
        }
        if self.told < MOST {
            self.told += 1;
            lines.push(own);
        } else {
            self.untold = self.untold.saturating_add(1);
        }
        lines
    }

    /// Returns the line about failures that had none of their own.
    pub(super) fn rest(&mut self) -> Option<String> {
        match std::mem::take(&mut self.untold) {
            0 => None,
            1 => Some("1 more session failed".to_owned()),
            number => Some(format!("{number} more sessions failed")),
        }
    }
}

/// The time in which so many failures have a line.
const SPAN: Duration = Duration::from_secs(60);
/// The most failures that have a line in [`SPAN`]: more than all sessions that a server takes at
/// once, so that honest dumps that fail together are all told of.
const MOST: u32 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_sessions_beyond_a_hundred_a_minute_are_a_number() {
        let begun = Instant::now();
        let mut failures = Failures::new(begun);
        let mut fail =
            |seconds| failures.lines("failed".to_owned(), begun + Duration::from_secs(seconds));
        for n in 0..1000 {
            assert_eq!(fail(1), vec!["failed"; usize::from(n < 100)]);
        }
        assert_eq!(fail(61), ["900 more sessions failed", "failed"]);
        assert_eq!(fail(62), ["failed"]);
        assert_eq!(failures.rest(), None);
        for _ in 0..99 {
            failures.lines(String::new(), begun + Duration::from_secs(63));
        }
        assert_eq!(failures.rest().unwrap(), "1 more session failed");
    }
}
