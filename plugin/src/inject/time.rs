//! Time, and waiting.

#![allow(unsafe_code)]

use std::ops::Add;
use std::time::Duration;

use super::Errno;
use super::raw;

/// A moment, in nanoseconds of the monotonic clock.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Moment(u64);

impl Moment {
    pub(super) fn now() -> Self {
        let mut time = [0_u64; 2];
        let place = time.as_mut_ptr().expose_provenance();
        // SAFETY: the kernel writes one time, seconds and nanoseconds.
        let result = unsafe { raw::call(libc::SYS_clock_gettime, [MONOTONIC, place, 0, 0, 0, 0]) };
        // Without a clock every deadline has passed.
        Self(result.map_or(u64::MAX, |_| time[0].wrapping_mul(1_000_000_000).wrapping_add(time[1])))
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
        let pause = [0, pause];
        let place = pause.as_ptr().expose_provenance();
        // SAFETY: the kernel reads one time, and writes none.
        let _ = unsafe { raw::call(libc::SYS_nanosleep, [place, 0, 0, 0, 0, 0]) };
        Ok(())
    }
}

/// Nanoseconds for which a wait does not sleep, and those of its sleeps.
const EAGER: u64 = 20_000;
const SHORTEST: u64 = 10_000;
const LONGEST: u64 = 2_000_000;

/// `CLOCK_MONOTONIC`.
const MONOTONIC: usize = 1;
