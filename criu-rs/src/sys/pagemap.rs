//! The pages of a process: `PAGEMAP_SCAN` on `/proc/PID/pagemap`.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::unistd::Pid;

/// The page map of a process. It belongs to the memory that the process had when it was opened,
/// even if the process executes another program or ends.
#[derive(Debug)]
pub(crate) struct Pagemap {
    file: File,
    /// True while the kernel is not known to lack [`GUARD`].
    knows_guards: AtomicBool,
}

/// A run of pages that a scan has found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Region {
    pub(crate) start: u64,
    pub(crate) end: u64,
    categories: u64,
}

/// The result of one scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Scanned {
    /// The number of regions.
    pub(crate) count: usize,
    /// The address up to which the kernel has looked.
    pub(crate) end: u64,
}

impl Pagemap {
    /// Opens the page map of a process.
    pub(crate) fn open(pid: Pid) -> io::Result<Self> {
        let file = File::open(format!("/proc/{pid}/pagemap"))?;
        Ok(Self { file, knows_guards: AtomicBool::new(true) })
    }

    /// Finds the private pages that CRIU saves: present or swapped, neither the zero page nor a
    /// page of a file, nor a guard. Returns when the regions are full.
    ///
    /// # Errors
    /// `ESRCH` if the memory is gone; `ENOTTY` before Linux 6.7.
    pub(crate) fn scan(&self, range: Range<u64>, regions: &mut [Region]) -> io::Result<Scanned> {
        let guard = if self.knows_guards.load(Ordering::Relaxed) { GUARD } else { 0 };
        match self.scan_without(guard, range.clone(), regions) {
            Err(Errno::EINVAL) if guard != 0 => {
                // A kernel before 6.15 does not tell guards.
                let scanned = self.scan_without(0, range, regions)?;
                self.knows_guards.store(false, Ordering::Relaxed);
                Ok(scanned)
            }
            other => Ok(other?),
        }
    }

    fn scan_without(
        &self,
        guard: u64,
        range: Range<u64>,
        regions: &mut [Region],
    ) -> nix::Result<Scanned> {
        let mut scan = Scan {
            size: size_of::<Scan>() as u64,
            start: range.start,
            end: range.end,
            regions: regions.as_mut_ptr().expose_provenance() as u64,
            room: regions.len() as u64,
            category_inverted: ZERO | FILE | guard,
            category_mask: ZERO | FILE | guard,
            category_any: PRESENT | SWAPPED,
            returned: PRESENT | SWAPPED,
            ..Scan::default()
        };
        let place = &raw mut scan;
        // SAFETY: the kernel reads and writes `scan`, and writes at most `room` regions into the
        // slice. Both outlive the call.
        let found = unsafe { libc::ioctl(self.file.as_raw_fd(), SCAN, place) };
        let count = usize::try_from(Errno::result(found)?).unwrap_or(0);
        Ok(Scanned { count: count.min(regions.len()), end: scan.walk_end })
    }
}

/// The kernel's `struct pm_scan_arg`.
#[repr(C)]
#[derive(Default)]
struct Scan {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    regions: u64,
    room: u64,
    most_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_any: u64,
    returned: u64,
}

/// `PAGEMAP_SCAN`.
const SCAN: libc::Ioctl = 0xc060_6610_u32 as libc::Ioctl;

// The categories of pages.
const FILE: u64 = 1 << 2;
const PRESENT: u64 = 1 << 3;
const SWAPPED: u64 = 1 << 4;
const ZERO: u64 = 1 << 5;
const GUARD: u64 = 1 << 8;

#[cfg(test)]
mod tests {
    use criu_lab::lazy::{PAGE, Region as Memory};

    use super::*;

    /// The end of a process's addresses on all platforms.
    const END: u64 = 1 << 36;

    fn found(map: &Pagemap, memory: Memory, room: usize) -> Vec<(usize, usize)> {
        let start = memory.start as u64;
        let end = start + (memory.pages * PAGE) as u64;
        let mut regions = vec![Region::default(); room];
        let mut pages = Vec::new();
        let mut next = start;
        while next < end {
            let scanned = map.scan(next..end, &mut regions).unwrap();
            for region in &regions[..scanned.count] {
                let page = |at: u64| usize::try_from((at - start) / 4096).unwrap();
                pages.push((page(region.start), page(region.end)));
            }
            assert!(scanned.end > next);
            next = scanned.end;
        }
        pages
    }

    #[test]
    fn written_pages_are_found_and_zero_pages_are_not() {
        let memory = Memory::new(64);
        for page in [3, 4, 9, 11] {
            memory.set_word(page, 0, 7);
        }
        // A page that was only read is the zero page.
        assert_eq!(memory.word(20, 0), 0);
        let map = Pagemap::open(Pid::this()).unwrap();
        assert_eq!(found(&map, memory, 16), [(3, 5), (9, 10), (11, 12)]);
        assert_eq!(found(&map, memory, 1), [(3, 5), (9, 10), (11, 12)]);
        map.knows_guards.store(false, Ordering::Relaxed);
        assert_eq!(found(&map, memory, 16), [(3, 5), (9, 10), (11, 12)]);
        memory.unmap();
        let error = map.scan(1..2, &mut [Region::default()]).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL), "an address inside of a page");
    }

    #[test]
    fn a_process_that_has_ended_has_no_pages() {
        let child = Pid::from_raw(criu_lab::lazy::fork(|| {
            nix::unistd::pause();
            0
        }));
        let map = Pagemap::open(child).unwrap();
        assert!(map.scan(0..END, &mut [Region::default()]).is_ok());
        nix::sys::signal::kill(child, nix::sys::signal::SIGKILL).unwrap();
        nix::sys::wait::waitpid(child, None).unwrap();
        let error = map.scan(0..END, &mut [Region::default()]).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ESRCH));
    }
}
