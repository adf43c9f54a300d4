//! System calls of a process that must not allocate.
//!
//! The process is a fork of one with several threads, whose locks may be held for ever. Nothing
//! here takes a lock or touches the heap.

#![allow(unsafe_code)]

use std::ptr;
#[cfg(feature = "instant")]
use std::sync::atomic::AtomicU64;
#[cfg(feature = "instant")]
use std::time::{Duration, Instant};

/// The result of a system call: a number that is not negative, or the negated errno.
pub(in crate::sys) type Result = i64;

/// Makes a system call with up to six arguments.
///
/// # Safety
/// The arguments are those that the call wants, and pointers are valid for it.
pub(in crate::sys) unsafe fn call(number: libc::c_long, a: [u64; 6]) -> Result {
    // SAFETY: the caller's. The function stores errno in the memory of this thread alone.
    let result = unsafe { libc::syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]) };
    if result == -1 {
        return -i64::from(errno());
    }
    #[allow(clippy::useless_conversion)] // Narrower on some platforms.
    i64::from(result)
}

/// Returns the last error of this thread.
fn errno() -> i32 {
    // SAFETY: the call takes nothing.
    let place = unsafe { libc::__errno_location() };
    // SAFETY: the place is this thread's own, and always there.
    unsafe { *place }
}

/// Returns a descriptor as the argument of a call.
pub(in crate::sys) fn number(fd: i32) -> u64 {
    u64::from(u32::from_ne_bytes(fd.to_ne_bytes()))
}

/// Closes a descriptor of this process.
pub(in crate::sys) fn close(fd: i32) {
    if fd >= 0 {
        // SAFETY: this process has the descriptors that it was sent for itself.
        let _ = unsafe { call(libc::SYS_close, [number(fd), 0, 0, 0, 0, 0]) };
    }
}

/// Waits until one of the descriptors is readable, at most so many milliseconds, or without end.
pub(in crate::sys) fn wait(fds: &mut [libc::pollfd], millis: Option<i64>) {
    let number = millis.unwrap_or(0);
    let time = libc::timespec { tv_sec: number / 1000, tv_nsec: number % 1000 * 1_000_000 };
    let time = if millis.is_some() { &raw const time } else { ptr::null() };
    let args = [fds.as_mut_ptr().addr() as u64, fds.len() as u64, time.addr() as u64, 0, 0, 0];
    // SAFETY: both pointers are valid for the call, or null, which means without end.
    let _ = unsafe { call(libc::SYS_ppoll, args) };
}

/// Waits without end until a descriptor is readable.
#[cfg(feature = "instant")]
pub(in crate::sys) fn wait_for(fd: i32) {
    let mut fds = [poll_for(fd)];
    while fds.iter().all(|fd| fd.revents == 0) {
        wait(&mut fds, None);
    }
}

/// Maps the words of a file, which others may change, for the rest of this process's life. `None`
/// if the file is empty or the kernel refuses.
#[cfg(feature = "instant")]
pub(in crate::sys) fn map_words(file: i32, bytes: usize) -> Option<&'static [AtomicU64]> {
    let prot = number(libc::PROT_READ | libc::PROT_WRITE);
    let args = [0, bytes as u64, prot, number(libc::MAP_SHARED), number(file), 0];
    // SAFETY: the kernel chooses a free address, so no memory is replaced.
    let start = usize::try_from(unsafe { call(libc::SYS_mmap, args) }).ok()?;
    let start = ptr::with_exposed_provenance::<AtomicU64>(start);
    // SAFETY: so many whole words are mapped there, aligned to a page, and nobody unmaps them. All
    // who change them do so by atomic writes.
    Some(unsafe { std::slice::from_raw_parts(start, bytes / size_of::<u64>()) })
}

/// Returns a descriptor for [`wait`].
pub(in crate::sys) fn poll_for(fd: i32) -> libc::pollfd {
    libc::pollfd { fd, events: libc::POLLIN, revents: 0 }
}

/// Writes bytes, as far as that is possible.
pub(in crate::sys) fn write(fd: i32, bytes: &[u8]) {
    let args = [number(fd), bytes.as_ptr().addr() as u64, bytes.len() as u64, 0, 0, 0];
    // SAFETY: the kernel reads the bytes, which are borrowed.
    let _ = unsafe { call(libc::SYS_write, args) };
}

