//! The thread of a task that reaps a holder.

use crate::sys::proc::{Doing, each_thread};

/// Threads of a task, the best first.
pub(super) struct Threads {
    found: [(Rank, i32); MOST],
    length: usize,
}

/// The effect of a stop on the system call of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// The kernel goes on with the call.
    Restarts,
    /// The effect is not known, or the thread runs.
    Unknown,
    /// The call ends with EINTR, which the program may not expect.
    Ends,
}

impl Threads {
    /// Looks at the threads of a task.
    pub(super) fn of(task: i32) -> Self {
        let mut threads = Self { found: [(Rank::Ends, 0); MOST], length: 0 };
        each_thread(task, |thread| {
            if let Some(doing) = Doing::of(task, thread) {
                threads.add(Rank::of(doing), thread);
            }
        });
        threads
    }

    fn add(&mut self, rank: Rank, thread: i32) {
        let known = self.found.get(..self.length).unwrap_or_default();
        let place = known.iter().position(|(other, _)| rank < *other).unwrap_or(self.length);
        if place < MOST {
            self.length = (self.length + 1).min(MOST);
            if let Some(rest) = self.found.get_mut(place..self.length) {
                rest.rotate_right(1);
                if let Some(first) = rest.first_mut() {
                    *first = (rank, thread);
                }
            }
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = i32> + '_ {
        self.found.iter().take(self.length).map(|(_, thread)| *thread)
    }
}

impl Rank {
    fn of(doing: Doing) -> Self {
        match doing {
            Doing::Waits(call) if RESTARTS.contains(&call.number) => Self::Restarts,
            Doing::Waits(call) if ENDS.contains(&call.number) => Self::Ends,
            Doing::Waits(_) | Doing::Running | Doing::Stands => Self::Unknown,
        }
    }
}

/// The threads that are tried.
const MOST: usize = 8;

/// Calls that the kernel goes on with after a stop.
const RESTARTS: &[libc::c_long] = &[
    #[cfg(target_arch = "x86_64")]
    libc::SYS_pause,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_select,
    libc::SYS_clock_nanosleep,
    libc::SYS_futex,
    libc::SYS_nanosleep,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_rt_sigsuspend,
    libc::SYS_wait4,
    libc::SYS_waitid,
];

/// Calls that end with EINTR after a stop: signal(7). Those on sockets do so if the socket has a
/// timeout.
const ENDS: &[libc::c_long] = &[
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_connect,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_io_getevents,
    libc::SYS_io_uring_enter,
    libc::SYS_recvfrom,
    libc::SYS_recvmmsg,
    libc::SYS_recvmsg,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_semop,
    libc::SYS_semtimedop,
    libc::SYS_sendmmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
];

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollTimeout};

    use super::*;

    #[test]
    fn a_thread_in_epoll_wait_comes_last() {
        let own = || nix::unistd::gettid().as_raw();
        let (send, threads) = mpsc::channel();
        let (waits, sleeps) = (send.clone(), send);
        std::thread::spawn(move || {
            waits.send(own()).unwrap();
            let epoll = Epoll::new(EpollCreateFlags::empty()).unwrap();
            let _ = epoll.wait(&mut [], EpollTimeout::NONE);
        });
        let waiting = threads.recv().unwrap();
        std::thread::spawn(move || {
            sleeps.send(own()).unwrap();
            std::thread::sleep(Duration::from_secs(1000));
        });
        let sleeping = threads.recv().unwrap();
        let pid = i32::try_from(std::process::id()).unwrap();
        assert!(criu_lab::soon(|| {
            let found: Vec<_> = Threads::of(pid).iter().collect();
            let place = |thread| found.iter().position(|found| *found == thread);
            // Tests of this process in other threads are at work, too.
            place(sleeping).is_some() && place(waiting).is_none_or(|last| last + 1 == found.len())
        }));
        assert_eq!(Threads::of(i32::MAX).iter().count(), 0);
    }

    #[test]
    fn the_best_threads_of_many_are_kept() {
        let mut threads = Threads { found: [(Rank::Ends, 0); MOST], length: 0 };
        for thread in 1..=100 {
            let rank = match thread % 50 {
                7 => Rank::Restarts,
                8..15 => Rank::Unknown,
                _ => Rank::Ends,
            };
            threads.add(rank, thread);
        }
        assert!(threads.iter().eq([7, 57, 8, 9, 10, 11, 12, 13]));
    }
}
