//! Resource limits and timers of tasks.

use std::fmt;
use std::time::Duration;

use crate::proto::ItimerEntry;
use crate::task::Task;

/// A resource limit of getrlimit(2). Displays as a line of /proc/PID/limits, without padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limit {
    /// Name of the resource: the `RLIMIT_` name in lower case, as `nofile`.
    pub name: &'static str,
    /// The limit in force; `None` if unlimited.
    pub soft: Option<u64>,
    /// The value up to which the task may raise the limit; `None` if unlimited.
    pub hard: Option<u64>,
}

/// An armed timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timer {
    /// Sort of timer.
    pub kind: TimerKind,
    /// Time left until the timer expires.
    pub due: Duration,
    /// Time between later expirations; zero if the timer expires once.
    pub interval: Duration,
}

/// Sorts of timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TimerKind {
    /// setitimer(2), wall time.
    Real,
    /// setitimer(2), CPU time in user mode.
    Virtual,
    /// setitimer(2), CPU time.
    Prof,
    /// timer_create(2).
    Posix {
        /// Id of the timer in the task.
        id: u32,
        /// Number of the clock, a `CLOCK_` constant.
        clock: u32,
        /// Number of the signal that the timer sends.
        signal: u32,
    },
}

impl Task<'_> {
    /// The resource limits; empty for a zombie.
    pub fn limits(&self) -> impl Iterator<Item = Limit> {
        let limits = self.core().rlimits.as_ref().into_iter().flat_map(|all| &all.rlimits);
        let value = |value| (value != u64::MAX).then_some(value);
        limits.enumerate().map(move |(number, limit)| {
            let name = LIMITS.get(number).copied().unwrap_or("unknown");
            Limit { name, soft: value(limit.cur), hard: value(limit.max) }
        })
    }

    /// The armed timers. Timers of timerfd_create(2) are [files](Self::files).
    pub fn timers(&self) -> impl Iterator<Item = Timer> {
        let timers = self.core().timers.as_ref();
        let three = timers.map(|timers| {
            [
                (TimerKind::Real, &timers.real),
                (TimerKind::Virtual, &timers.virt),
                (TimerKind::Prof, &timers.prof),
            ]
        });
        let interval = three.into_iter().flatten().map(|(kind, timer)| {
            let ItimerEntry { isec, iusec, vsec, vusec } = *timer;
            let time = |seconds, micros: u64| duration(seconds, micros.saturating_mul(1000));
            Timer { kind, due: time(vsec, vusec), interval: time(isec, iusec) }
        });
        let posix = timers.into_iter().flat_map(|timers| &timers.posix).map(|timer| {
            let (id, clock, signal) = (timer.it_id, timer.clock_id, timer.si_signo);
            let kind = TimerKind::Posix { id, clock, signal };
            let interval = duration(timer.isec, timer.insec);
            Timer { kind, due: duration(timer.vsec, timer.vnsec), interval }
        });
        interval.chain(posix).filter(|timer| !timer.due.is_zero())
    }
}

/// Adds seconds and nanoseconds. A sum that overflows is the longest duration.
fn duration(seconds: u64, nanos: u64) -> Duration {
    Duration::from_secs(seconds).saturating_add(Duration::from_nanos(nanos))
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.name, Bound(self.soft), Bound(self.hard))
    }
}

struct Bound(Option<u64>);

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(value) => write!(f, "{value}"),
            None => f.write_str("unlimited"),
        }
    }
}

impl fmt::Display for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {:.3?}", self.kind, self.due)?;
        if self.interval.is_zero() {
            Ok(())
        } else {
            write!(f, ", then every {:.3?}", self.interval)
        }
    }
}

impl fmt::Display for TimerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Real => f.write_str("real"),
            Self::Virtual => f.write_str("virtual"),
            Self::Prof => f.write_str("prof"),
            Self::Posix { id, .. } => write!(f, "posix {id}"),
        }
    }
}

/// Names by number, those of every architecture except MIPS.
const LIMITS: [&str; 16] = [
    "cpu",
    "fsize",
    "data",
    "stack",
    "core",
    "rss",
    "nproc",
    "nofile",
    "memlock",
    "as",
    "locks",
    "sigpending",
    "msgqueue",
    "nice",
    "rtprio",
    "rttime",
];
