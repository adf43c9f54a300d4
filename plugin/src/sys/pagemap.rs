//! The kernel's scan of the pages of a process: `PAGEMAP_SCAN` on `/proc/PID/pagemap`.

#![allow(unsafe_code)]

use std::ffi::c_int;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::ptr;

use super::call::Fd;

/// `struct pm_scan_arg`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(C)]
pub(crate) struct Scan {
    pub(crate) size: u64,
    pub(crate) flags: u64,
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// Address at which the scan has ended. The kernel writes it.
    pub(crate) walk_end: u64,
    /// Address of an array of [`Region`].
    pub(crate) vec: u64,
    pub(crate) vec_len: u64,
    pub(crate) max_pages: u64,
    pub(crate) category_inverted: u64,
    pub(crate) category_mask: u64,
    pub(crate) category_anyof_mask: u64,
    pub(crate) return_mask: u64,
}

/// `struct page_region`: adjacent pages of the same kinds.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(C)]
pub(crate) struct Region {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) categories: u64,
}

/// The number of the call, `_IOWR('f', 16, struct pm_scan_arg)`.
pub(crate) const PAGEMAP_SCAN: u32 = 0xc060_6610;

/// The page is in a file, or in shared memory.
pub(crate) const FILE: u64 = 1 << 2;
/// The page is in RAM.
pub(crate) const PRESENT: u64 = 1 << 3;
/// The page is in swap, or its entry in the page table marks something else.
pub(crate) const SWAPPED: u64 = 1 << 4;
/// The page is the shared page of zeros.
pub(crate) const ZERO: u64 = 1 << 5;
/// The page is part of a guard region. Kernels have this kind since 6.15.
pub(crate) const GUARD: u64 = 1 << 8;

impl Region {
    const NONE: Self = Self { start: 0, end: 0, categories: 0 };
}

/// A buffer of regions.
pub(crate) type Buffer = [Region; REGIONS];

/// Most regions of [`SMALL`] bytes: every page has another kind than its neighbour.
pub(crate) const REGIONS: usize = 512;

/// Size of the window in which CRIU looks at several mappings at once, in bytes.
pub(crate) const SMALL: u64 = 2 << 20;

/// An empty buffer.
pub(crate) const EMPTY: Buffer = [Region::NONE; REGIONS];

impl Scan {
    /// Asks the kernel about all of a range, with CRIU's filter, by the descriptor of a pagemap.
    /// Returns `None` if there is no room for all regions, and if the kernel refuses.
    pub(crate) fn ask(&self, fd: c_int, range: &Range<u64>, into: &mut [Region]) -> Option<usize> {
        let mut scan = Self { start: range.start, end: range.end, ..*self };
        scan.run(fd, into).ok().filter(|_| scan.walk_end == range.end)
    }

    /// Asks the kernel. Returns the number of regions that are in `into` then.
    fn run(&mut self, fd: c_int, into: &mut [Region]) -> io::Result<usize> {
        self.vec = if into.is_empty() { 0 } else { into.as_mut_ptr().expose_provenance() as u64 };
        self.vec_len = into.len() as u64;
        let argument: *mut Self = self;
        // Not by the function `ioctl`, which the plugin replaces.
        // SAFETY: this is what the call takes, and names the memory of `into` with its length.
        let count = unsafe { libc::syscall(libc::SYS_ioctl, fd, PAGEMAP_SCAN, argument) };
        usize::try_from(count).map_err(|_| io::Error::last_os_error())
    }

    /// Writes regions to where CRIU wants them. Returns `None` if there is no room.
    pub(crate) fn give(&self, regions: &[Region]) -> Option<()> {
        let room = usize::try_from(self.vec_len).ok()?;
        let vec = ptr::with_exposed_provenance_mut::<Region>(usize::try_from(self.vec).ok()?);
        if regions.len() > room {
            return None;
        }
        // SAFETY: CRIU gives the kernel this memory, with room for so many regions.
        unsafe { ptr::copy_nonoverlapping(regions.as_ptr(), vec, regions.len()) };
        Some(())
    }
}

