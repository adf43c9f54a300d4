//! Files in this process's memory, for the kernel to read.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::ptr::NonNull;

use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

use super::uffd::Bytes;

/// A file in memory whose bytes only the kernel reads. Another program may shorten the file: the
/// call that needs the lost bytes then fails with `EFAULT`, and no signal is sent.
#[derive(Debug)]
pub(crate) struct FileMap {
    start: NonNull<std::ffi::c_void>,
    size: NonZeroUsize,
}

// SAFETY: the memory is shared and never written, and no reference into it exists.
unsafe impl Send for FileMap {}
// SAFETY: as for `Send`: calls from several threads only pass addresses to the kernel.
unsafe impl Sync for FileMap {}

impl FileMap {
    /// Maps the first `size` bytes of a file.
    ///
    /// # Errors
    /// The errors of mmap(2). `EINVAL` for no bytes.
    pub(crate) fn new(file: &File, size: u64) -> io::Result<Self> {
        let size = usize::try_from(size).ok().and_then(NonZeroUsize::new).ok_or(Errno::EINVAL)?;
        let flags = MapFlags::MAP_SHARED | MapFlags::MAP_NORESERVE;
        // SAFETY: the kernel chooses a free address, so no memory of this process is replaced.
        let start = unsafe { mmap(None, size, ProtFlags::PROT_READ, flags, file.as_fd(), 0) }?;
        Ok(Self { start, size })
    }

    /// Returns the number of bytes.
    pub(crate) fn size(&self) -> u64 {
        self.size.get() as u64
    }

    /// Returns bytes of the file. `None` if the map does not have them all.
    pub(crate) fn bytes(&self, offset: u64, size: u64) -> Option<Bytes<'_>> {
        let end = offset.checked_add(size)?;
        (end <= self.size()).then(|| Bytes::at(self.start.addr().get() as u64 + offset, size))
    }

    /// Brings bytes of the file into the page tables of this process: `MADV_POPULATE_READ`, Linux
    /// 5.14. The range is widened to whole pages.
    ///
    /// # Errors
    /// The errors of madvise(2). `EFAULT` if the file is shorter by now.
    pub(crate) fn populate(&self, offset: u64, size: u64) -> io::Result<()> {
        let (start, bytes) = self.pages(offset, size)?;
        // SAFETY: the range lies in this map, whose last page is whole, and reading pages in
        // changes no byte of it.
        Errno::result(unsafe { libc::madvise(start, bytes, libc::MADV_POPULATE_READ) })?;
        Ok(())
    }

    /// Lets the kernel read bytes of the file that are not in memory, and does not wait for them:
    /// `MADV_WILLNEED`. The range is widened to whole pages.
    pub(crate) fn announce(&self, offset: u64, size: u64) {
        if let Ok((start, bytes)) = self.pages(offset, size) {
            // SAFETY: the range lies in this map, whose last page is whole, and reading pages in
            // changes no byte of it.
            let _ = unsafe { libc::madvise(start, bytes, libc::MADV_WILLNEED) };
        }
    }

    /// Returns true if the page with a byte of the file is in memory: mincore(2). A kernel that
    /// does not tell says yes.
    pub(crate) fn is_there(&self, offset: u64) -> bool {
        let Ok((start, _)) = self.pages(offset, 1) else { return true };
        let (mut page, bytes) = (1u8, 1);
        // SAFETY: the kernel writes a byte for the only page of the range, which lies in this map.
        let _ = unsafe { libc::mincore(start, bytes, &raw mut page) };
        page & 1 == 1
    }

    /// Returns the whole pages with a part of the file: the address, and the number of bytes.
    fn pages(&self, offset: u64, size: u64) -> io::Result<(*mut std::ffi::c_void, usize)> {
        let page = PAGE - 1;
        let from = offset.min(self.size()) & !page;
        let end = offset.saturating_add(size).min(self.size());
        let end = end.saturating_add(page) & !page;
        let bytes = usize::try_from(end.saturating_sub(from)).map_err(io::Error::other)?;
        let from = usize::try_from(from).map_err(io::Error::other)?;
        Ok((self.start.as_ptr().wrapping_byte_add(from), bytes))
    }
}

impl Drop for FileMap {
    fn drop(&mut self) {
        // SAFETY: the map is this value's own, and no `Bytes` outlives it.
        let _ = unsafe { munmap(self.start, self.size.get()) };
    }
}

/// The smallest page size.
const PAGE: u64 = 4096;
