//! The memory of the oracle: mappings that are touched, discarded, replaced and moved.

#![allow(unsafe_code)]

use std::fs::File;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;

/// Bytes of a page.
pub(crate) const PAGE: usize = 4096;

/// A mapping of whole pages. It stays until the process ends.
#[derive(Debug)]
pub(crate) struct Area {
    start: NonNull<libc::c_void>,
    bytes: usize,
}

// SAFETY: the mapping is reached through atomic words only.
unsafe impl Send for Area {}
// SAFETY: as for `Send`.
unsafe impl Sync for Area {}

impl Area {
    /// Private memory of its own, which begins at a multiple of 2 MiB.
    pub(crate) fn private(bytes: usize) -> Self {
        let area = Self::map(bytes + HUGE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1);
        let skipped = area.address(0).next_multiple_of(HUGE) - area.address(0);
        let start = area.start.as_ptr().wrapping_byte_add(skipped);
        Self { start: NonNull::new(start).unwrap(), bytes }
    }

    /// Memory that this process shares with its children.
    pub(crate) fn shared(bytes: usize) -> Self {
        Self::map(bytes, libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1)
    }

    /// The first bytes of a file, shared with all that map the file.
    pub(crate) fn of_file(file: &File, bytes: usize) -> Self {
        Self::map(bytes, libc::MAP_SHARED, file.as_raw_fd())
    }

    /// Memory of other flags than the above, of a file or of its own. Returns `None` if the kernel
    /// has no such memory.
    pub(crate) fn flagged(bytes: usize, flags: i32, file: Option<&File>) -> Option<Self> {
        let (fd, kind) = file.map_or((-1, libc::MAP_ANONYMOUS), |file| (file.as_raw_fd(), 0));
        Self::try_map(bytes, flags | kind, fd)
    }

    fn map(bytes: usize, flags: i32, fd: i32) -> Self {
        let area = Self::try_map(bytes, flags, fd);
        area.unwrap_or_else(|| panic!("mmap of {bytes} bytes: {}", Errno::last()))
    }

