//! The descriptor that tells when there is something to do: a socket, a worker, a cancel, a timer.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use crate::error::{Error, Result};

/// A descriptor that is readable when one of its sources is, or when its time has come.
#[derive(Debug)]
pub(super) struct Watch {
    epoll: Epoll,
    timer: TimerFd,
}

impl Watch {
    pub(super) fn new<'fd>(sources: impl Iterator<Item = BorrowedFd<'fd>>) -> Result<Self> {
        let system = |what: &'static str| move |source: Errno| Error::system(what, source);
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC);
        let epoll = epoll.map_err(system("make an epoll descriptor"))?;
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags);
        let timer = timer.map_err(system("make a timer"))?;
        let event = || EpollEvent::new(EpollFlags::EPOLLIN, 0);
        epoll.add(&timer, event()).map_err(system("watch a descriptor"))?;
        for source in sources {
            epoll.add(source, event()).map_err(system("watch a descriptor"))?;
        }
        Ok(Self { epoll, timer })
    }

    /// Leaves a source out from now on. A source that stays readable would wake us again and again.
    pub(super) fn forget(&self, source: impl AsFd) {
        let _ = self.epoll.delete(source);
    }

    /// Sets the time at which the descriptor becomes readable.
    pub(super) fn wake_at(&self, at: Option<Instant>) -> Result<()> {
        let set = match at {
            None => self.timer.unset(),
            Some(at) => {
                // Zero would switch the timer off.
                let left =
                    at.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1));
                let expiration = Expiration::OneShot(TimeSpec::from_duration(left));
                self.timer.set(expiration, TimerSetTimeFlags::empty())
            }
        };
        set.map_err(|source| Error::system("set a timer", source))
    }

    /// Waits until there is something to do.
    pub(super) fn wait(&self) -> Result<()> {
        let mut fds = [PollFd::new(self.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(source) => Err(Error::system("wait for criu", source)),
        }
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }
}
