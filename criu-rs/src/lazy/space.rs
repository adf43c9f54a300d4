//! An address space with missing pages: a userfaultfd and the map of what is missing.
//!
//! A rule keeps old bytes out of memory that a task has discarded or moved. The kernel lets a
//! task discard or move memory when its message is read. So a message is read, and the map changed,
//! while no other thread is between its look at the map and the end of its copy.
//!
//! The kernel sends the messages of `munmap` and `mremap` after the change, without a lock. So the
//! messages of two threads of a task can come in the wrong order: pages that one thread has moved
//! to where another has just unmapped memory then count as unmapped, and read as zeros.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use nix::errno::Errno;

use super::missing::{Missing, PAGE, Run};
use super::supply::{self, Pages};
use super::watcher::Change;
use crate::sys::turn::{Held, Turn};
pub(super) use crate::sys::uffd::MESSAGES;
use crate::sys::uffd::{Event, Filled, Uffd};

/// An address space with missing pages.
#[derive(Debug)]
pub(super) struct Space {
    process: Option<OwnedFd>,
    memory: RwLock<Memory>,
    /// A lock for each thread that fills pages, and one for all others. A thread that looks at the
    /// map or copies holds its own, and a thread that reads messages holds them all. So nobody ever
    /// waits for the lock of the memory, whose holders inherit no priority.
    turns: Box<[Turn]>,
    /// The number of threads that wait to read messages. Threads that copy let these go first: a
    /// thread that copies piece after piece would take its lock again before the waiting thread is
    /// awake.
    readers: AtomicU32,
}

/// The memory of a space.
#[derive(Debug)]
struct Memory {
    /// `None` once the space has ended.
    uffd: Option<Uffd>,
    map: Missing,
}

/// A message that needs more than a change of the map.
#[derive(Debug)]
pub(super) enum Step {
    /// A thread waits for the page at an address.
    Fault(u64),
    /// The process has a child with missing pages of its own.
    Fork(Uffd, Missing),
}

/// The pages that were put in place, and the error that ended this early. `ENOENT`: the page at
/// `address` has no memory.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Placed {
    pub(super) pages: u64,
    pub(super) error: Option<Errno>,
    /// The address of the first page that was not looked at, or that has the error.
    pub(super) address: u64,
}

/// The state of a page that a thread waits for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Zeroed {
    /// The page is there.
    There,
    /// The page is missing: its bytes must come from the source.
    Missing,
}

/// The right to copy pages into a space.
struct Copying<'s> {
    memory: RwLockReadGuard<'s, Memory>,
    _turn: Held<'s>,
}

/// The right to read messages of a space.
struct Alone<'s> {
    memory: RwLockWriteGuard<'s, Memory>,
    _turns: Vec<Held<'s>>,
}

impl Space {
    /// Takes a userfaultfd, the map of its missing pages, and the number of threads.
    pub(super) fn new(uffd: Uffd, process: Option<OwnedFd>, map: Missing, threads: usize) -> Self {
        let turns = (0..=threads).map(|_| Turn::default()).collect();
        Self {
            process,
            memory: RwLock::new(Memory { uffd: Some(uffd), map }),
            turns,
            readers: AtomicU32::new(0),
        }
    }

    /// Takes the userfaultfd out of the space: nothing is filled from now on. `None` if it is gone.
    pub(super) fn close(&self) -> Option<Uffd> {
        self.alone().memory.uffd.take()
    }

    /// Passes the userfaultfd to a function. `None` if it is gone.
    pub(super) fn descriptor<T>(&self, look: impl FnOnce(BorrowedFd<'_>) -> T) -> Option<T> {
        self.copying(OTHER).memory.uffd.as_ref().map(|uffd| look(uffd.as_fd()))
    }

    /// Returns the descriptor of the process, if there is one.
    pub(super) fn process(&self) -> Option<BorrowedFd<'_>> {
        self.process.as_ref().map(AsFd::as_fd)
    }

