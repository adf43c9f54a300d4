//! The life of a guard, after its fork.

use std::ops::Range;

use super::Fate;
use super::loss;
use super::raw;
use super::table::{Answer, Table, WORDS, Words};

/// A guard before and after its fork.
pub(super) struct Child {
    socket: i32,
    /// A descriptor of the process that is guarded.
    parent: i32,
    log: i32,
    fate: Fate,
    page: u64,
    table: Table,
}

// SAFETY: the table is empty until the fork, and one thread has it afterwards.
unsafe impl Send for Child {}

impl Child {
    pub(super) const fn new(socket: i32, parent: i32, log: i32, fate: Fate, page: u64) -> Self {
        Self { socket, parent, log, fate, page, table: Table::new() }
    }

    /// Runs the guard, and ends the process.
    pub(super) fn run(&mut self, useless: &[Range<u64>]) -> ! {
        self.settle();
        // The list itself lies in memory that goes. It is copied first.
        let mut kept = raw::List::new();
        let all_kept = useless.iter().all(|range| kept.push((range.start, range.end)));
        if all_kept {
            for (start, end) in kept.items() {
                // SAFETY: this process makes system calls only from here on, on its own stack, and
                // nothing that it uses lies there.
                let _ = unsafe { raw::call(libc::SYS_munmap, [*start, end - start, 0, 0, 0, 0]) };
            }
        }
        loop {
            let mut fds = [poll_for(self.socket), poll_for(self.parent)];
            raw::wait(&mut fds, None);
            let is_lost = fds.get(1).is_some_and(|fd| fd.revents != 0);
            match self.listen() {
                Some(Answer::End) => raw::exit(0),
                Some(Answer::Listen) if !is_lost => {}
                // The process is gone, or has closed the socket.
                _ => {
                    loss::act(&mut self.table, self.fate, self.page, self.log);
                    raw::exit(0);
                }
            }
        }
    }

    /// Leaves the session, the directory and the descriptors of the process that has forked.
    fn settle(&self) {
        let name = c"criu-rs guard";
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
        let mut kept = [self.socket, self.parent, self.log];
        kept.sort_unstable();
        let mut next = 0;
        for fd in kept {
            if fd >= next {
                close_from(next, fd - 1);
                next = fd + 1;
            }
        }
        close_from(next, i32::MAX);
        // Tasks cost two descriptors each, and their descendants one.
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

    /// Takes the messages that wait. Returns `None` at the end of the socket.
    fn listen(&mut self) -> Option<Answer> {
        loop {
            let mut words: Words = [0; WORDS];
            let mut fds = [-1; 2];
            match receive(self.socket, &mut words, &mut fds) {
                0 => return None,
                size @ 1.. => {
                    let count = usize::try_from(size).unwrap_or(0) / size_of::<u64>();
                    match self.table.take(&words, count, fds) {
                        Answer::End => return Some(Answer::End),
                        Answer::Unguarded => raw::write(self.log, UNGUARDED),
                        Answer::Listen => {}
                    }
                }
                error if error == -i64::from(libc::EAGAIN) => return Some(Answer::Listen),
                error if error == -i64::from(libc::EINTR) => {}
                _ => return None,
            }
        }
    }
}

/// Receives a message with its descriptors. Returns its size, 0 at the end, or the negated errno.
fn receive(socket: i32, words: &mut Words, fds: &mut [i32; 2]) -> raw::Result {
    let mut control = [0u64; 8];
    let mut part = libc::iovec { iov_base: words.as_mut_ptr().cast(), iov_len: size_of::<Words>() };
    // SAFETY: a header of zeros names nothing.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = size_of_val(&control) as _;
    let flags = raw::number(libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC);
    let args = [raw::number(socket), (&raw mut header).addr() as u64, flags, 0, 0, 0];
    // SAFETY: the kernel writes into the words and the control buffer, which outlive the call.
    let size = unsafe { raw::call(libc::SYS_recvmsg, args) };
    if size <= 0 {
        return size;
    }
    // SAFETY: the header is the one that the kernel has filled, and the buffer is aligned for it.
    let first = unsafe { libc::CMSG_FIRSTHDR(&raw const header) };
    if !first.is_null() {
        // SAFETY: the kernel has written a whole header there.
        let head = unsafe { first.read_unaligned() };
        // SAFETY: the function only computes an address behind the header.
        let data = unsafe { libc::CMSG_DATA(first) }.cast::<i32>();
        if (head.cmsg_level, head.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
            // SAFETY: the function only computes a length.
            let empty = unsafe { libc::CMSG_LEN(0) } as usize;
            let count = (head.cmsg_len as usize).saturating_sub(empty) / size_of::<i32>();
            for (at, fd) in fds.iter_mut().enumerate().take(count) {
                // SAFETY: so many descriptors were written there.
                *fd = unsafe { data.wrapping_add(at).read_unaligned() };
            }
        }
    }
    size
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

pub(super) fn poll_for(fd: i32) -> libc::pollfd {
    libc::pollfd { fd, events: libc::POLLIN, revents: 0 }
}

/// The words about a task whose descriptor has not come.
const UNGUARDED: &[u8] = b"criu-rs guard: no descriptor is left for a task: its missing pages \
    turn into zeros if their handler is killed\n";

/// The descriptors that are closed one by one where the kernel cannot close a range.
const MOST_DESCRIPTORS: i32 = 1 << 16;
