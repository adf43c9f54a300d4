//! System calls of a process that must not allocate, and memory that it asks the kernel for.
//!
//! The process is a fork of one with several threads, whose locks may be held for ever. Nothing
//! here takes a lock or touches the heap.

use std::ptr;

/// The result of a system call: a number that is not negative, or the negated errno.
pub(super) type Result = i64;

/// Makes a system call with up to six arguments.
///
/// # Safety
/// The arguments are those that the call wants, and pointers are valid for it.
pub(super) unsafe fn call(number: libc::c_long, a: [u64; 6]) -> Result {
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
pub(super) fn number(fd: i32) -> u64 {
    u64::from(u32::from_ne_bytes(fd.to_ne_bytes()))
}

/// Closes a descriptor of this process.
pub(super) fn close(fd: i32) {
    if fd >= 0 {
        // SAFETY: this process has the descriptors that it was sent for itself.
        let _ = unsafe { call(libc::SYS_close, [number(fd), 0, 0, 0, 0, 0]) };
    }
}

/// Waits until one of the descriptors is readable, at most so many milliseconds, or without end.
pub(super) fn wait(fds: &mut [libc::pollfd], millis: Option<i64>) {
    let number = millis.unwrap_or(0);
    let time = libc::timespec { tv_sec: number / 1000, tv_nsec: number % 1000 * 1_000_000 };
    let time = if millis.is_some() { &raw const time } else { ptr::null() };
    let args = [fds.as_mut_ptr().addr() as u64, fds.len() as u64, time.addr() as u64, 0, 0, 0];
    // SAFETY: both pointers are valid for the call, or null, which means without end.
    let _ = unsafe { call(libc::SYS_ppoll, args) };
}

/// Writes bytes, as far as that is possible.
pub(super) fn write(fd: i32, bytes: &[u8]) {
    let args = [number(fd), bytes.as_ptr().addr() as u64, bytes.len() as u64, 0, 0, 0];
    // SAFETY: the kernel reads the bytes, which are borrowed.
    let _ = unsafe { call(libc::SYS_write, args) };
}

/// Reads bytes. Returns their number, or the negated errno.
pub(super) fn read(fd: i32, buffer: &mut [u8]) -> Result {
    let args = [number(fd), buffer.as_mut_ptr().addr() as u64, buffer.len() as u64, 0, 0, 0];
    // SAFETY: the kernel writes into the buffer, which is borrowed.
    unsafe { call(libc::SYS_read, args) }
}

/// Opens a path, which ends with a NUL, to read. Returns the descriptor, or the negated errno.
pub(super) fn open(path: &[u8], flags: i32) -> Result {
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
pub(super) fn signal(pidfd: i32, signal: i32) -> bool {
    let args = [number(pidfd), number(signal), 0, 0, 0, 0];
    // SAFETY: the call takes numbers; a null siginfo is allowed.
    unsafe { call(libc::SYS_pidfd_send_signal, args) != -i64::from(libc::ESRCH) }
}

/// Opens a process. Returns the descriptor, or the negated errno.
pub(super) fn open_process(pid: i32) -> Result {
    // SAFETY: the call takes numbers only.
    unsafe { call(libc::SYS_pidfd_open, [number(pid), 0, 0, 0, 0, 0]) }
}

/// Ends this process.
pub(super) fn exit(status: i32) -> ! {
    loop {
        // SAFETY: the call takes a number, and does not return.
        let _ = unsafe { call(libc::SYS_exit_group, [number(status), 0, 0, 0, 0, 0]) };
    }
}

/// A list in memory that the kernel has given for it alone.
pub(super) struct List<T: Copy> {
    start: *mut T,
    length: usize,
    room: usize,
}

impl<T: Copy> List<T> {
    /// Makes an empty list.
    pub(super) const fn new() -> Self {
        Self { start: ptr::null_mut(), length: 0, room: 0 }
    }

    /// Returns the items.
    pub(super) fn items(&self) -> &[T] {
        if self.start.is_null() {
            return &[];
        }
        // SAFETY: so many items were written there, and nobody else has the memory.
        unsafe { std::slice::from_raw_parts(self.start, self.length) }
    }

    /// Returns an item.
    pub(super) fn get(&self, at: usize) -> Option<T> {
        self.items().get(at).copied()
    }

    /// Adds an item. Returns false if the kernel has no memory.
    pub(super) fn push(&mut self, item: T) -> bool {
        if self.length == self.room && !self.grow() {
            return false;
        }
        // SAFETY: the place is inside the memory of the list, and aligned like its start.
        unsafe { self.start.wrapping_add(self.length).write(item) };
        self.length += 1;
        true
    }

    /// Replaces an item.
    pub(super) fn set(&mut self, at: usize, item: T) {
        if at < self.length {
            // SAFETY: the place holds an item of the list.
            unsafe { self.start.wrapping_add(at).write(item) };
        }
    }

    /// Removes an item. The last takes its place.
    pub(super) fn remove(&mut self, at: usize) {
        if let Some(last) = self.length.checked_sub(1).and_then(|last| self.get(last)) {
            self.set(at, last);
            self.length -= 1;
        }
    }

    /// Gives the memory of the list back.
    pub(super) fn free(self) {
        if !self.start.is_null() {
            let size = self.room * size_of::<T>();
            let args = [self.start.addr() as u64, size as u64, 0, 0, 0, 0];
            // SAFETY: the memory is this list's own, and is not used any more.
            let _ = unsafe { call(libc::SYS_munmap, args) };
        }
    }

    fn grow(&mut self) -> bool {
        let size = self.room * size_of::<T>();
        let wanted = (size * 2).max(1 << 16);
        let made = if self.start.is_null() {
            let prot = number(libc::PROT_READ | libc::PROT_WRITE);
            let flags = number(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
            let args = [0, wanted as u64, prot, flags, number(-1), 0];
            // SAFETY: the kernel chooses a free address, so no memory is replaced.
            unsafe { call(libc::SYS_mmap, args) }
        } else {
            let may_move = number(libc::MREMAP_MAYMOVE);
            let args = [self.start.addr() as u64, size as u64, wanted as u64, may_move, 0, 0];
            // SAFETY: the memory is this list's own. It is used at its new place alone.
            unsafe { call(libc::SYS_mremap, args) }
        };
        let Ok(made) = usize::try_from(made) else { return false };
        let made = ptr::with_exposed_provenance_mut::<T>(made);
        self.start = made;
        self.room = wanted / size_of::<T>();
        true
    }
}
