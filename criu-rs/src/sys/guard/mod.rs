//! A small process that outlives this one, to keep missing pages of tasks from turning into zeros.
//!
//! The kernel lets missing pages read as zeros when the last copy of a userfaultfd is closed, as it
//! is when a handler is killed. The guard holds copies, and acts when this process is gone.
//!
//! ```text
//! handler ── socket: spaces, changes, ends ──▶ guard   copies of userfaultfds, pidfds of tasks
//!    │                                           │
//!    └── killed ──── pidfd, end of the socket ──▶└── kills the tasks, or poisons missing pages
//! ```
//!
//! The guard is a fork that executes no program, because a library has none. It makes system calls
//! only: it allocates nothing, takes no lock, and unmaps the memory of this process that it does
//! not need. It leads a session of its own and blocks all signals, so that Ctrl-C and a signal to a
//! process group do not reach it. Its end sends no signal to this process, and no `wait` of the
//! caller sees it.

#![allow(unsafe_code)]

mod child;
mod loss;
mod memory;
mod raw;
mod table;
mod text;
mod tree;

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::Pid;

use super::{fd, seqpacket};
use child::Child;

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
pub(crate) struct GuardProcess {
    pidfd: OwnedFd,
    socket: OwnedFd,
}

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
        let (ours, theirs) = seqpacket::pair()?;
        let parent = fd::open(Pid::this())?;
        let log = log.map(|log| log.try_clone_to_owned()).transpose()?;
        let page = crate::sys::guard::memory::page_size();
        let child = Child::new(
            theirs.as_raw_fd(),
            parent.as_raw_fd(),
            log.as_ref().map_or(-1, AsRawFd::as_raw_fd),
            fate,
            page,
        );
        // The thread's stack is all the memory that the child keeps for itself.
        let fork = thread::Builder::new().name("lazy guard".to_owned()).stack_size(STACK);
        let pidfd = thread::scope(|scope| {
            let thread = fork.spawn_scoped(scope, move || {
                SigSet::all().thread_block()?;
                fork_child(child)
            })?;
            thread.join().map_err(|_| io::Error::other("the thread that forks has panicked"))?
        })?;
        Ok(Self { pidfd, socket: ours })
    }

    /// Tells news. Waits at most so long for a guard that has not taken what it was told before.
    ///
    /// # Errors
    /// `EPIPE` if the guard is gone; `EAGAIN` if it does not listen.
    pub(crate) fn tell(&self, news: News<'_>, patience: Duration) -> io::Result<()> {
        let (words, fds) = table::encode(news);
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let mut end = None;
        loop {
            match seqpacket::send_now(&self.socket, &bytes, &fds) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let end = *end.get_or_insert_with(|| Instant::now() + patience);
                    if !wait(self.socket.as_fd(), PollFlags::POLLOUT, end) {
                        return Err(error);
                    }
                }
                other => return other,
            }
        }
    }

    /// Kills the guard, without a chance for it to act.
    pub(crate) fn kill(&self) {
        let _ = fd::signal(&self.pidfd, Signal::SIGKILL);
    }

    /// Waits for the end of the guard, and reaps it. One that does not end is killed.
    pub(crate) fn reap(&self, patience: Duration) {
        if !wait(self.pidfd.as_fd(), PollFlags::POLLIN, Instant::now() + patience) {
            self.kill();
        }
        let id = u32::try_from(self.pidfd.as_raw_fd()).unwrap_or(u32::MAX);
        let kinds = libc::WEXITED | libc::__WALL;
        loop {
            // SAFETY: the descriptor is open, and a null siginfo is allowed by the system call,
            // which libc's wrapper passes on. The child's end has no signal, hence __WALL.
            let result = unsafe { libc::waitid(libc::P_PIDFD, id, std::ptr::null_mut(), kinds) };
            match Errno::result(result) {
                Err(Errno::EINTR) => {}
                _ => return,
            }
        }
    }
}

impl AsFd for GuardProcess {
    /// A descriptor that is readable when the guard has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

/// Waits for an event of a descriptor. Returns false if the time has come before.
fn wait(fd: BorrowedFd<'_>, event: PollFlags, end: Instant) -> bool {
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let millis = i32::try_from(left.as_micros().div_ceil(1000)).unwrap_or(i32::MAX);
        let timeout = PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(fd, event)], timeout) {
            Err(Errno::EINTR) => {}
            Ok(0) if !left.is_zero() => {}
            Ok(count) => return count > 0,
            Err(_) => return false,
        }
    }
}

/// Forks this thread. The child is `child`, and never returns.
fn fork_child(mut child: Child) -> io::Result<OwnedFd> {
    let useless = memory::useless()?;
    let mut pidfd: RawFd = -1;
    let mut wish = Clone {
        flags: raw::number(libc::CLONE_PIDFD),
        pidfd: (&raw mut pidfd).addr() as u64,
        ..Clone::default()
    };
    let size = size_of::<Clone>() as u64;
    // SAFETY: the kernel reads `wish` and writes `pidfd`, which outlive the call. Without CLONE_VM
    // the child has a copy of this thread's stack, and only makes system calls on it.
    let mut pid =
        unsafe { raw::call(libc::SYS_clone3, [(&raw mut wish).addr() as u64, size, 0, 0, 0, 0]) };
    // Filters of containers refuse this call, whose flags they do not see, and allow clone(2).
    if [-i64::from(libc::ENOSYS), -i64::from(libc::EPERM)].contains(&pid) {
        let (flags, no_stack) = (wish.flags, 0);
        let [first, second] = match std::env::consts::ARCH {
            "s390x" => [no_stack, flags],
            _ => [flags, no_stack],
        };
        // SAFETY: as above.
        pid = unsafe { raw::call(libc::SYS_clone, [first, second, wish.pidfd, 0, 0, 0]) };
    }
    match pid {
        0 => child.run(&useless),
        1.. => {}
        error => {
            let error = i32::try_from(-error).unwrap_or(libc::EINVAL);
            return Err(io::Error::from_raw_os_error(error));
        }
    }
    // SAFETY: the kernel has just made this descriptor for us; nobody else knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(pidfd) })
}

/// `struct clone_args`, in its first form.
#[repr(C)]
#[derive(Default)]
struct Clone {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    /// 0: the end of the child sends no signal.
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
}

/// The most ranges of one [`News::Missing`].
pub(crate) const RANGES: usize = 62;

/// The stack of the thread that forks, which the guard keeps.
const STACK: usize = 64 << 10;
