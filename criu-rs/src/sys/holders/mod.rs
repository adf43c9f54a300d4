//! Processes that hold the memory of a task for an instant capture.
//!
//! A holder is a fork of the task that waits in `ppoll` for nothing, for ever. The kernel ignores
//! the last two arguments of this call, so they say who reads the holder. Everybody who may trace
//! the holder can read them, and no file has to be kept.

#[cfg(feature = "instant")]
mod bond;
#[cfg(feature = "instant")]
mod left;
#[cfg(feature = "instant")]
mod thread;

use std::time::{Duration, Instant};

use super::proc::{Call, Doing, FORKNOEXEC, Stat, held_back};
use super::raw;

#[cfg(feature = "instant")]
pub(crate) use bond::{Bond, Kept};
#[cfg(feature = "instant")]
pub(in crate::sys) use bond::{Held, reap};
#[cfg(feature = "instant")]
pub(in crate::sys) use left::each_left;
#[cfg(feature = "instant")]
pub(crate) use left::left;

/// The process that reads a holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    /// The number of the process in its own pid namespace.
    pub(crate) pid: i32,
    /// The time of its start, in the kernel's ticks since boot.
    pub(crate) start: u64,
}

impl Owner {
    /// This process.
    #[cfg(feature = "instant")]
    pub(crate) fn this() -> Option<Self> {
        let pid = i32::try_from(std::process::id()).ok()?;
        Some(Self { pid, start: Stat::of(pid)?.start })
    }

    fn of(call: &Call) -> Option<Self> {
        let [0, 0, 0, 0, name, start] = call.arguments else { return None };
        let pid = i32::try_from(name & u64::from(u32::MAX)).ok().filter(|pid| *pid > 0)?;
        let is_holder = call.number == libc::SYS_ppoll && name >> 32 == MAGIC;
        is_holder.then_some(Self { pid, start })
    }
}

/// A process that may be a holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// The process waits as a holder.
    Parked(Owner),
    /// The process is a fork on its way into the call in which a holder waits. On a busy machine
    /// this may last.
    Begins,
    /// The process is the remains of a holder that nobody has reaped.
    Dead,
}

impl Look {
    /// Looks at a process. `None` for a process that is not a holder, and for one that this process
    /// may not trace.
    pub(crate) fn at(pid: i32) -> Option<Self> {
        match Doing::of_first(pid)? {
            Doing::Waits(call) => Owner::of(&call).map(Self::Parked),
            Doing::Stands | Doing::Running => of_fork(pid),
        }
    }

    /// Looks at a process, and waits for a fork on its way, but not longer than two seconds.
    pub(crate) fn settled(pid: i32) -> Option<Self> {
        let begun = Instant::now();
        loop {
            match Self::at(pid) {
                Some(Self::Begins) if begun.elapsed() < LONGEST_WAY => raw::wait(&mut [], Some(1)),
                look => return look,
            }
        }
    }
}

/// Tells a fork that does not wait as a holder: its end has no signal, it has executed no program,
/// and it holds back all signals. The C library lets no program do so.
fn of_fork(pid: i32) -> Option<Look> {
    let stat = Stat::of(pid)?;
    let is_fork = stat.exit_signal == 0 && stat.flags & FORKNOEXEC != 0;
    let is_one = is_fork && held_back(pid) == Some(ALL_SIGNALS);
    is_one.then_some(if stat.has_ended() { Look::Dead } else { Look::Begins })
}

/// The time for the way of a fork into its call.
const LONGEST_WAY: Duration = Duration::from_secs(2);

/// The upper half of the fifth argument of a holder's `ppoll`.
const MAGIC: u64 = 0x6372_6968;
#[cfg(feature = "instant")]
const _: () = assert!(MAGIC == criu_plugin::inject::MAGIC as u64);

/// All signals, without the two that nobody can hold back.
const ALL_SIGNALS: u64 = !(1 << (libc::SIGKILL - 1) | 1 << (libc::SIGSTOP - 1));

#[cfg(test)]
#[cfg(all(feature = "instant", target_arch = "x86_64"))]
pub(crate) mod lab;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_is_told_by_its_call() {
        let number = libc::SYS_ppoll;
        let name = MAGIC << 32 | 4711;
        let owner = |arguments| Owner::of(&Call { number, arguments });
        assert_eq!(owner([0, 0, 0, 0, name, 9]), Some(Owner { pid: 4711, start: 9 }));
        for arguments in [
            [1, 0, 0, 0, name, 9],
            [0, 0, 0, 0, name ^ 1 << 32, 9],
            [0, 0, 0, 0, MAGIC << 32, 9],
            [0, 0, 0, 0, name | 1 << 31, 9],
        ] {
            assert_eq!(owner(arguments), None, "{arguments:x?}");
        }
        assert_eq!(Owner::of(&Call { number: number + 1, arguments: [0, 0, 0, 0, name, 9] }), None);
        assert_eq!(Look::at(i32::MAX), None);
    }
}
