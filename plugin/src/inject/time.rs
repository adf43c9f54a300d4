//! Time, and waiting.

use std::ops::Add;
use std::time::Duration;

use crate::sys::call;
use crate::sys::errno::Errno;

/// A moment, in nanoseconds of the monotonic clock.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Moment(u64);

impl Moment {
    pub(super) fn now() -> Self {
        // Without a clock every deadline has passed.
        Self(call::nanoseconds().unwrap_or(u64::MAX))
    }

    /// Nanoseconds since another moment.
    pub(super) fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, time: Duration) -> Self {
        let time = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(time))
    }
}

/// A wait with a deadline. Most stops come within some ten microseconds.
#[derive(Debug)]
pub(super) struct Patience {
    start: Moment,
    deadline: Moment,
}

impl Patience {
    pub(super) fn until(deadline: Moment) -> Self {
        Self { start: Moment::now(), deadline }
    }

    /// Waits for a moment. The error is `ETIMEDOUT`.
    ///
    /// A thread that sleeps is the first to run again on a busy machine. A thread that gives way
    /// with `sched_yield` is the last.
    pub(super) fn wait(&self) -> Result<(), Errno> {
        let now = Moment::now();
        if now >= self.deadline {
            return Err(Errno(libc::ETIMEDOUT));
        }
        let waited = now.since(self.start);
        if waited < EAGER {
            std::hint::spin_loop();
            return Ok(());
        }
        let pause = (waited / 32).clamp(SHORTEST, LONGEST).min(self.deadline.since(now));
        call::sleep(pause);
        Ok(())
    }
}

/// Nanoseconds for which a wait does not sleep, and those of its sleeps.
const EAGER: u64 = 20_000;
const SHORTEST: u64 = 10_000;
const LONGEST: u64 = 2_000_000;
