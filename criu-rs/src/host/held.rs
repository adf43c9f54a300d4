//! Processes by descriptor, so that none is taken for another that has got its number.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use procfs::process::{Process, Stat};

use super::tree;
use crate::sys::fd;
use crate::value::Pid;

/// A process, held by its descriptor (pidfd): a signal reaches this process or none.
///
/// Before Linux 5.3 there are no such descriptors, and a process that has its limit of descriptors
/// open gets none. There a process is known by its number and the time of its start, which is
/// looked at again right before each signal.
#[derive(Debug)]
pub(crate) struct Held {
    pid: Pid,
    pidfd: Option<OwnedFd>,
    since: u64,
    parent: i32,
}

impl Held {
    /// Holds the process that has this number now. `None` if there is none.
    pub(crate) fn of(pid: Pid) -> Option<Self> {
        Self::new(pid, fd::open(pid.nix()).ok())
    }

    /// Holds a process of which there is a descriptor already. `None` if it has been reaped.
    pub(crate) fn by(pid: Pid, pidfd: BorrowedFd<'_>) -> Option<Self> {
        let held = Self::new(pid, pidfd.try_clone_to_owned().ok());
        // Without a copy, where this process may open no more, the time of the start is enough.
        held.filter(|_| fd::is_there(pidfd))
    }

    /// Holds the process that was started at this time, in the kernel's ticks.
    pub(crate) fn started_at(pid: Pid, since: u64) -> Option<Self> {
        Self::of(pid).filter(|held| held.since == since)
    }

    /// Holds a child of a process.
    pub(crate) fn child(pid: Pid, parent: Pid) -> Option<Self> {
        Self::of(pid).filter(|held| held.parent == parent.as_raw())
    }

    fn new(pid: Pid, pidfd: Option<OwnedFd>) -> Option<Self> {
        let stat = stat(pid)?;
        let held = Self { pid, pidfd, since: stat.starttime, parent: stat.ppid };
        // A process that has not been reaped has had its number all the time.
        held.is_there().then_some(held)
    }

    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// The time of its start, in the kernel's ticks since boot.
    pub(crate) fn since(&self) -> u64 {
        self.since
    }

    /// The number of its parent when it was looked up.
    pub(crate) fn parent(&self) -> i32 {
        self.parent
    }

    /// Returns true if the process has not been reaped: whatever `/proc/PID` has said since it was
    /// held is true of it.
    pub(crate) fn is_there(&self) -> bool {
        match &self.pidfd {
            Some(pidfd) => fd::is_there(pidfd),
            None => tree::started_at(self.pid) == Some(self.since),
        }
    }

    /// Sends a signal to the process, if it is still there.
    pub(crate) fn signal(&self, signal: Signal) {
        let _ = match &self.pidfd {
            Some(pidfd) => fd::signal(pidfd, signal).map_err(drop),
            None if self.is_there() => kill(self.pid.nix(), signal).map_err(drop),
            None => Ok(()),
        };
    }

    /// Reaps the process if it is a child of this one, once it has ended.
    pub(crate) fn reap(&self) {
        while self.wait(WaitPidFlag::empty()) == Err(Errno::EINTR) {}
    }

    /// Reaps the process if it is a child of this one and has ended.
    pub(crate) fn try_reap(&self) -> nix::Result<WaitStatus> {
        self.wait(WaitPidFlag::WNOHANG)
    }

    fn wait(&self, flags: WaitPidFlag) -> nix::Result<WaitStatus> {
        let flags = flags | WaitPidFlag::__WALL;
        match &self.pidfd {
            Some(pidfd) => waitid(Id::PIDFd(pidfd.as_fd()), flags | WaitPidFlag::WEXITED),
            None if self.is_there() => waitpid(self.pid.nix(), Some(flags)),
            None => Err(Errno::ECHILD),
        }
    }
}

/// The state of a process in `/proc/PID/stat`.
pub(crate) fn stat(pid: Pid) -> Option<Stat> {
    Process::new(pid.as_raw()).ok()?.stat().ok()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_process_is_not_taken_for_another_with_its_number() {
        let start = || Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap();
        let (mut first, mut second) = (start(), start());
        let (one, other) = (Pid::from(&first), Pid::from(&second));
        let held = Held::child(one, Pid::this()).unwrap();
        assert!(Held::child(one, other).is_none());
        assert!(Held::started_at(one, held.since() + 1).is_none());
        let pidfd = fd::open(other.nix()).unwrap();
        // A descriptor that leads to another process than the number.
        second.kill().unwrap();
        second.wait().unwrap();
        assert!(Held::by(one, pidfd.as_fd()).is_none());
        // Without descriptors the time of the start decides.
        let mistaken = Held { pid: one, pidfd: None, since: held.since() - 1, parent: 0 };
        mistaken.signal(Signal::SIGKILL);
        assert_eq!(mistaken.try_reap(), Err(Errno::ECHILD));
        assert!(first.try_wait().unwrap().is_none());
        held.signal(Signal::SIGKILL);
        held.reap();
        assert!(!held.is_there() && first.wait().is_err(), "it has been reaped");
        held.signal(Signal::SIGKILL);
    }
}
