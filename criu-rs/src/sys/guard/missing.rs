//! The guard of missing pages, as its handler sees it.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

use super::child::Child;
use super::process::{Process, Start};
use super::{memory, table};

/// The fate of tasks whose pages are lost.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fate {
    /// The tasks are killed.
    Kill,
    /// Missing pages are poisoned, and the tasks run on.
    Poison,
}

/// A guard that runs.
#[derive(Debug)]
pub(crate) struct GuardProcess(Process);

/// News for a guard.
#[derive(Clone, Copy, Debug)]
pub(crate) enum News<'n> {
    /// A space begins: its number, its userfaultfd, and its process, by descriptor and number.
    Begins { space: u64, uffd: BorrowedFd<'n>, process: Option<(BorrowedFd<'n>, i32)> },
    /// Addresses of a space whose pages may be missing, at most [`RANGES`].
    Missing { space: u64, ranges: &'n [std::ops::Range<u64>] },
    /// Memory has moved.
    Moved { space: u64, from: u64, to: u64, bytes: u64 },
    /// Memory is gone.
    Gone { space: u64, start: u64, end: u64 },
    /// A space has ended.
    Ends { space: u64 },
    /// The guard is not needed any more, and ends.
    Done,
}

impl GuardProcess {
    /// Starts a guard. What it has to say goes to `log`.
    ///
    /// # Errors
    /// The errors of clone3(2), or of clone(2) where there is no clone3: `EINVAL` before Linux 5.2.
    pub(crate) fn start(fate: Fate, log: Option<BorrowedFd<'_>>) -> io::Result<Self> {
        let log = log.map(|log| log.try_clone_to_owned()).transpose()?;
        let page = memory::page_size();
        let kept: Vec<_> = log.iter().map(AsFd::as_fd).collect();
        let start = Start { name: c"criu-rs guard", stack: STACK, kept: &kept };
        let log = log.as_ref().map_or(-1, AsRawFd::as_raw_fd);
        let process = Process::start(&start, move |ears| Child::new(ears, log, fate, page).run())?;
        Ok(Self(process))
    }

    /// Tells news. Waits at most so long for a guard that has not taken what it was told before.
    ///
    /// # Errors
    /// `EPIPE` if the guard is gone; `EAGAIN` if it does not listen.
    pub(crate) fn tell(&self, news: News<'_>, patience: Duration) -> io::Result<()> {
        let (words, fds) = table::encode(news);
        self.0.tell(&words, &fds, patience)
    }

    /// Kills the guard, without a chance for it to act.
    pub(crate) fn kill(&self) {
        self.0.kill();
    }

    /// Waits for the end of the guard, and reaps it. One that does not end is killed.
    pub(crate) fn reap(&self, patience: Duration) {
        self.0.reap(patience);
    }
}

impl AsFd for GuardProcess {
    /// A descriptor that is readable when the guard has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The most ranges of one [`News::Missing`].
pub(crate) const RANGES: usize = 62;

/// The stack of the thread that forks, which the guard keeps.
const STACK: usize = 64 << 10;
