//! The memory that holders take between the rounds of a series.

use std::fmt;
use std::io;

use procfs::process::Process;

use super::headroom::Free;
use crate::value::Pid;

/// The memory that the holders of a series may take for themselves.
///
/// Each page that a task writes or gives back while it has a holder takes memory twice: the holder
/// keeps the old one. Between the rounds of a series the holders are looked at, and end before they
/// take too much. The next round is a full one then.
///
/// ```
/// use criu_rs::instant::Budget;
///
/// let budget = Budget::new().percent(25).bytes(4 << 30).free(512 << 20);
/// # drop(budget);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Budget {
    percent: u64,
    bytes: u64,
    free: Option<u64>,
}

/// The reason why the holders of a series have ended between two rounds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SeriesEnd {
    /// The holders took more memory than the [`Budget`] allows.
    Budget {
        /// The bytes that the holders had for themselves.
        own: u64,
        /// The bytes that they may have.
        most: u64,
    },
    /// The machine, or a memory cgroup of the tasks, had too little memory left.
    Free {
        /// The bytes that were free.
        free: u64,
        /// The bytes that have to be free.
        least: u64,
    },
    /// A holder has ended by itself: the kernel ends holders first where memory runs out.
    Lost,
}

impl Budget {
    /// Returns the default: the holders end when they have half of the memory for themselves that
    /// they held at first (at least 64 MiB), or when the machine or a memory cgroup of the tasks
    /// has less than an eighth of that memory left (at least 32 MiB).
    pub fn new() -> Self {
        Self { percent: PERCENT, bytes: u64::MAX, free: None }
    }

    /// Sets the part of the held memory that holders may have for themselves, in percent. Holders
    /// of 128 MiB and less may have 64 MiB at the default of 50.
    pub fn percent(mut self, percent: u8) -> Self {
        self.percent = percent.into();
        self
    }

    /// Sets the largest number of bytes that holders may have for themselves. There is no such
    /// number by default.
    pub fn bytes(mut self, bytes: u64) -> Self {
        self.bytes = bytes;
        self
    }

    /// Sets the number of bytes that the machine and each memory cgroup of the tasks must have
    /// left.
    pub fn free(mut self, bytes: u64) -> Self {
        self.free = Some(bytes);
        self
    }

    /// The bytes that holders of so many bytes may have for themselves.
    fn most(&self, held: u64) -> u64 {
        let part = held.saturating_mul(self.percent) / 100;
        part.max(SMALL.saturating_mul(self.percent) / PERCENT).min(self.bytes)
    }

    /// The bytes that must be left beside holders of so many bytes.
    fn least_free(&self, held: u64) -> u64 {
        self.free.unwrap_or_else(|| (held / 8).max(LITTLE))
    }

    /// Looks at the free memory. This takes some ten microseconds.
    pub(super) fn look_at_free(&self, free: &Free, held: u64) -> Option<SeriesEnd> {
        let least = self.least_free(held);
        let free = free.bytes().filter(|free| *free < least)?;
        Some(SeriesEnd::Free { free, least })
    }

    /// Looks at the memory that holders have for themselves. This takes some 20 milliseconds for
    /// each GiB of small pages, and holds up no task.
    pub(super) fn look_at_holders(&self, holders: &[Pid], held: u64) -> Option<SeriesEnd> {
        let most = self.most(held);
        let mut own = 0u64;
        for holder in holders {
            match own_bytes(*holder) {
                Ok(bytes) => own = own.saturating_add(bytes),
                Err(_) => return Some(SeriesEnd::Lost),
            }
        }
        (own > most).then_some(SeriesEnd::Budget { own, most })
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for SeriesEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Budget { own, most } => {
                let (own, most) = (own >> 20, most >> 20);
                write!(f, "the holders took {own} MiB for themselves, and may take {most} MiB")
            }
            Self::Free { free, least } => {
                write!(f, "{} MiB of memory were free, less than {} MiB", free >> 20, least >> 20)
            }
            Self::Lost => {
                f.write_str("a holder was ended, as the kernel does where memory runs out")
            }
        }
    }
}

/// The bytes that a holder does not share.
///
/// # Errors
/// The holder has ended.
fn own_bytes(holder: Pid) -> io::Result<u64> {
    let rollup = Process::new(holder.as_raw()).and_then(|process| process.smaps_rollup());
    let maps = rollup.map_err(io::Error::other)?.memory_map_rollup.0;
    if maps.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let names = ["Private_Clean", "Private_Dirty", "SwapPss"];
    let number = |name| maps.iter().filter_map(move |map| map.extension.map.get(name));
    Ok(names.into_iter().flat_map(number).sum())
}

/// The part of the held memory that holders may have for themselves by default, in percent.
const PERCENT: u64 = 50;

/// The bytes that small holders may have for themselves by default.
const SMALL: u64 = 64 << 20;

/// The bytes that must be left beside small holders by default.
const LITTLE: u64 = 32 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_has_a_floor_and_a_ceiling() {
        let budget = Budget::new();
        assert_eq!((budget.most(0), budget.most(1 << 30)), (64 << 20, 512 << 20));
        assert_eq!((budget.least_free(0), budget.least_free(1 << 30)), (32 << 20, 128 << 20));
        let budget = Budget::new().percent(25).bytes(100 << 20).free(7);
        assert_eq!((budget.most(0), budget.most(1 << 30)), (32 << 20, 100 << 20));
        assert_eq!((budget.most(300 << 20), budget.least_free(1 << 30)), (75 << 20, 7));
        assert_eq!(Budget::new().percent(0).most(1 << 30), 0);
        assert_eq!(Budget::new().most(u64::MAX), u64::MAX / 100);
    }

    #[test]
    fn a_process_has_memory_for_itself_until_it_has_ended() {
        let own = own_bytes(Pid::this()).unwrap();
        assert!(own > 100 << 10, "{own}");
        let over = Budget::new().percent(0).look_at_holders(&[Pid::this()], 0);
        assert!(matches!(over, Some(SeriesEnd::Budget { own, most: 0 }) if own > 100 << 10));
        assert_eq!(Budget::new().look_at_holders(&[], 0), None);
        let mut child = std::process::Command::new("/bin/true").spawn().unwrap();
        let pid = Pid::from(&child);
        // A zombie has no memory any more.
        assert!(criu_lab::soon(|| own_bytes(pid).is_err()));
        child.wait().unwrap();
        let lost = Budget::new().look_at_holders(&[pid], 1 << 30);
        assert_eq!(lost, Some(SeriesEnd::Lost));
    }

    #[test]
    fn free_memory_is_looked_at() {
        let free = Free::of(&[Pid::this()]);
        assert_eq!(Budget::new().free(1).look_at_free(&free, 1 << 40), None);
        let end = Budget::new().free(u64::MAX).look_at_free(&free, 0).unwrap();
        assert!(matches!(end, SeriesEnd::Free { free, least: u64::MAX } if free > 1 << 20));
    }
}
