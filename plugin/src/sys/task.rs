//! Facts about a stopped thread that its tracer reads.

#![allow(unsafe_code)]

use std::ffi::c_long;
use std::io;
use std::mem::MaybeUninit;
use std::ptr;

/// Returns the thread id of the calling thread.
pub(crate) fn own_thread() -> i32 {
    // SAFETY: the call takes nothing.
    unsafe { libc::gettid() }
}

/// Returns the stack pointer of a stopped thread that the calling thread traces.
///
/// # Errors
/// The errors of `ptrace(2)`.
pub(crate) fn stack_pointer(thread: i32) -> io::Result<u64> {
    let mut registers = MaybeUninit::<libc::user_regs_struct>::zeroed();
    let (unused, into) = (ptr::null_mut::<u8>(), registers.as_mut_ptr());
    // SAFETY: `registers` has room for what the kernel writes.
    done(unsafe { libc::ptrace(libc::PTRACE_GETREGS, thread, unused, into) })?;
    // SAFETY: all zeroes are registers, and so is what the kernel has written over them.
    Ok(unsafe { registers.assume_init() }.rsp)
}

/// Returns the address of a stopped thread's area for restartable sequences, or 0 if it has none.
/// The calling thread traces the thread.
///
/// # Errors
/// The errors of `ptrace(2)`.
pub(crate) fn rseq(thread: i32) -> io::Result<u64> {
    // The address comes first. Its size, signature and flags follow.
    let mut about = [0u64; 3];
    let (size, into) = (size_of_val(&about), about.as_mut_ptr());
    // SAFETY: `about` has room for as much as `size` says.
    let result = unsafe { libc::ptrace(GET_RSEQ_CONFIGURATION, thread, size, into) };
    // The kernel returns the size.
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(about[0]) }
}

fn done(result: c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// `PTRACE_GET_RSEQ_CONFIGURATION`, which the libc crate has for one C library only.
const GET_RSEQ_CONFIGURATION: libc::c_uint = 0x420f;

/// A child that sleeps until it is dropped, and whose end has no signal.
#[cfg(test)]
#[derive(Debug)]
pub(crate) struct Quiet(pub(crate) i32);

#[cfg(test)]
impl Quiet {
    pub(crate) fn new() -> Self {
        // SAFETY: the child has a copy of all memory, and makes one system call again and again.
        let pid = unsafe { libc::syscall(libc::SYS_clone, 0, 0, 0, 0, 0) };
        if pid == 0 {
            loop {
                // SAFETY: the call takes nothing.
                unsafe { libc::pause() };
            }
        }
        Self(i32::try_from(pid).unwrap())
    }
}

#[cfg(test)]
impl Drop for Quiet {
    fn drop(&mut self) {
        // SAFETY: the call takes numbers.
        unsafe { libc::kill(self.0, libc::SIGKILL) };
        // SAFETY: the kernel writes nothing.
        unsafe { libc::waitpid(self.0, ptr::null_mut(), libc::__WALL) };
    }
}