    /// Reads the messages that wait, at most [`MESSAGES`], and changes the map. Returns their
    /// number.
    pub(super) fn read(
        &self,
        steps: &mut Vec<Step>,
        mut changed: impl FnMut(&Change, u64),
    ) -> io::Result<usize> {
        let mut events = Vec::new();
        let mut alone = self.alone();
        let Memory { uffd, map } = &mut *alone.memory;
        let Some(uffd) = uffd else { return Ok(0) };
        uffd.read(&mut events)?;
        let count = events.len();
        for event in events {
            match event {
                Event::Fault { address } => steps.push(Step::Fault(address & !(PAGE - 1))),
                Event::Fork(uffd) => steps.push(Step::Fork(uffd, map.fork())),
                Event::Remap { from, to, bytes } => {
                    map.shift(from, to, bytes);
                    changed(&Change::Moved { from, to, bytes }, 0);
                }
                Event::Remove(range) | Event::Unmap(range) => {
                    let pages = map.forget(&range);
                    changed(&Change::Gone(range), pages);
                }
            }
        }
        Ok(count)
    }

    /// Looks at the map. The answer may be old at once.
    pub(super) fn look<T>(&self, thread: usize, look: impl FnOnce(&Missing) -> T) -> T {
        look(&self.copying(thread).memory.map)
    }

    /// Copies pages to where they are missing. `run` says where they belong, and pages that are not
    /// missing there, or not with this origin, are left out. `count` is told each number of pages
    /// that were placed, before the space can end.
    pub(super) fn place(
        &self,
        thread: usize,
        run: Run,
        pages: &Pages<'_>,
        count: impl Fn(u64),
    ) -> Placed {
        let end = run.address.saturating_add(pages.size().min(run.pages * PAGE));
        let mut placed = Placed::default();
        let (mut address, mut step) = (run.address, PIECE);
        while address < end && placed.error.is_none() {
            let most = ((end - address) / PAGE).min(step);
            let copying = self.copying(thread);
            let Memory { uffd: Some(uffd), map } = &*copying.memory else {
                placed.error = Some(Errno::ESRCH);
                break;
            };
            let Some(found) = map.next(address, most) else { break };
            if found.address >= end {
                break;
            }
            let offset = found.address - run.address;
            if found.origin != run.origin.wrapping_add(offset) {
                address = found.address + PAGE;
                continue;
            }
            let size = (found.pages * PAGE).min(end - found.address);
            let filled = match &pages.0 {
                supply::Held::Bytes(bytes) => {
                    let bytes = supply::rest(bytes, offset);
                    let size = usize::try_from(size).unwrap_or(usize::MAX).min(bytes.len());
                    uffd.copy(found.address, bytes.get(..size).unwrap_or_default())
                }
                supply::Held::Zeros(_) => uffd.zero(found.address..found.address + size),
            };
            // Another thread may have found the page there and have marked it already.
            let done = filled.bytes / PAGE;
            map.mark(found.address, done);
            count(done);
            placed.pages += done;
            address = found.address + done * PAGE;
            match filled {
                // A part was filled, and the next call tells why no more.
                Filled { bytes: 1.., .. } | Filled { error: None, .. } => {
                    step = (step * 2).min(PIECE);
                }
                Filled { error: Some(Errno::EEXIST), .. } => {
                    map.mark(address, 1);
                    let _ = uffd.wake(address..address + PAGE);
                    address += PAGE;
                }
                // The pages may be of several areas: the kernel fills one area at a time.
                Filled { error: Some(Errno::ENOENT), .. } if size > PAGE => {
                    step = size / PAGE / 2;
                }
                Filled { error, .. } => placed.error = error,
            }
        }
        Placed { address, ..placed }
    }

    /// Lets a page read as zeros if it is not missing.
    pub(super) fn zero(&self, thread: usize, address: u64) -> Result<Zeroed, Errno> {
        let copying = self.copying(thread);
        let Memory { uffd: Some(uffd), map } = &*copying.memory else { return Err(Errno::ESRCH) };
        if map.at(address, 1).is_some() {
            return Ok(Zeroed::Missing);
        }
        match uffd.zero(address..address + PAGE).error {
            None => Ok(Zeroed::There),
            Some(Errno::EEXIST) => {
                let _ = uffd.wake(address..address + PAGE);
                Ok(Zeroed::There)
            }
            Some(error) => Err(error),
        }
    }

    /// Lets the threads that wait for a page look again.
    pub(super) fn wake(&self, thread: usize, address: u64) {
        if let Some(uffd) = &self.copying(thread).memory.uffd {
            let _ = uffd.wake(address..address.saturating_add(PAGE));
        }
    }

