//! Forks a stopped task, parks its child as a holder, and removes holders again.

#[cfg(target_arch = "x86_64")]
mod end;
#[cfg(target_arch = "x86_64")]
mod filter;
#[cfg(target_arch = "x86_64")]
mod fork;
#[cfg(target_arch = "x86_64")]
mod frame;
#[cfg(target_arch = "x86_64")]
mod gadget;
#[cfg(target_arch = "x86_64")]
mod guest;
#[cfg(target_arch = "x86_64")]
mod park;
#[cfg(target_arch = "x86_64")]
mod time;
#[cfg(target_arch = "x86_64")]
mod trace;

use std::time::Instant;

use crate::journal::Reason;
pub use crate::sys::errno::Errno;

/// Upper half of the fifth argument of a parked holder's `ppoll`.
pub const MAGIC: u32 = 0x6372_6968;

/// The process that reads a holder.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Owner {
    /// Process id.
    pub pid: i32,
    /// Start time, in clock ticks: field 22 of `/proc/PID/stat`.
    pub start: u64,
}

/// A holder that has been made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Held {
    /// Process id, as the tracer sees it.
    pub pid: i32,
    /// Start time, in clock ticks: field 22 of `/proc/PID/stat`.
    pub start: u64,
    /// Time that the fork took, in nanoseconds.
    pub nanoseconds: u64,
}

/// A reason why there is no holder. Except for [`Reason::Lost`] the task goes on as after a signal:
/// a sleep that was interrupted may return EINTR.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct GiveUp {
    /// The reason, as the journal has it.
    pub reason: Reason,
    /// Number of the system's error, or 0.
    pub errno: i32,
}

impl GiveUp {
    fn because(reason: Reason) -> Self {
        Self { reason, errno: 0 }
    }

    #[cfg(target_arch = "x86_64")]
    fn with(reason: Reason) -> impl Fn(Errno) -> Self + Copy {
        move |Errno(errno)| Self { reason, errno }
    }
}

/// Forks a task, and parks the child.
///
/// The calling thread traces all threads of the task by `PTRACE_SEIZE` with
/// `PTRACE_O_TRACESYSGOOD`, and all of them are stopped, the leader in `PTRACE_EVENT_STOP`.
///
/// # Errors
/// The reason why there is no holder.
pub fn fork_held(task: i32, owner: Owner) -> Result<Held, GiveUp> {
    #[cfg(target_arch = "x86_64")]
    return fork::fork_held(task, owner);
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = (task, owner);
        Err(GiveUp::because(Reason::Gadgets))
    }
}

/// Kills a holder, and leaves it to [`end`] or [`reap`] to reap it. `holder` is the number of the
/// holder as the tracer sees it. A holder whose task has died is killed, too.
///
/// # Errors
/// `ECHILD` if the task has no such child.
pub fn kill(task: i32, holder: i32) -> Result<(), Errno> {
    #[cfg(target_arch = "x86_64")]
    return end::kill(task, holder);
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = (task, holder);
        Err(Errno(libc::EOPNOTSUPP))
    }
}

/// Kills a holder and reaps it through its task, which the calling thread traces as for
/// [`fork_held`]. `holder` is the number of the holder as the tracer sees it.
///
/// # Errors
/// `ECHILD` if the task has no such child: a holder whose task has died is killed all the same.
/// `ETIMEDOUT` if the holder does not die.
pub fn end(task: i32, holder: i32) -> Result<(), Errno> {
    #[cfg(target_arch = "x86_64")]
    return end::end(task, holder);
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = (task, holder);
        Err(Errno(libc::EOPNOTSUPP))
    }
}

/// Reaps a dead holder through a thread of its task. The thread runs, and nobody traces it.
/// `holder` is the number of the holder as the task sees it.
///
/// The function allocates nothing, takes no lock, and uses no variable of the thread or of the C
/// library, so it may run in a fork of a process with threads. It needs less than 64 KiB of stack.
///
/// # Errors
/// `EPERM` if the thread has another tracer, `ESRCH` if it is gone, `ECHILD` if the task has no
/// such child, `EAGAIN` if the holder has not died yet, and `ETIMEDOUT` if the thread has not
/// stopped by the deadline: the kernel lets the thread go when the calling thread ends. Other
/// errors mean that this thread cannot do it at this moment.
pub fn reap(thread: i32, holder: i32, deadline: Instant) -> Result<(), Errno> {
    #[cfg(target_arch = "x86_64")]
    return end::reap(thread, holder, deadline.saturating_duration_since(Instant::now()));
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = (thread, holder, deadline);
        Err(Errno(libc::EOPNOTSUPP))
    }
}

/// Reads the signature of a holder. Returns `None` for a process that is not a parked holder.
pub fn parked(pid: i32) -> Option<Owner> {
    #[cfg(target_arch = "x86_64")]
    return park::parked(pid);
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = pid;
        None
    }
}
