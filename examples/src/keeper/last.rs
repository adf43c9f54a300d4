//! The end of the processes of a dump that is complete.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use criu_rs::Pid;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use procfs::process::Process;
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// A tree that stands still. Dropped, it goes on, unless it was ended.
#[derive(Debug)]
pub(crate) struct Stopped {
    root: Pid,
    life: OwnedFd,
    is_ended: bool,
}

impl Stopped {
    /// Takes a tree that a dump has left stopped.
    ///
    /// # Errors
    /// The root has ended.
    pub(crate) fn new(root: Pid) -> io::Result<Self> {
        Ok(Self { root, life: open(root.as_raw())?, is_ended: false })
    }

    /// Ends all processes of the tree, and waits until the root has ended.
    ///
    /// # Errors
    /// A process may not be ended, or has not ended after ten seconds.
    pub(crate) fn end(mut self) -> io::Result<()> {
        let all = self.all();
        self.is_ended = true;
        for process in &all {
            match pidfd_send_signal(process, Signal::KILL) {
                Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let begun = Instant::now();
        for process in &all {
            let left = PATIENCE.saturating_sub(begun.elapsed());
            let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let mut fds = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
            if poll(&mut fds, left)? == 0 {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
        Ok(())
    }

    /// Opens all processes of the tree. None of them runs, so none begins or ends meanwhile.
    fn all(&self) -> Vec<OwnedFd> {
        let (mut found, mut numbers) = (Vec::new(), vec![self.root.as_raw()]);
        // The number of a root that has ended may be that of another process.
        let mut life = [PollFd::new(self.life.as_fd(), PollFlags::POLLIN)];
        if poll(&mut life, PollTimeout::ZERO) != Ok(0) {
            return found;
        }
        let mut next = 0;
        while let Some(&number) = numbers.get(next) {
            next += 1;
            found.extend(open(number));
            let tasks = Process::new(number).and_then(|process| process.tasks());
            for task in tasks.into_iter().flatten().flatten() {
                let children = task.children().unwrap_or_default();
                numbers.extend(children.into_iter().filter_map(|child| i32::try_from(child).ok()));
            }
        }
        found
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        if self.is_ended {
            return;
        }
        for process in self.all() {
            let _ = pidfd_send_signal(process, Signal::CONT);
        }
    }
}

fn open(number: i32) -> io::Result<OwnedFd> {
    let pid = rustix::process::Pid::from_raw(number);
    let pid = pid.ok_or_else(|| io::Error::other("no process"))?;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}

/// The time for the end of all processes.
const PATIENCE: Duration = Duration::from_secs(10);