/// The scans of one process.
#[derive(Debug)]
pub(crate) struct Pagemap {
    file: Fd,
    /// [`GUARD`], or 0 if the kernel has no guard regions.
    guard: u64,
}

impl Pagemap {
    /// Scans the process of an open `/proc/PID/pagemap`.
    ///
    /// # Errors
    /// The kernel has no such scan: `ENOTTY` before Linux 6.7.
    pub(crate) fn new(file: Fd) -> io::Result<Self> {
        let mut pagemap = Self { file, guard: GUARD };
        let nothing = |pagemap: &Self| pagemap.scan(&(0..0), 0, &mut []);
        if nothing(&pagemap).is_err() {
            pagemap.guard = 0;
            nothing(&pagemap)?;
        }
        Ok(pagemap)
    }

    /// Tells whether CRIU would save any page of a range.
    ///
    /// # Errors
    /// The errors of `PAGEMAP_SCAN`: `ESRCH` if the process is gone.
    pub(crate) fn has_any(&self, range: &Range<u64>) -> io::Result<bool> {
        let (count, _) = self.scan(range, 1, &mut [Region::NONE])?;
        Ok(count > 0)
    }

    /// Finds the pages of a range that CRIU would save. Returns the regions that there was room
    /// for, and where the scan has ended.
    ///
    /// # Errors
    /// The errors of `PAGEMAP_SCAN`: `ESRCH` if the process is gone.
    pub(crate) fn regions<'b>(
        &self,
        range: &Range<u64>,
        into: &'b mut [Region],
    ) -> io::Result<(&'b [Region], u64)> {
        let (count, walk_end) = self.scan(range, 0, into)?;
        Ok((into.get(..count).unwrap_or_default(), walk_end))
    }

    fn scan(&self, range: &Range<u64>, most: u64, into: &mut [Region]) -> io::Result<(usize, u64)> {
        let mut scan = Scan {
            size: size_of::<Scan>() as u64,
            start: range.start,
            end: range.end,
            max_pages: most,
            // The kinds that CRIU leaves out, and guard regions, which it finds in another way.
            category_inverted: ZERO | FILE | self.guard,
            category_mask: ZERO | FILE | self.guard,
            category_anyof_mask: PRESENT | SWAPPED,
            return_mask: PRESENT | SWAPPED,
            ..Scan::default()
        };
        let count = scan.run(self.file.as_raw_fd(), into)?;
        Ok((count, scan.walk_end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::call::Access;
    use crate::sys::proc::PAGE;

    #[test]
    fn written_pages_are_found() {
        let (length, rights) = (64 * 4096, libc::PROT_READ | libc::PROT_WRITE);
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: the kernel chooses a place where nothing is.
        let memory = unsafe { libc::mmap(std::ptr::null_mut(), length, rights, flags, -1, 0) };
        // SAFETY: a page by itself could become part of a huge one.
        assert_eq!(unsafe { libc::madvise(memory, length, libc::MADV_NOHUGEPAGE) }, 0);
        let first = memory.addr() as u64;
        for page in [3, 4, 9] {
            let page = memory.cast::<u8>().wrapping_add(page * 4096);
            // SAFETY: the page is of the mapping, which nobody else knows.
            unsafe { page.write_volatile(1) };
        }
        let pagemap = Fd::open(i32::try_from(std::process::id()).unwrap(), "pagemap", Access::Read);
        let pagemap = Pagemap::new(pagemap.unwrap()).unwrap();
        let range = first + PAGE..first + 20 * PAGE;
        let mut buffer = EMPTY;
        let (regions, end) = pagemap.regions(&range, &mut buffer).unwrap();
        let found: Vec<_> =
            regions.iter().map(|r| ((r.start - first) / PAGE, (r.end - first) / PAGE)).collect();
        assert_eq!((found, end), (vec![(3, 5), (9, 10)], range.end));
        assert!(pagemap.has_any(&range).unwrap());
        assert!(!pagemap.has_any(&(first + 5 * PAGE..first + 9 * PAGE)).unwrap());
        assert_eq!(size_of::<Scan>(), 96);
    }
}
