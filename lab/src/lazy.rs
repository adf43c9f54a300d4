//! Memory of this process whose pages are missing until somebody brings them.

#![allow(unsafe_code)]

use std::ffi::c_void;
use std::num::NonZeroUsize;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;

use nix::errno::Errno;
use nix::libc;
use nix::sys::mman::{MRemapFlags, MapFlags, MmapAdvise, ProtFlags};
use nix::sys::mman::{madvise, mmap_anonymous, mprotect, mremap, munmap};

/// The bytes of a page.
pub const PAGE: usize = 4096;

/// Makes a userfaultfd of this process that reports all events, as `criu restore` makes it.
pub fn userfaultfd() -> OwnedFd {
    // SAFETY: userfaultfd takes an integer and touches no memory of ours.
    let fd = unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC | libc::O_NONBLOCK) };
    let fd = RawFd::try_from(Errno::result(fd).unwrap()).unwrap();
    // SAFETY: the kernel has just made this descriptor for us; nobody else knows its number.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // The version, the events of forks, mremap, MADV_DONTNEED and munmap, and room for the answer.
    let mut api = [0xaau64, 1 << 1 | 1 << 2 | 1 << 3 | 1 << 6, 0];
    // SAFETY: the kernel reads and writes three words, which outlive the call.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), 0xc018_aa3f, api.as_mut_ptr()) };
    Errno::result(result).unwrap();
    fd
}

/// Opens a descriptor of a process.
pub fn pidfd(pid: u32) -> OwnedFd {
    // SAFETY: pidfd_open takes two integers and touches no memory of ours.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = RawFd::try_from(Errno::result(fd).unwrap()).unwrap();
    // SAFETY: the kernel has just made this descriptor for us; nobody else knows its number.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Memory of this process by its addresses. Nothing else uses it.
#[derive(Clone, Copy, Debug)]
pub struct Region {
    /// The first address.
    pub start: usize,
    /// The number of pages.
    pub pages: usize,
}

impl Region {
    /// Maps memory that nothing has touched.
    pub fn new(pages: usize) -> Self {
        let size = NonZeroUsize::new(pages * PAGE).unwrap();
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE;
        let prot = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: the kernel chooses a free address, so no memory of this process is replaced.
        let start = unsafe { mmap_anonymous(None, size, prot, flags) }.unwrap();
        Self { start: start.as_ptr().addr(), pages }
    }

    /// Lets a userfaultfd report the missing pages of this memory.
    pub fn register(self, userfaultfd: &OwnedFd) {
        let mut wish = [self.start as u64, (self.pages * PAGE) as u64, 1, 0];
        // SAFETY: the kernel reads and writes four words, which outlive the call.
        let result =
            unsafe { libc::ioctl(userfaultfd.as_raw_fd(), 0xc020_aa00, wish.as_mut_ptr()) };
        Errno::result(result).unwrap();
    }

    /// Returns some pages of this memory.
    pub fn part(self, first: usize, pages: usize) -> Self {
        assert!(first + pages <= self.pages, "{first} and {pages} of {self:?}");
        Self { start: self.start + first * PAGE, pages }
    }

    /// Returns the address of a page.
    pub fn page(self, number: usize) -> usize {
        assert!(number < self.pages, "{number} of {self:?}");
        self.start + number * PAGE
    }

    /// Reads a word of a page.
    pub fn word(self, page: usize, word: usize) -> u64 {
        assert!(word < PAGE / 8, "{word}");
        let at: *const u64 = pointer(self.page(page) + word * 8).cast_const().cast();
        // SAFETY: the address is of this memory, which is mapped, and is a multiple of eight.
        unsafe { at.read_volatile() }
    }

    /// Writes a word of a page.
    pub fn set_word(self, page: usize, word: usize, value: u64) {
        assert!(word < PAGE / 8, "{word}");
        let at: *mut u64 = pointer(self.page(page) + word * 8).cast();
        // SAFETY: as in `word`, and no reference into this memory exists.
        unsafe { at.write_volatile(value) }
    }

    /// Discards the memory: it reads as zeros from now on.
    pub fn discard(self) {
        // SAFETY: no reference into this memory exists.
        unsafe { madvise(self.base(), self.pages * PAGE, MmapAdvise::MADV_DONTNEED) }.unwrap();
    }

    /// Takes the right to write: the system makes areas of the memory and of its neighbours.
    pub fn protect(self) {
        // SAFETY: no reference into this memory exists.
        unsafe { mprotect(self.base(), self.pages * PAGE, ProtFlags::PROT_READ) }.unwrap();
    }

    /// Unmaps the memory.
    pub fn unmap(self) {
        // SAFETY: no reference into this memory exists.
        unsafe { munmap(self.base(), self.pages * PAGE) }.unwrap();
    }

    /// Moves the memory to another region of this size, which it replaces.
    pub fn move_to(self, target: Self) {
        assert_eq!(self.pages, target.pages);
        let flags = MRemapFlags::MREMAP_MAYMOVE | MRemapFlags::MREMAP_FIXED;
        let (size, target) = (self.pages * PAGE, Some(target.base()));
        // SAFETY: no reference into either memory exists.
        unsafe { mremap(self.base(), size, size, flags, target) }.unwrap();
    }

    fn base(self) -> NonNull<c_void> {
        NonNull::new(pointer(self.start)).unwrap()
    }
}

/// Forks, and runs a function in the child, which ends with the function's result. Returns the
/// child's number. The function must not use what another thread may hold, such as the heap.
pub fn fork(child: impl FnOnce() -> i32) -> i32 {
    // SAFETY: the child uses only what its caller promises.
    match unsafe { libc::fork() } {
        // SAFETY: _exit is async-signal-safe.
        0 => unsafe { libc::_exit(child()) },
        pid => Errno::result(pid).unwrap(),
    }
}

fn pointer(address: usize) -> *mut c_void {
    std::ptr::with_exposed_provenance_mut(address)
}
