//! A holder and its task, until the holder is reaped.
//!
//! The end of a holder sends no signal, so its task does not reap it. A thread of the task is made
//! to: it stops for a moment, makes the call, and goes on as it was.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use criu_plugin::inject;

use super::thread::Threads;
use crate::sys::proc::{Stat, number_for, tracer};
use crate::sys::{fd, raw};

/// A holder and its task, by numbers.
#[derive(Clone, Copy, Debug)]
pub(in crate::sys) struct Held {
    pub(in crate::sys) task: i32,
    pub(in crate::sys) holder: i32,
    /// The number of the holder that its task uses, or 0 if the task is gone.
    pub(in crate::sys) inner: i32,
    /// A descriptor of the holder.
    pub(in crate::sys) pidfd: i32,
}

/// A holder and its task.
#[derive(Debug)]
pub(crate) struct Bond {
    held: Held,
    pidfd: OwnedFd,
}

/// The end of a holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Nothing is left of the holder.
    Reaped,
    /// The task has ended, and another process has become the parent of the remains.
    Adopted(i32),
}

/// The reason why a holder could not be reaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Kept {
    /// The holder has not ended.
    #[error("it has not ended")]
    Alive,
    /// Another process traces the task, and a thread has one tracer only.
    #[error("process {0} traces its task")]
    Traced(i32),
    /// A thread of the task could not be made to reap the holder.
    #[error("no thread of its task reaps it: {}", io::Error::from_raw_os_error(*.0))]
    Unwilling(i32),
}

impl Bond {
    /// Opens a holder, by its number and that of its task.
    pub(crate) fn open(task: i32, holder: i32) -> io::Result<Self> {
        let pidfd = fd::open(nix::unistd::Pid::from_raw(holder))?;
        let inner = number_for(holder, task).unwrap_or(0);
        Ok(Self { held: Held { task, holder, inner, pidfd: pidfd.as_raw_fd() }, pidfd })
    }

    /// Takes a holder with its descriptor.
    pub(super) fn new(held: Held, pidfd: OwnedFd) -> Self {
        Self { held, pidfd }
    }

    /// The task.
    pub(crate) fn task(&self) -> i32 {
        self.held.task
    }

    /// The holder.
    pub(crate) fn holder(&self) -> i32 {
        self.held.holder
    }

    /// Returns true if the holder has not been reaped: its number is its own.
    pub(crate) fn is_there(&self) -> bool {
        fd::is_there(&self.pidfd)
    }

    /// Kills the holder.
    pub(crate) fn kill(&self) {
        raw::signal(self.held.pidfd, libc::SIGKILL);
    }

    /// Has the task reap the holder, which has been killed.
    ///
    /// # Errors
    /// The reason that is left when the time has come.
    pub(crate) fn reap(&self, until: Instant) -> Result<End, Kept> {
        reap(&self.held, until)
    }
}

impl AsFd for Bond {
    /// A descriptor that is readable when the holder has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

/// Has the task of a killed holder reap it. Uses no heap.
pub(in crate::sys) fn reap(held: &Held, until: Instant) -> Result<End, Kept> {
    reap_by(held, until, |thread, inner, until| {
        inject::reap(thread, inner, until).map_err(|error| error.0)
    })
}

fn reap_by(
    held: &Held,
    until: Instant,
    by: impl Fn(i32, i32, Instant) -> Result<(), i32>,
) -> Result<End, Kept> {
    let mut pause = SHORTEST_PAUSE;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let mut ended = [raw::poll_for(held.pidfd)];
        raw::wait(&mut ended, Some(millis(left)));
        if !raw::signal(held.pidfd, 0) {
            return Ok(End::Reaped);
        }
        let kept = if ended.iter().all(|fd| fd.revents == 0) {
            Kept::Alive
        } else {
            let parent = Stat::of(held.holder).map(|stat| stat.parent);
            if !raw::signal(held.pidfd, 0) {
                return Ok(End::Reaped);
            }
            if let Some(parent) = parent.filter(|parent| *parent != held.task) {
                return Ok(End::Adopted(parent));
            }
            match once(held, until, &by) {
                Ok(()) if !raw::signal(held.pidfd, 0) => return Ok(End::Reaped),
                Ok(()) => Kept::Unwilling(libc::ECHILD),
                Err(kept) => kept,
            }
        };
        if Instant::now() >= until {
            return Err(kept);
        }
        raw::wait(&mut [], Some(millis(pause)));
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Tries the threads of a task.
fn once(
    held: &Held,
    until: Instant,
    by: &impl Fn(i32, i32, Instant) -> Result<(), i32>,
) -> Result<(), Kept> {
    let mut kept = Kept::Unwilling(libc::ESRCH);
    for thread in Threads::of(held.task).iter() {
        let until = until.min(Instant::now() + LONGEST_STOP);
        match by(thread, held.inner, until) {
            // Somebody else may have reaped it meanwhile.
            Ok(()) | Err(libc::ECHILD) => return Ok(()),
            Err(libc::ESRCH) => {}
            Err(libc::EPERM) => {
                let by = tracer(thread).or_else(|| tracer(held.task));
                kept = by.map_or(Kept::Unwilling(libc::EPERM), Kept::Traced);
            }
            Err(errno) => kept = Kept::Unwilling(errno),
        }
    }
    Err(kept)
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_micros().div_ceil(1000)).unwrap_or(i64::MAX)
}

/// The time in which a thread stops and makes the call.
const LONGEST_STOP: Duration = Duration::from_secs(1);

/// The shortest pause between two tries.
const SHORTEST_PAUSE: Duration = Duration::from_millis(2);

/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);
