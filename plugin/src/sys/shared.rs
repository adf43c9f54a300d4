//! The environment of CRIU, and memory that it shares with criu-rs.

#![allow(unsafe_code)]

use std::ffi::{CStr, c_void};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

/// The value of an environment variable.
///
/// The name has at most 63 bytes.
pub(crate) fn variable(name: &str) -> Option<&'static CStr> {
    let mut bytes = [0u8; 64];
    bytes.get_mut(..name.len())?.copy_from_slice(name.as_bytes());
    let name = CStr::from_bytes_until_nul(&bytes).ok()?;
    // SAFETY: the name ends with a NUL. CRIU has one thread, and sets variables before it loads
    // plugins.
    let value = unsafe { libc::getenv(name.as_ptr()) };
    // SAFETY: what is not null ends with a NUL, and stays while nobody sets the variable.
    (!value.is_null()).then(|| unsafe { CStr::from_ptr(value) })
}

/// Memory of a file, which others map too. The file does not shrink.
#[derive(Debug)]
pub(crate) struct Mapped {
    memory: NonNull<c_void>,
    length: usize,
}

// SAFETY: the memory is not tied to a thread, and is read and written by atomic words alone.
unsafe impl Send for Mapped {}

impl Mapped {
    /// Maps a file to read and write it.
    ///
    /// # Errors
    /// `EPERM` if somebody could make the file smaller. The errors of `fcntl(2)`, `fstat(2)` and
    /// `mmap(2)`.
    pub(crate) fn new(file: &File) -> io::Result<Self> {
        // SAFETY: the call takes no memory of ours.
        let seals = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GET_SEALS) };
        if seals < 0 {
            return Err(io::Error::last_os_error());
        }
        if seals & libc::F_SEAL_SHRINK == 0 {
            return Err(io::Error::from_raw_os_error(libc::EPERM));
        }
        let length = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let (flags, fd) = (libc::MAP_SHARED, file.as_raw_fd());
        // SAFETY: the kernel chooses a place where nothing is.
        let memory = unsafe { libc::mmap(std::ptr::null_mut(), length, protection, flags, fd, 0) };
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let memory = NonNull::new(memory).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self { memory, length })
    }

    /// Returns the memory as words.
    pub(crate) fn words(&self) -> &[AtomicU64] {
        let (first, count) = (self.memory.as_ptr().cast(), self.length / size_of::<AtomicU64>());
        // SAFETY: so many words are mapped as long as `self` lives, at the start of a page. Others
        // change them by atomic operations.
        unsafe { std::slice::from_raw_parts(first, count) }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: nothing borrows the memory any more.
        unsafe { libc::munmap(self.memory.as_ptr(), self.length) };
    }
}
