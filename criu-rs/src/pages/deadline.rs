//! The deadline of an exchange with a page server.

use std::io;
use std::time::{Duration, Instant};

use nix::poll::PollTimeout;

/// The moment by which an exchange has to be over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline {
    limit: Duration,
    /// The moment; `None` if the clock cannot name it, so that it never comes.
    at: Option<Instant>,
}

/// The error of a socket whose exchange is not over at its deadline.
#[derive(Debug, thiserror::Error)]
#[error("the exchange takes longer than its deadline of {0:?}")]
pub(super) struct DeadlinePassed(pub(super) Duration);

impl Deadline {
    /// A deadline that passes `limit` after `now`.
    pub(super) fn after(limit: Duration, now: Instant) -> Self {
        Self { limit, at: now.checked_add(limit) }
    }

    /// Returns the time between the beginning and the deadline.
    pub(super) fn limit(self) -> Duration {
        self.limit
    }

    /// Returns the deadline that passes first.
    pub(super) fn sooner(self, other: Self) -> Self {
        match (self.at, other.at) {
            (Some(one), Some(another)) if another < one => other,
            (None, Some(_)) => other,
            _ => self,
        }
    }

    /// Returns how much time is left at `now`.
    ///
    /// # Errors
    /// [`DeadlinePassed`] if no time is left.
    pub(super) fn left(&self, now: Instant) -> io::Result<Duration> {
        let left = self.at.map_or(Duration::MAX, |at| at.saturating_duration_since(now));
        if left.is_zero() {
            return Err(io::Error::other(DeadlinePassed(self.limit)));
        }
        Ok(left)
    }
}

/// Returns the timeout of poll(2) for a time, rounded up to milliseconds: a wait that ends early
/// would only begin again.
pub(super) fn poll_timeout(time: Duration) -> PollTimeout {
    PollTimeout::try_from(time.as_millis().saturating_add(1)).unwrap_or(PollTimeout::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_has_passed_when_no_time_is_left() {
        let (begun, second) = (Instant::now(), Duration::from_secs(1));
        let deadline = Deadline::after(5 * second, begun);
        assert_eq!(deadline.left(begun).unwrap(), 5 * second);
        assert_eq!(deadline.left(begun + 4 * second).unwrap(), second);
        for late in [5 * second, 9 * second] {
            let error = deadline.left(begun + late).unwrap_err().to_string();
            assert_eq!(error, "the exchange takes longer than its deadline of 5s");
        }
        let never = Deadline::after(Duration::MAX, begun);
        assert_eq!(never.left(begun + 1000 * second).unwrap(), Duration::MAX);
    }

    #[test]
    fn the_sooner_of_two_deadlines_passes_first() {
        let (begun, second) = (Instant::now(), Duration::from_secs(1));
        let [soon, late, never] =
            [second, 9 * second, Duration::MAX].map(|limit| Deadline::after(limit, begun));
        for (one, other) in [(soon, late), (late, soon), (soon, never), (never, soon)] {
            assert_eq!(one.sooner(other).left(begun).unwrap(), second);
        }
    }

    #[test]
    fn poll_waits_no_shorter_than_it_is_told() {
        assert_eq!(poll_timeout(Duration::from_micros(1)), PollTimeout::from(1u8));
        assert_eq!(poll_timeout(Duration::from_millis(9)), PollTimeout::from(10u8));
        assert_eq!(poll_timeout(Duration::MAX), PollTimeout::MAX);
    }
}
