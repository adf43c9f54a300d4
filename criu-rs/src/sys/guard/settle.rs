//! The first steps of a guard after its fork.

use std::ffi::CStr;
use std::ops::Range;

use crate::sys::list::List;
use crate::sys::raw;

/// Leaves the session, the directory, the descriptors and the memory of the process that has
/// forked. Keeps the descriptors in `kept`, which ascends.
pub(super) fn settle(name: &'static CStr, kept: &[i32], useless: &[Range<u64>]) {
    let calls = [
        (libc::SYS_setsid, [0; 6]),
        (libc::SYS_chdir, [c"/".as_ptr().addr() as u64, 0, 0, 0, 0, 0]),
        (
            libc::SYS_prctl,
            [raw::number(libc::PR_SET_NAME), name.as_ptr().addr() as u64, 0, 0, 0, 0],
        ),
    ];
    for (number, args) in calls {
        // SAFETY: the strings end with a NUL and live for ever.
        let _ = unsafe { raw::call(number, args) };
    }
    let mut next = 0;
    for fd in kept.iter().copied() {
        if fd >= next {
            close_from(next, fd - 1);
            next = fd + 1;
        }
    }
    close_from(next, i32::MAX);
    allow_descriptors();
    leave_memory(useless);
}

/// Raises the limit of descriptors: a guard has some for each task.
fn allow_descriptors() {
    let mut limit = [0u64; 2];
    let kind = libc::RLIMIT_NOFILE as u64;
    let place = limit.as_mut_ptr().addr() as u64;
    // SAFETY: the kernel writes two words, which outlive the call.
    let read = unsafe { raw::call(libc::SYS_prlimit64, [0, kind, 0, place, 0, 0]) };
    if read == 0 {
        let wish = [limit[1]; 2];
        let place = wish.as_ptr().addr() as u64;
        // SAFETY: the kernel reads two words, which outlive the call.
        let _ = unsafe { raw::call(libc::SYS_prlimit64, [0, kind, place, 0, 0, 0]) };
    }
}

/// Unmaps memory.
fn leave_memory(useless: &[Range<u64>]) {
    // The list itself lies in memory that goes. It is copied first.
    let mut copy = List::new();
    let is_whole = useless.iter().all(|range| copy.push((range.start, range.end)));
    // The place of the copy may be one that another thread has given back since the list was made.
    let goes = |range: &&(u64, u64)| is_whole && !copy.is_in(range.0, range.1);
    for (start, end) in copy.items().iter().filter(goes) {
        // SAFETY: this process makes system calls only from here on, on its own stack, and nothing
        // that it uses lies there.
        let _ = unsafe { raw::call(libc::SYS_munmap, [*start, end - start, 0, 0, 0, 0]) };
    }
}

/// Closes descriptors by their numbers, the last one included.
fn close_from(first: i32, last: i32) {
    if first > last {
        return;
    }
    let args = [raw::number(first), raw::number(last), 0, 0, 0, 0];
    // SAFETY: this process has a table of its own, and uses none of these.
    if unsafe { raw::call(libc::SYS_close_range, args) } == 0 {
        return;
    }
    // A kernel before 5.9, or a filter.
    for fd in first..=last.min(MOST_DESCRIPTORS) {
        raw::close(fd);
    }
}

/// The descriptors that are closed one by one where the kernel cannot close a range.
const MOST_DESCRIPTORS: i32 = 1 << 16;
