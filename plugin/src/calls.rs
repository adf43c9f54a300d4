//! Functions that CRIU calls in place of those of the C library.

#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::os::fd::BorrowedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::hooks;
use crate::session::Calls;
use crate::sys::pagemap::{PAGEMAP_SCAN, Scan};

/// The functions of this file.
pub(crate) fn all() -> Calls {
    Calls { ioctl: ioctl as *const () as usize, openat: openat as *const () as usize }
}

/// Takes the place of `ioctl`.
extern "C" fn ioctl(fd: c_int, request: libc::Ioctl, argument: *mut c_void) -> c_int {
    if request == PAGEMAP_SCAN as libc::Ioctl && !argument.is_null() {
        // SAFETY: CRIU's argument of this request is such a structure, and nobody else has it.
        let scan = unsafe { &mut *argument.cast::<Scan>() };
        let count = catch_unwind(AssertUnwindSafe(|| hooks::scan(fd, scan)));
        if let Ok(Some(count)) = count {
            return count;
        }
    }
    // SAFETY: the argument is CRIU's own, for the same request.
    unsafe { libc::ioctl(fd, request, argument) }
}

/// Takes the place of `openat`.
extern "C" fn openat(
    directory: c_int,
    path: *const c_char,
    flags: c_int,
    mode: libc::mode_t,
) -> c_int {
    // SAFETY: the arguments are CRIU's own, for the same call. Without O_CREAT nobody reads `mode`.
    let fd = unsafe { libc::openat64(directory, path, flags, mode) };
    if fd < 0 {
        return fd;
    }
    // SAFETY: the kernel has read a path there, so it ends with a NUL.
    let path = unsafe { CStr::from_ptr(path) };
    if path.to_bytes() == b"smaps" {
        // SAFETY: the descriptor has just been opened, and nobody else has it yet.
        let file = unsafe { BorrowedFd::borrow_raw(fd) };
        // Without another text, CRIU reads the kernel's.
        let _ = catch_unwind(|| hooks::flags(file));
        return fd;
    }
    if !path.to_bytes().ends_with(b"/children") || !catch_unwind(hooks::hides).unwrap_or(true) {
        return fd;
    }
    // CRIU names the list from the directory of the parent.
    if directory >= 0 && path.to_bytes().starts_with(b"task/") {
        // SAFETY: the kernel has just used the descriptor, and CRIU waits for this call.
        let parent = unsafe { BorrowedFd::borrow_raw(directory) };
        // SAFETY: the descriptor has just been opened, and nobody else has it yet.
        let list = unsafe { BorrowedFd::borrow_raw(fd) };
        if let Ok(Ok(())) = catch_unwind(|| hooks::children(parent, list)) {
            return fd;
        }
    }
    // CRIU must not go on with a list that it may have to be told from another.
    // SAFETY: nobody else has the descriptor yet.
    unsafe { libc::close(fd) };
    // SAFETY: the call takes nothing.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: the C library has such a place for each thread.
    unsafe { *errno = libc::EIO };
    -1
}
