//! A holder: the memory of a task as it was in the freeze.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use criu_plugin::journal::{Field, Record};
use nix::errno::Errno;

use super::error::InstantError;
use crate::pages::held::{HeldPages, Mapping};
use crate::pages::page_size;
use crate::sys::holders::{Bond, Look, Owner};
use crate::sys::pagemap::{Pagemap, Region};
use crate::sys::proc::Stat;
use crate::value::Pid;

/// A holder that this process reads.
///
/// The files in `/proc` belong to the memory of the holder, not to its number: after its end they
/// show nothing, even if another process has got the number.
#[derive(Debug)]
pub(super) struct Holder {
    pid: Pid,
    start: u64,
    bond: Bond,
    /// The memory. It is readable even where the holder itself may not read.
    memory: File,
    pagemap: Pagemap,
    /// Mappings, ascending, and the number of pages in each when they were counted.
    counts: Vec<(Range<u64>, u64)>,
}

impl Holder {
    /// Opens the holder of a record. The record comes from the plugin, so nothing in it is trusted:
    /// the process must have started at the recorded time, and wait as a holder of this process.
    ///
    /// # Errors
    /// [`InstantError::Lost`] if the holder has ended, or the record is about another process.
    pub(super) fn open(task: Pid, record: &Record<'_>) -> Result<Self, InstantError> {
        let number = i32::try_from(record.get(Field::Holder)).ok().and_then(Pid::new);
        let Some(pid) = number else {
            return Err(InstantError::Journal(format!(
                "task {task} has a holder without a number"
            )));
        };
        Self::of(task, pid, record.get(Field::HolderStart)).map_err(|why| InstantError::Lost {
            task,
            holder: pid,
            why: why.to_string(),
        })
    }

    /// Opens a holder by its number and the time of its start, in the kernel's ticks.
    fn of(task: Pid, pid: Pid, start: u64) -> io::Result<Self> {
        let bond = Bond::open(task.as_raw(), pid.as_raw())?;
        let memory = File::open(format!("/proc/{pid}/mem"))?;
        let pagemap = Pagemap::open(pid.nix())?;
        let found = Stat::of(pid.as_raw()).ok_or_else(gone)?;
        let other = |what: &str| Err(io::Error::other(format!("process {pid} {what}")));
        if found.start != start {
            let started = format!("has started at tick {}, the holder at {start}", found.start);
            return other(&started);
        }
        let Some(own) = Owner::this() else { return other("has an owner without /proc") };
        match Look::at(pid.as_raw()) {
            Some(Look::Parked(owner)) if owner == own => {}
            Some(Look::Parked(owner)) => {
                return other(&format!("is a holder of process {}", owner.pid));
            }
            Some(Look::Dead) => return Err(gone()),
            None => return other("does not wait as a holder"),
        }
        // What was looked at by its number was the holder all the time.
        if !bond.is_there() {
            return Err(gone());
        }
        Ok(Self { pid, start, bond, memory, pagemap, counts: Vec::new() })
    }

    /// The number of the holder.
    pub(super) fn pid(&self) -> Pid {
        self.pid
    }

    /// The time of its start, in the kernel's ticks since boot.
    pub(super) fn start(&self) -> u64 {
        self.start
    }

    /// Counts the pages in each mapping, and remembers the numbers for
    /// [`counted`](HeldPages::counted). Returns the number of all pages. The mappings ascend.
    ///
    /// # Errors
    /// The holder has ended; the kernel has no PAGEMAP_SCAN (before Linux 6.7).
    pub(super) fn count(&mut self, mappings: &[Mapping]) -> io::Result<u64> {
        let (mut counts, mut all) = (Vec::with_capacity(mappings.len()), 0);
        for mapping in mappings {
            let mut bytes = 0;
            self.each(mapping.start..mapping.end, |run| bytes += run.end - run.start)?;
            let pages = bytes / page_size().bytes();
            counts.push((mapping.start..mapping.end, pages));
            all += pages;
        }
        self.counts = counts;
        Ok(all)
    }

    /// Gives the files up, and keeps what the end of the holder needs.
    pub(super) fn into_bond(self) -> Bond {
        self.bond
    }

    /// Calls a function with all runs of pages in a range, ascending.
    fn each(&self, range: Range<u64>, mut found: impl FnMut(Range<u64>)) -> io::Result<()> {
        let mut next = range.start;
        while next < range.end {
            next = self.part(next..range.end, &mut found)?;
        }
        Ok(())
    }

    /// Calls a function with the first runs of pages in a range. Returns the address up to which
    /// the pages are known.
    fn part(&self, range: Range<u64>, mut found: impl FnMut(Range<u64>)) -> io::Result<u64> {
        let mut regions = [Region::default(); REGIONS];
        let scanned = self.pagemap.scan(range.clone(), &mut regions).map_err(of_holder)?;
        let mut known = range.start;
        for region in regions.iter().take(scanned.count) {
            if region.start < known || region.end <= region.start || region.end > range.end {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the kernel lists no runs"));
            }
            known = region.end;
            found(region.start..region.end);
        }
        let end = scanned.end.clamp(known, range.end);
        // Without regions, and without an end that the kernel tells, nothing is left.
        Ok(if end > range.start { end } else { range.end })
    }
}

impl HeldPages for Holder {
    fn scan(&self, range: Range<u64>, runs: &mut Vec<Range<u64>>) -> io::Result<u64> {
        self.part(range, |run| match runs.last_mut() {
            Some(last) if last.end == run.start => last.end = run.end,
            _ => runs.push(run),
        })
    }

    fn read_at(&self, address: u64, buffer: &mut [u8]) -> io::Result<()> {
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.memory.read_at(rest, address.saturating_add(done as u64)) {
                // The kernel reads the memory of a process that has ended as an empty file.
                Ok(0) => return Err(gone()),
                Ok(bytes) => done += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn counted(&self, range: Range<u64>) -> Option<u64> {
        let at = self.counts.binary_search_by_key(&range.start, |(known, _)| known.start).ok()?;
        self.counts.get(at).filter(|(known, _)| *known == range).map(|(_, pages)| *pages)
    }
}

/// Names the end of a holder for what it is.
fn of_holder(error: io::Error) -> io::Error {
    if error.raw_os_error() == Some(Errno::ESRCH as i32) { gone() } else { error }
}

fn gone() -> io::Error {
    let why = "it has ended; the kernel ends holders first where memory runs out";
    io::Error::new(io::ErrorKind::UnexpectedEof, why)
}

/// The runs of one look at the pages: 12 KiB on the stack.
const REGIONS: usize = 512;
