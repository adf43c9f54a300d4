//! The processor on which a task runs.

use std::fs::{self, File};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::FileExt;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

/// The file that tells on which processor the first thread of a task has run last:
/// `/proc/PID/stat`.
#[derive(Debug)]
pub(super) struct Seat(File);

impl Seat {
    /// Finds the file of a process. `None` if this process does not see the other one.
    pub(super) fn of(process: BorrowedFd<'_>) -> Option<Self> {
        let facts =
            fs::read_to_string(format!("/proc/self/fdinfo/{}", process.as_raw_fd())).ok()?;
        let pid = facts.lines().find_map(|line| line.strip_prefix("Pid:"))?;
        let pid: u32 = pid.trim().parse().ok().filter(|pid| *pid > 0)?;
        Some(Self(File::open(format!("/proc/{pid}/task/{pid}/stat")).ok()?))
    }

    /// Returns the number of the processor.
    pub(super) fn processor(&self) -> Option<usize> {
        let mut bytes = [0; 1024];
        let size = self.0.read_at(&mut bytes, 0).ok()?;
        let text = std::str::from_utf8(bytes.get(..size)?).ok()?;
        // The name of the program may have spaces and brackets.
        let (_, fields) = text.rsplit_once(')')?;
        fields.split_ascii_whitespace().nth(PROCESSOR)?.parse().ok()
    }
}

/// Moves the calling thread to a processor, or lets it run on all.
pub(super) fn move_to(processor: usize) -> nix::Result<()> {
    let mut set = CpuSet::new();
    set.set(processor)?;
    sched_setaffinity(Pid::from_raw(0), &set)
}

/// Moves the calling thread to the allowed processors, without one if there are others.
pub(super) fn leave(processor: Option<usize>, allowed: &CpuSet) -> nix::Result<()> {
    let mut set = CpuSet::new();
    let mut is_empty = true;
    for other in (0..CpuSet::count()).filter(|other| Some(*other) != processor) {
        if allowed.is_set(other)? {
            set.set(other)?;
            is_empty = false;
        }
    }
    sched_setaffinity(Pid::from_raw(0), if is_empty { allowed } else { &set })
}

/// The place of `processor` behind the name of the program.
const PROCESSOR: usize = 36;