/// Reads bytes. Returns their number, or the negated errno.
pub(in crate::sys) fn read(fd: i32, buffer: &mut [u8]) -> Result {
    let args = [number(fd), buffer.as_mut_ptr().addr() as u64, buffer.len() as u64, 0, 0, 0];
    // SAFETY: the kernel writes into the buffer, which is borrowed.
    unsafe { call(libc::SYS_read, args) }
}

/// Reads entries of a folder. Returns the number of bytes, or the negated errno.
pub(in crate::sys) fn entries(folder: i32, buffer: &mut [u8]) -> Result {
    let args = [number(folder), buffer.as_mut_ptr().addr() as u64, buffer.len() as u64, 0, 0, 0];
    // SAFETY: the kernel writes into the buffer, which is borrowed.
    unsafe { call(libc::SYS_getdents64, args) }
}

/// Opens a path, which ends with a NUL, to read. Returns the descriptor, or the negated errno.
pub(in crate::sys) fn open(path: &[u8], flags: i32) -> Result {
    if path.last() != Some(&0) {
        return -i64::from(libc::EINVAL);
    }
    let flags = number(flags | libc::O_RDONLY | libc::O_CLOEXEC);
    let args = [number(libc::AT_FDCWD), path.as_ptr().addr() as u64, flags, 0, 0, 0];
    // SAFETY: the path ends with a NUL and is borrowed.
    unsafe { call(libc::SYS_openat, args) }
}

/// Sends a signal to the process of a descriptor; the number 0 sends nothing. Returns false if the
/// process has been reaped.
pub(in crate::sys) fn signal(pidfd: i32, signal: i32) -> bool {
    let args = [number(pidfd), number(signal), 0, 0, 0, 0];
    // SAFETY: the call takes numbers; a null siginfo is allowed.
    unsafe { call(libc::SYS_pidfd_send_signal, args) != -i64::from(libc::ESRCH) }
}

/// Opens a process. Returns the descriptor, or the negated errno.
pub(in crate::sys) fn open_process(pid: i32) -> Result {
    // SAFETY: the call takes numbers only.
    unsafe { call(libc::SYS_pidfd_open, [number(pid), 0, 0, 0, 0, 0]) }
}

/// Returns the number of this thread.
#[cfg(feature = "instant")]
pub(in crate::sys) fn own_thread() -> i32 {
    // SAFETY: the call takes nothing.
    i32::try_from(unsafe { call(libc::SYS_gettid, [0; 6]) }).unwrap_or(0)
}

/// Waits until a thread that this thread traces and has interrupted stops, and lets it run on.
/// Returns false if it has not stopped in time.
#[cfg(feature = "instant")]
pub(in crate::sys) fn let_go(thread: i32, patience: Duration) -> bool {
    let begun = Instant::now();
    let options = number(libc::WNOHANG | libc::__WALL);
    while begun.elapsed() < patience {
        let mut status: i32 = 0;
        let args = [number(thread), (&raw mut status).addr() as u64, options, 0, 0, 0];
        // SAFETY: the kernel writes one number, which outlives the call.
        match unsafe { call(libc::SYS_wait4, args) } {
            0 => wait(&mut [], Some(1)),
            1.. if libc::WIFSTOPPED(status) => {
                // This is not the requested trap: a signal came first, and belongs to the thread.
                let signal = if status >> 16 == 0 { libc::WSTOPSIG(status) } else { 0 };
                let args =
                    [u64::from(libc::PTRACE_DETACH), number(thread), 0, number(signal), 0, 0];
                // SAFETY: the call takes numbers.
                return unsafe { call(libc::SYS_ptrace, args) } == 0;
            }
            // The thread has ended, or is not traced any more.
            _ => return true,
        }
    }
    false
}

/// Ends this process.
pub(in crate::sys) fn exit(status: i32) -> ! {
    loop {
        // SAFETY: the call takes a number, and does not return.
        let _ = unsafe { call(libc::SYS_exit_group, [number(status), 0, 0, 0, 0, 0]) };
    }
}
