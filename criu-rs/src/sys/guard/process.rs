//! The process of a guard: its fork, what it is told, its end.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::Pid;

use super::{memory, settle};
use crate::sys::{fd, raw, seqpacket};

/// A guard that runs.
#[derive(Debug)]
pub(super) struct Process {
    pidfd: OwnedFd,
    socket: OwnedFd,
}

/// The descriptors by which a guard learns of the process that it guards, by their numbers.
#[derive(Clone, Copy)]
pub(super) struct Ears {
    /// The socket in which news come. It ends with the process.
    pub(super) socket: i32,
    /// A descriptor of the process, which is readable when the process has ended.
    pub(super) parent: i32,
}

/// The way to start a guard.
pub(super) struct Start<'s> {
    /// The name of the process and of the thread that forks it.
    pub(super) name: &'static CStr,
    /// The bytes of stack that the process keeps. It has no other memory of its own.
    pub(super) stack: usize,
    /// Descriptors that the process keeps under their numbers.
    pub(super) kept: &'s [BorrowedFd<'s>],
}

impl Process {
    /// Forks a guard, which runs `life` and ends. The function makes system calls only: other
    /// threads of this process may have held any lock, and the heap is not there.
    ///
    /// # Errors
    /// The errors of clone3(2), or of clone(2) where there is no clone3: `EINVAL` before Linux 5.2.
    pub(super) fn start(start: &Start<'_>, life: impl Fn(Ears) + Copy + Send) -> io::Result<Self> {
        let (ours, theirs) = seqpacket::pair()?;
        let parent = fd::open(Pid::this())?;
        let ears = Ears { socket: theirs.as_raw_fd(), parent: parent.as_raw_fd() };
        let mut kept: Vec<i32> = start.kept.iter().map(AsRawFd::as_raw_fd).collect();
        kept.extend([ears.socket, ears.parent]);
        kept.sort_unstable();
        // The thread's stack is all the memory that the child keeps for itself.
        let name = start.name.to_string_lossy().into_owned();
        let fork = thread::Builder::new().name(name).stack_size(start.stack);
        let name = start.name;
        let pidfd = thread::scope(|scope| {
            let thread = fork.spawn_scoped(scope, move || {
                SigSet::all().thread_block()?;
                fork_child(name, &kept, ears, life)
            })?;
            thread.join().map_err(|_| io::Error::other("the thread that forks has panicked"))?
        })?;
        Ok(Self { pidfd, socket: ours })
    }

    /// Sends a message. Waits at most so long for a guard that has not taken what it was told
    /// before.
    ///
    /// # Errors
    /// `EPIPE` if the guard is gone; `EAGAIN` if it does not listen.
    pub(super) fn tell(
        &self,
        words: &[u64],
        fds: &[BorrowedFd<'_>],
        patience: Duration,
    ) -> io::Result<()> {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let mut end = None;
        loop {
            match seqpacket::send_now(&self.socket, &bytes, fds) {
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
    pub(super) fn kill(&self) {
        let _ = fd::signal(&self.pidfd, Signal::SIGKILL);
    }

    /// Waits for the end of the guard, and reaps it. One that does not end is killed.
    pub(super) fn reap(&self, patience: Duration) {
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

impl AsFd for Process {
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

/// Forks this thread. The child runs `life`, and never returns.
fn fork_child(
    name: &'static CStr,
    kept: &[i32],
    ears: Ears,
    life: impl Fn(Ears) + Copy,
) -> io::Result<OwnedFd> {
    let useless = memory::useless()?;
    // The thread's closure lies on the heap, which the child unmaps. This copy is on the stack.
    let (ears, life) = std::hint::black_box((ears, life));
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
        0 => {
            settle::settle(name, kept, &useless);
            life(ears);
            raw::exit(0)
        }
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
