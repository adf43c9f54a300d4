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
        let own = Owner::this().ok_or_else(|| io::Error::other("there is no /proc/self/stat"));
        let found = own.and_then(|own| Self::of(task, pid, record.get(Field::HolderStart), own));
        found.map_err(|why| lost(task, pid, &why))
    }

    /// Opens a holder of another process, by its number and the time of its start.
    ///
    /// # Errors
    /// [`InstantError::Lost`] if the holder has ended, or is not one of that process.
    pub(super) fn of_other(
        task: Pid,
        pid: Pid,
        start: u64,
        owner: Owner,
    ) -> Result<Self, InstantError> {
        Self::of(task, pid, start, owner).map_err(|why| lost(task, pid, &why))
    }

    /// Opens a holder by its number and the time of its start, in the kernel's ticks.
    fn of(task: Pid, pid: Pid, start: u64, own: Owner) -> io::Result<Self> {
        let bond = Bond::open(task.as_raw(), pid.as_raw())?;
        let memory = File::open(format!("/proc/{pid}/mem"))?;
        let pagemap = Pagemap::open(pid.nix())?;
        let found = Stat::of(pid.as_raw()).ok_or_else(gone)?;
        let other = |what: &str| Err(io::Error::other(format!("process {pid} {what}")));
        if found.start != start {
            let started = format!("has started at tick {}, the holder at {start}", found.start);
            return other(&started);
        }
        match Look::settled(pid.as_raw()) {
            Some(Look::Parked(owner)) if owner == own => {}
            Some(Look::Parked(owner)) => {
                return other(&format!("is a holder of process {}", owner.pid));
            }
            Some(Look::Dead) => return Err(gone()),
            Some(Look::Begins) | None => return other("does not wait as a holder"),
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

    /// Tells whether the holder has not ended.
    pub(super) fn is_there(&self) -> bool {
        self.bond.is_there()
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
        if end <= range.start {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the kernel has not looked"));
        }
        Ok(end)
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

fn lost(task: Pid, holder: Pid, why: &io::Error) -> InstantError {
    InstantError::Lost { task, holder, why: why.to_string() }
}

fn gone() -> io::Error {
    let why = "it has ended; the kernel ends holders first where memory runs out";
    io::Error::new(io::ErrorKind::UnexpectedEof, why)
}

/// The runs of one look at the pages: 12 KiB on the stack.
const REGIONS: usize = 512;

#[cfg(test)]
#[cfg(target_arch = "x86_64")]
mod tests {
    use std::sync::atomic::AtomicU64;
    use std::time::{Duration, Instant};

    use criu_lab::lazy::{PAGE, Region as Memory, fork};
    use criu_plugin::journal::Journal;
    use nix::sys::signal::{Signal, kill};
    use nix::sys::wait::waitpid;

    use super::*;
    use crate::sys::holders::lab::hold;

    /// A task that writes two pages all the time, and its holder.
    struct Pair {
        task: Pid,
        holder: Pid,
        memory: Memory,
    }

    impl Pair {
        fn start() -> Self {
            let memory = Memory::new(64);
            for page in [3, 4, 9, 63] {
                memory.set_word(page, 1, 7);
            }
            let task = fork(|| {
                loop {
                    memory.set_word(3, 0, memory.word(3, 0) + 1);
                    memory.set_word(20, 0, memory.word(20, 0) + 1);
                }
            });
            let map = Pagemap::open(nix::unistd::Pid::from_raw(task)).unwrap();
            // The child has begun to write.
            let page = (memory.start + 20 * PAGE) as u64;
            let range = page..page + PAGE as u64;
            let mut regions = [Region::default()];
            assert!(criu_lab::soon(|| map.scan(range.clone(), &mut regions).unwrap().count == 1));
            let holder = Pid::new(hold(task, own())).unwrap();
            Self { task: Pid::new(task).unwrap(), holder, memory }
        }

        fn start_time(&self) -> u64 {
            Stat::of(self.holder.as_raw()).unwrap().start
        }

        fn range(&self) -> Range<u64> {
            let start = self.memory.start as u64;
            start..start + (self.memory.pages * PAGE) as u64
        }
    }

    impl Drop for Pair {
        fn drop(&mut self) {
            for pid in [self.holder, self.task] {
                let _ = kill(pid.nix(), Signal::SIGKILL);
            }
            let _ = waitpid(self.task.nix(), None);
        }
    }

    fn own() -> Owner {
        Owner::this().unwrap()
    }

    #[test]
    fn a_holder_keeps_the_memory_while_its_task_writes() {
        let pair = Pair::start();
        let mut holder = Holder::of(pair.task, pair.holder, pair.start_time(), own()).unwrap();
        assert_eq!((holder.pid(), holder.start()), (pair.holder, pair.start_time()));
        let mut runs = Vec::new();
        let mut next = pair.range().start;
        while next < pair.range().end {
            next = holder.scan(next..pair.range().end, &mut runs).unwrap();
        }
        let at = |page: usize| (pair.memory.start + page * PAGE) as u64;
        let wanted = [(3, 5), (9, 10), (20, 21), (63, 64)];
        assert_eq!(runs, wanted.map(|(start, end)| at(start)..at(end)));
        let read = |page: usize| {
            let mut bytes = [0; 16];
            holder.read_at(at(page), &mut bytes).unwrap();
            bytes
        };
        let first = read(3);
        assert_eq!((first[8], read(4)[8]), (7, 7));
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(read(3), first, "the task has written meanwhile");
        let mut all = vec![0; 64 * PAGE];
        holder.read_at(at(0), &mut all).unwrap();
        assert_eq!((all[3 * PAGE + 8], all[63 * PAGE + 8]), (7, 7));

        let part =
            |start: usize, end: usize| Mapping { start: at(start), end: at(end), lazy: true };
        assert_eq!(holder.counted(pair.range()), None);
        assert_eq!(holder.count(&[part(0, 4), part(4, 20), part(30, 64)]).unwrap(), 4);
        let counted = [(0, 4), (4, 20), (30, 64), (0, 20), (5, 20)];
        let counted = counted.map(|(start, end)| holder.counted(at(start)..at(end)));
        assert_eq!(counted, [Some(1), Some(2), Some(1), None, None]);
        assert!(holder.read_at(8, &mut all).is_err(), "no memory is there");
    }

    #[test]
    fn a_holder_of_another_process_is_refused() {
        let pair = Pair::start();
        let other = Owner { pid: 1, start: 7 };
        let refused = Holder::of_other(pair.task, pair.holder, pair.start_time(), other);
        assert!(refused.unwrap_err().to_string().contains("is a holder of process"));
    }

    #[test]
    fn a_holder_that_has_ended_is_an_error() {
        let pair = Pair::start();
        let holder = Holder::of(pair.task, pair.holder, pair.start_time(), own()).unwrap();
        let bond = Bond::open(pair.task.as_raw(), pair.holder.as_raw()).unwrap();
        bond.kill();
        assert!(criu_lab::soon(|| criu_lab::process::has_ended(pair.holder)));
        let ended = |error: io::Error| {
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
            assert!(error.to_string().contains("ended"), "{error}");
        };
        ended(holder.read_at(pair.range().start, &mut [0; 8]).unwrap_err());
        ended(holder.scan(pair.range(), &mut Vec::new()).unwrap_err());
        let opened = Holder::of(pair.task, pair.holder, holder.start(), own());
        assert!(opened.is_err(), "the remains");
        bond.reap(Instant::now() + Duration::from_secs(20)).unwrap();
        ended(holder.read_at(pair.range().start, &mut [0; 8]).unwrap_err());
    }

    #[test]
    fn a_process_that_is_not_the_holder_is_refused() {
        let pair = Pair::start();
        let words: Vec<AtomicU64> =
            (0..Journal::bytes(1) / 8).map(|_| AtomicU64::default()).collect();
        let record = Journal::make(&words).add(1).unwrap();
        let open = |pid: u64, start: u64| {
            record.set(Field::Holder, pid);
            record.set(Field::HolderStart, start);
            Holder::open(pair.task, &record).map(|holder| holder.pid()).map_err(|e| e.to_string())
        };
        let number = |pid: Pid| u64::try_from(pid.as_raw()).unwrap();
        let start = pair.start_time();
        assert_eq!(open(number(pair.holder), start), Ok(pair.holder));
        let said = open(number(pair.holder), start + 1).unwrap_err();
        assert!(said.contains(&format!("has started at tick {start}")), "{said}");
        let started = Stat::of(pair.task.as_raw()).unwrap().start;
        let said = open(number(pair.task), started).unwrap_err();
        assert!(said.ends_with("does not wait as a holder"), "{said}");
        for pid in [0, 1 << 31, u64::MAX, i32::MAX as u64] {
            assert!(open(pid, start).is_err());
        }
        let other = Owner { pid: 1, start: 1 };
        let stranger = Pid::new(hold(pair.task.as_raw(), other)).unwrap();
        let start = Stat::of(stranger.as_raw()).unwrap().start;
        let said = open(number(stranger), start).unwrap_err();
        assert!(said.ends_with("is a holder of process 1"), "{said}");
        kill(stranger.nix(), Signal::SIGKILL).unwrap();
    }
}