    /// Says that missing pages in a row need not come, from one on, as long as no memory is there.
    /// Takes at most so many.
    pub(super) fn drop_pages(&self, thread: usize, mut address: u64, most: u64) {
        for _ in 0..most {
            let copying = self.copying(thread);
            let Memory { uffd: Some(uffd), map } = &*copying.memory else { return };
            if map.at(address, 1).is_none() {
                return;
            }
            if uffd.probe(address, PAGE) != Some(Errno::ENOENT) {
                return;
            }
            map.mark(address, 1);
            address += PAGE;
        }
    }

    /// Makes each access to a missing page end in `SIGBUS`. Linux 6.6: `EINVAL` before. `EAGAIN` if
    /// some pages are left, because messages must be read first.
    ///
    /// Missing pages without memory count as gone if `is_registered`: no memory becomes registered
    /// later.
    pub(super) fn poison(&self, thread: usize, is_registered: bool) -> Result<(), Errno> {
        let (mut from, mut step, mut is_whole) = (0, POISON, true);
        loop {
            let copying = self.copying(thread);
            let Memory { uffd: Some(uffd), map } = &*copying.memory else { return Ok(()) };
            let Some(run) = map.next(from, step) else { break };
            let filled = uffd.poison(run.address..run.address + run.pages * PAGE);
            map.mark(run.address, filled.bytes / PAGE);
            from = run.address + filled.bytes / PAGE * PAGE;
            match filled {
                Filled { bytes: 1.., .. } | Filled { error: None, .. } => {
                    step = (step * 2).min(POISON);
                }
                Filled { error: Some(Errno::EEXIST), .. } => {
                    map.mark(from, 1);
                    let _ = uffd.wake(from..from + PAGE);
                    from += PAGE;
                }
                // As in `place`.
                Filled { error: Some(Errno::ENOENT), .. } if run.pages > 1 => {
                    step = run.pages / 2;
                }
                Filled { error: Some(Errno::ENOENT), .. } => {
                    if is_registered {
                        map.mark(from, 1);
                    }
                    is_whole &= is_registered;
                    from += PAGE;
                }
                Filled { error: Some(Errno::ESRCH), .. } => return Ok(()),
                Filled { error: Some(error), .. } => return Err(error),
            }
        }
        if is_whole { Ok(()) } else { Err(Errno::EAGAIN) }
    }

    /// Returns true if the address space is gone: its process has ended or runs another program.
    pub(super) fn is_gone(&self, thread: usize) -> bool {
        let copying = self.copying(thread);
        let Memory { uffd: Some(uffd), map } = &*copying.memory else { return true };
        if map.at(PROBE, 1).is_some() {
            return false;
        }
        // Memory that may be there is not missing, so its pages are zeros or there already.
        uffd.zero(PROBE..PROBE + PAGE).error == Some(Errno::ESRCH)
    }

    fn copying(&self, thread: usize) -> Copying<'_> {
        for _ in 0..PATIENCE {
            if self.readers.load(Ordering::Relaxed) == 0 {
                break;
            }
            std::hint::spin_loop();
        }
        let turn = self.turns[thread.min(self.turns.len() - 1)].take();
        let memory = self.memory.read().unwrap_or_else(PoisonError::into_inner);
        Copying { memory, _turn: turn }
    }

    fn alone(&self) -> Alone<'_> {
        self.readers.fetch_add(1, Ordering::Relaxed);
        let turns = self.turns.iter().map(Turn::take).collect();
        self.readers.fetch_sub(1, Ordering::Relaxed);
        let memory = self.memory.write().unwrap_or_else(PoisonError::into_inner);
        Alone { memory, _turns: turns }
    }
}

/// The number of a thread that is none of the handler's.
pub(super) const OTHER: usize = usize::MAX;

/// The looks of a thread that copies at those that wait to read messages: some 100 microseconds.
const PATIENCE: u32 = 8000;

/// The most pages that are copied at once: a thread that reads messages waits for no more. Larger
/// pieces are no faster.
const PIECE: u64 = 16;

/// The most pages that are poisoned at once. The tasks may send messages all the time, and each
/// keeps the next call from its work.
const POISON: u64 = 4096;