    fn try_map(bytes: usize, flags: i32, fd: i32) -> Option<Self> {
        let wish = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: the kernel chooses a free address, so no memory of this process is replaced.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), bytes, wish, flags, fd, 0) };
        (start != libc::MAP_FAILED).then(|| Self { start: NonNull::new(start).unwrap(), bytes })
    }

    /// Returns the number of pages.
    pub(crate) fn pages(&self) -> usize {
        self.bytes / PAGE
    }

    /// Returns the address of a byte.
    pub(crate) fn address(&self, offset: usize) -> usize {
        self.start.addr().get() + offset
    }

    /// Returns the word at an offset, a multiple of 8.
    pub(crate) fn word(&self, offset: usize) -> &AtomicU64 {
        assert!(offset % 8 == 0 && offset + 8 <= self.bytes, "there is no word at {offset:#x}");
        let word = self.start.as_ptr().wrapping_byte_add(offset).cast::<AtomicU64>();
        // SAFETY: the word lies in the mapping, is aligned, and is used as an atomic one only. The
        // mapping stays; where it is replaced or moved, locks of the oracle keep users away.
        unsafe { &*word }
    }

    /// Returns the value at an offset.
    pub(crate) fn load(&self, offset: usize) -> u64 {
        self.word(offset).load(Ordering::Relaxed)
    }

    /// Sets the value at an offset.
    pub(crate) fn store(&self, offset: usize, value: u64) {
        self.word(offset).store(value, Ordering::Relaxed);
    }

    /// Allows huge pages in a part, or forbids them.
    pub(crate) fn huge(&self, first: usize, pages: usize, allowed: bool) {
        let advice = if allowed { libc::MADV_HUGEPAGE } else { libc::MADV_NOHUGEPAGE };
        self.advise(first, pages, advice);
    }

    /// Discards pages, which read as zeros from then on.
    pub(crate) fn discard(&self, first: usize, pages: usize) {
        self.advise(first, pages, libc::MADV_DONTNEED);
    }

    fn advise(&self, first: usize, pages: usize, advice: i32) {
        let taken = self.may_advise(first, pages, advice);
        assert!(taken || advice != libc::MADV_DONTNEED, "madvise: {}", Errno::last());
    }

    /// Gives the kernel advice about a part. Returns false if the kernel does not take it.
    pub(crate) fn may_advise(&self, first: usize, pages: usize, advice: i32) -> bool {
        let (start, bytes) = self.part(first, pages);
        // SAFETY: the part lies in this mapping, which is reached through atomic words only.
        (unsafe { libc::madvise(start, bytes, advice) }) == 0
    }

    /// Gives the whole mapping other rights. Nobody may use it in a way that it then forbids.
    pub(crate) fn protect(&self, rights: i32) {
        // SAFETY: the mapping is this value's own.
        let result = unsafe { libc::mprotect(self.start.as_ptr(), self.bytes, rights) };
        assert!(result == 0, "mprotect: {}", Errno::last());
    }

    /// Keeps the whole mapping in memory.
    pub(crate) fn lock(&self) {
        // SAFETY: mlock takes an address of this mapping and changes no content.
        let result = unsafe { libc::mlock(self.start.as_ptr(), self.bytes) };
        assert!(result == 0, "mlock: {}", Errno::last());
    }

    /// Returns a part as an area of its own.
    pub(crate) fn piece(&self, first: usize, pages: usize) -> Self {
        let (start, bytes) = self.part(first, pages);
        Self { start: NonNull::new(start).unwrap(), bytes }
    }

    /// Does not keep it in memory any more.
    pub(crate) fn unlock(&self) {
        // SAFETY: munlock takes an address of this mapping and changes no content.
        let result = unsafe { libc::munlock(self.start.as_ptr(), self.bytes) };
        assert!(result == 0, "munlock: {}", Errno::last());
    }

    /// Unmaps it.
    pub(crate) fn unmap(self) {
        // SAFETY: the mapping is this value's own, which nobody has any more.
        let result = unsafe { libc::munmap(self.start.as_ptr(), self.bytes) };
        assert!(result == 0, "munmap: {}", Errno::last());
    }

    /// Unmaps pages, and maps new ones of zeros in their place. No other thread may map memory
    /// meanwhile.
    pub(crate) fn renew(&self, first: usize, pages: usize) {
        let (start, bytes) = self.part(first, pages);
        // SAFETY: the part lies in this mapping, and the locks of the oracle keep users away.
        let result = unsafe { libc::munmap(start, bytes) };
        assert!(result == 0, "munmap: {}", Errno::last());
        self.place(start, bytes);
    }

    fn place(&self, start: *mut libc::c_void, bytes: usize) {
        let wish = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
        // SAFETY: the place lies in this mapping, and has just been unmapped.
        let placed = unsafe { libc::mmap(start, bytes, wish, flags, -1, 0) };
        assert!(placed == start, "mmap anew: {}", Errno::last());
    }

    /// Lets two parts of a size change places, by way of a third in `spare`. No other thread may
    /// map memory meanwhile.
    pub(crate) fn swap(&self, one: usize, other: usize, pages: usize, spare: &Self) {
        let ((one, bytes), (other, _)) = (self.part(one, pages), self.part(other, pages));
        let (third, _) = spare.part(0, pages);
        remap(one, bytes, third);
        remap(other, bytes, one);
        remap(third, bytes, other);
        spare.place(third, bytes);
    }

    fn part(&self, first: usize, pages: usize) -> (*mut libc::c_void, usize) {
        assert!(first + pages <= self.pages(), "there are no {pages} pages from {first} on");
        (self.start.as_ptr().wrapping_byte_add(first * PAGE), pages * PAGE)
    }
}

/// Moves pages to another place.
fn remap(from: *mut libc::c_void, bytes: usize, to: *mut libc::c_void) {
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    // SAFETY: both places are parts of areas, whose users the locks of the oracle keep away.
    let placed = unsafe { libc::mremap(from, bytes, bytes, flags, to) };
    assert!(placed == to, "mremap: {}", Errno::last());
}

/// Forks. The child runs `child`, which may neither allocate memory nor take a lock, and ends with
/// its result. Returns the child's id.
pub(crate) fn fork(child: impl FnOnce() -> i32) -> i32 {
    // SAFETY: the child has one thread, and `child` keeps to what is safe there, as asked for.
    match unsafe { libc::fork() } {
        -1 => panic!("fork: {}", Errno::last()),
        0 => {
            let code = child();
            // SAFETY: _exit is async-signal-safe.
            unsafe { libc::_exit(code) }
        }
        pid => pid,
    }
}

/// Waits for a child; returns its status.
pub(crate) fn wait(child: i32) -> i32 {
    let mut status = 0;
    loop {
        // SAFETY: the kernel writes one number, which outlives the call.
        let ended = unsafe { libc::waitpid(child, &raw mut status, 0) };
        if ended == child {
            return status;
        }
        assert!(ended == -1 && Errno::last() == Errno::EINTR, "waitpid: {}", Errno::last());
    }
}

/// Returns the time since 1970. A restore gives a process another CLOCK_MONOTONIC.
pub(crate) fn now() -> Duration {
    std::time::UNIX_EPOCH.elapsed().unwrap_or_default()
}

/// Returns the number of page faults of this thread.
pub(crate) fn page_faults() -> i64 {
    // SAFETY: all fields are numbers, for which zero is a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes `usage`, which outlives the call.
    let result = unsafe { libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage) };
    assert!(result == 0, "getrusage: {}", Errno::last());
    usage.ru_minflt + usage.ru_majflt
}

/// Bytes of a huge page.
const HUGE: usize = 2 << 20;
