//! Priorities of this process's threads.

#![allow(unsafe_code)]

use std::io;

use nix::errno::Errno;

/// A way to schedule a thread.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Scheduling {
    /// `SCHED_FIFO` with the lowest priority: runs before every ordinary thread. Needs
    /// `CAP_SYS_NICE`.
    First,
    /// `SCHED_OTHER` with slices of 0.1 ms, so that the thread runs soon after it is woken. Linux
    /// 6.12 heeds the length of slices.
    Short,
    /// `SCHED_OTHER` with nine times the share of others: for work that others wait for. Needs
    /// `CAP_SYS_NICE`.
    Eager,
    /// `SCHED_BATCH`: never takes the processor from a running thread.
    Batch,
    /// `SCHED_BATCH` with a tenth of the share of others: for work that should take the time that
    /// others leave.
    Spare,
}

/// `sched_setattr(2)`: schedules the calling thread. Threads and processes that this thread starts
/// do not inherit the scheduling.
///
/// # Errors
/// `EPERM` for [`Scheduling::First`] and [`Scheduling::Eager`] without `CAP_SYS_NICE`.
pub(crate) fn schedule(scheduling: Scheduling) -> io::Result<()> {
    let (policy, priority, slice, nice) = match scheduling {
        Scheduling::First => (libc::SCHED_FIFO, 1, 0, 0),
        Scheduling::Short => (libc::SCHED_OTHER, 0, SLICE, 0),
        Scheduling::Eager => (libc::SCHED_OTHER, 0, 0, EAGER),
        Scheduling::Batch => (libc::SCHED_BATCH, 0, 0, 0),
        Scheduling::Spare => (libc::SCHED_BATCH, 0, 0, SPARE),
    };
    let mut attributes = Attributes {
        size: SIZE,
        policy: policy.unsigned_abs(),
        flags: RESET_ON_FORK,
        nice,
        priority,
        slice,
        ..Attributes::default()
    };
    let (thread, flags) = (0, 0);
    let pointer = &raw mut attributes;
    // SAFETY: the kernel reads `size` bytes of the attributes, which outlive the call.
    Errno::result(unsafe { libc::syscall(libc::SYS_sched_setattr, thread, pointer, flags) })?;
    Ok(())
}

/// `struct sched_attr`, as of Linux 3.14.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    slice: u64,
    deadline: u64,
    period: u64,
}

/// `SCHED_ATTR_SIZE_VER0`.
const SIZE: u32 = 48;

/// `SCHED_FLAG_RESET_ON_FORK`.
const RESET_ON_FORK: u64 = 1;

/// The niceness of work that others wait for: nine times the share.
const EAGER: i32 = -10;

/// The niceness of work that takes the time that others leave: a tenth of the share.
const SPARE: i32 = 10;

/// The length of a short slice in nanoseconds.
const SLICE: u64 = 100_000;