/// An address that programs do not use, above the lowest that the kernel allows.
const PROBE: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use criu_lab::lazy::{Region, userfaultfd};

    use super::*;

    const OLD: [u8; 4096] = [7; 4096];

    /// Returns memory of this process, and its space.
    fn space(pages: usize) -> (Region, Space, OwnedFd) {
        let (region, fd) = (Region::new(pages), userfaultfd());
        region.register(&fd);
        let start = region.start as u64;
        let missing = start..start + pages as u64 * PAGE;
        let map = Missing::new(std::slice::from_ref(&missing)).unwrap();
        let uffd = Uffd::try_from(fd.try_clone().unwrap()).unwrap();
        (region, Space::new(uffd, None, map, 2), fd)
    }

    /// Reads messages until one has come.
    fn read_one(space: &Space) {
        while space.read(&mut Vec::new(), |_, _| {}).unwrap() == 0 {
            std::thread::yield_now();
        }
    }

    fn run_at(region: Region, page: usize) -> Run {
        let address = region.page(page) as u64;
        Run { address, origin: address, pages: 1 }
    }

    #[test]
    fn old_bytes_do_not_land_in_memory_that_was_discarded_since_a_look() {
        let (region, space, _fd) = space(2);
        let seen = space.look(0, |map| map.at(region.page(0) as u64, 2)).unwrap();
        assert_eq!(seen.pages, 2);
        std::thread::scope(|scope| {
            scope.spawn(|| region.discard());
            read_one(&space);
        });
        let placed = space.place(0, Run { pages: 1, ..seen }, &Pages::new(&OLD), |_| {});
        assert_eq!((placed.pages, placed.error), (0, None));
        assert_eq!(space.zero(0, region.page(0) as u64), Ok(Zeroed::There));
        assert_eq!(region.word(0, 0), 0);
        // The control: a copy that does not look again under the lock brings the old bytes back.
        let memory = space.memory.read().unwrap();
        let uffd = memory.uffd.as_ref().unwrap();
        assert_eq!(uffd.copy(region.page(1) as u64, &OLD).bytes, PAGE);
        assert_eq!(region.word(1, 0), u64::from_ne_bytes([7; 8]));
    }

    #[test]
    fn a_process_does_not_discard_memory_between_a_look_and_a_copy() {
        let (region, space, _fd) = space(1);
        let has_discarded = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let copying = space.copying(1);
            scope.spawn(|| {
                region.discard();
                has_discarded.store(true, Ordering::SeqCst);
            });
            scope.spawn(|| read_one(&space));
            std::thread::sleep(Duration::from_millis(50));
            assert!(!has_discarded.load(Ordering::SeqCst), "the message was read");
            drop(copying);
        });
        assert!(has_discarded.load(Ordering::SeqCst));
        assert_eq!(space.look(0, Missing::left), 0);
    }

    #[test]
    fn pages_that_moved_have_their_bytes_and_others_are_not_touched() {
        let (region, space, fd) = space(2);
        let target = Region::new(1);
        std::thread::scope(|scope| {
            let moving = scope.spawn(|| region.part(0, 1).move_to(target));
            // A message of the move, and one of the memory that is unmapped behind it.
            while !moving.is_finished() {
                space.read(&mut Vec::new(), |_, _| {}).unwrap();
            }
        });
        let moved = space.look(0, |map| map.at(target.page(0) as u64, 1)).unwrap();
        assert_eq!(moved.origin, region.page(0) as u64);
        // A request from before the move.
        let old = space.place(0, run_at(region, 0), &Pages::new(&OLD), |_| {});
        assert_eq!((old.pages, old.error), (0, None));
        // Another origin than that of the page.
        let other = Run { origin: moved.origin + PAGE, ..moved };
        assert_eq!(space.place(0, other, &Pages::new(&OLD), |_| {}).pages, 0);
        // The kernel counts the move as under way until its thread has run.
        let mut placed = space.place(0, moved, &Pages::new(&OLD), |_| {});
        while placed.error == Some(Errno::EAGAIN) {
            placed = space.place(0, moved, &Pages::new(&OLD), |_| {});
        }
        assert_eq!((placed.pages, placed.error), (1, None));
        assert_eq!(target.word(0, 511), u64::from_ne_bytes([7; 8]));
        assert!(!space.is_gone(0));
        assert!(space.close().is_some() && space.close().is_none());
        let placed = space.place(0, run_at(region, 1), &Pages::new(&OLD), |_| {});
        assert_eq!(placed.error, Some(Errno::ESRCH));
        drop(fd);
        // Nobody serves the page any more: the kernel gives zeros.
        assert_eq!(region.word(1, 0), 0);
    }
}
