//! An address space with missing pages: a userfaultfd and the map of what is missing.
//!
//! One rule keeps old bytes out of memory that a task has discarded or moved. The kernel lets a
//! task discard or move memory when its message is read. So a message is read, and the map changed,
//! while no other thread is between its look at the map and the end of its copy.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use nix::errno::Errno;

use super::missing::{Missing, PAGE, Run};
use super::supply::{self, Pages};
use super::watcher::Change;
use crate::sys::turn::{Held, Turn};
use crate::sys::uffd::{Event, Filled, Uffd};

/// An address space with missing pages.
#[derive(Debug)]
pub(super) struct Space {
    uffd: Uffd,
    process: Option<OwnedFd>,
    map: RwLock<Missing>,
    /// A lock for each thread that fills pages, and one for all others. A thread that looks at the
    /// map or copies holds its own, and a thread that reads messages holds them all. So nobody ever
    /// waits for the lock of the map, whose holders inherit no priority.
    turns: Box<[Turn]>,
}

/// A message that needs more than a change of the map.
#[derive(Debug)]
pub(super) enum Step {
    /// A thread waits for the page at an address.
    Fault(u64),
    /// The process has a child with missing pages of its own.
    Fork(Uffd, Missing),
}

/// The pages that were put in place, and the error that ended this early.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Placed {
    pub(super) pages: u64,
    pub(super) error: Option<Errno>,
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
    map: RwLockReadGuard<'s, Missing>,
    _turn: Held<'s>,
}

/// The right to read messages of a space.
struct Alone<'s> {
    map: RwLockWriteGuard<'s, Missing>,
    _turns: Vec<Held<'s>>,
}

impl Space {
    /// Takes a userfaultfd, the map of its missing pages, and the number of threads.
    pub(super) fn new(uffd: Uffd, process: Option<OwnedFd>, map: Missing, threads: usize) -> Self {
        let turns = (0..=threads).map(|_| Turn::default()).collect();
        Self { uffd, process, map: RwLock::new(map), turns }
    }

    /// Returns the descriptor of the process, if there is one.
    pub(super) fn process(&self) -> Option<BorrowedFd<'_>> {
        self.process.as_ref().map(AsFd::as_fd)
    }

    /// Reads the messages that wait, and changes the map. Returns false if none waited.
    pub(super) fn read(
        &self,
        steps: &mut Vec<Step>,
        mut changed: impl FnMut(&Change, u64),
    ) -> io::Result<bool> {
        let mut events = Vec::new();
        let mut alone = self.alone();
        self.uffd.read(&mut events)?;
        let any = !events.is_empty();
        for event in events {
            match event {
                Event::Fault { address } => steps.push(Step::Fault(address & !(PAGE - 1))),
                Event::Fork(uffd) => steps.push(Step::Fork(uffd, alone.map.fork())),
                Event::Remap { from, to, bytes } => {
                    alone.map.shift(from, to, bytes);
                    changed(&Change::Moved { from, to, bytes }, 0);
                }
                Event::Remove(range) | Event::Unmap(range) => {
                    let pages = alone.map.forget(&range);
                    changed(&Change::Gone(range), pages);
                }
            }
        }
        Ok(any)
    }

    /// Looks at the map. The answer may be old at once.
    pub(super) fn look<T>(&self, thread: usize, look: impl FnOnce(&Missing) -> T) -> T {
        look(&self.copying(thread).map)
    }

    /// Copies pages to where they are missing. `run` says where they belong, and pages that are not
    /// missing there, or not with this origin, are left out.
    pub(super) fn place(&self, thread: usize, run: Run, pages: &Pages<'_>) -> Placed {
        let end = run.address.saturating_add(pages.size().min(run.pages * PAGE));
        let mut placed = Placed::default();
        let mut address = run.address;
        while address < end && placed.error.is_none() {
            let most = ((end - address) / PAGE).min(PIECE);
            let copying = self.copying(thread);
            let Some(found) = copying.map.next(address, most) else { break };
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
                    self.uffd.copy(found.address, bytes.part(offset, size), false)
                }
                supply::Held::Zeros(_) => self.uffd.zero(found.address..found.address + size),
            };
            let done = copying.map.mark(found.address, filled.bytes / PAGE);
            placed.pages += done;
            address = found.address + filled.bytes / PAGE * PAGE;
            match filled {
                // A part was filled, and the next call tells why no more.
                Filled { bytes: 1.., .. } | Filled { error: None, .. } => {}
                Filled { error: Some(Errno::EEXIST), .. } => {
                    copying.map.mark(address, 1);
                    let _ = self.uffd.wake(address..address + PAGE);
                    address += PAGE;
                }
                Filled { error, .. } => placed.error = error,
            }
        }
        placed
    }

    /// Lets a page read as zeros if it is not missing.
    pub(super) fn zero(&self, thread: usize, address: u64) -> Result<Zeroed, Errno> {
        let copying = self.copying(thread);
        if copying.map.at(address, 1).is_some() {
            return Ok(Zeroed::Missing);
        }
        match self.uffd.zero(address..address + PAGE).error {
            None => Ok(Zeroed::There),
            Some(Errno::EEXIST) => {
                let _ = self.uffd.wake(address..address + PAGE);
                Ok(Zeroed::There)
            }
            Some(error) => Err(error),
        }
    }

    /// Lets the threads that wait for a page look again.
    pub(super) fn wake(&self, address: u64) {
        let _ = self.uffd.wake(address..address.saturating_add(PAGE));
    }

    /// Says that pages need not come: nobody can touch them.
    pub(super) fn drop_pages(&self, thread: usize, run: Run) -> u64 {
        self.copying(thread).map.mark(run.address, run.pages)
    }

    /// Makes each access to a missing page end in `SIGBUS`. Linux 6.6: `EINVAL` before.
    pub(super) fn poison(&self, thread: usize) -> Result<(), Errno> {
        let mut from = 0;
        loop {
            let copying = self.copying(thread);
            let Some(run) = copying.map.next(from, PIECE) else { return Ok(()) };
            let end = run.address + run.pages * PAGE;
            let filled = self.uffd.poison(run.address..end);
            copying.map.mark(run.address, filled.bytes / PAGE);
            from = run.address + filled.bytes / PAGE * PAGE;
            drop(copying);
            match filled {
                Filled { bytes: 1.., .. } | Filled { error: None, .. } => {}
                // Pages that are there, and memory that is no longer there.
                Filled { error: Some(Errno::EEXIST | Errno::ENOENT), .. } => {
                    self.copying(thread).map.mark(from, 1);
                    self.wake(from);
                    from += PAGE;
                }
                Filled { error: Some(Errno::ESRCH), .. } => return Ok(()),
                Filled { error: Some(error), .. } => return Err(error),
            }
        }
    }

    /// Returns true if the address space is gone: its process has ended or runs another program.
    pub(super) fn is_gone(&self, thread: usize) -> bool {
        let copying = self.copying(thread);
        if copying.map.at(PROBE, 1).is_some() {
            return false;
        }
        // Memory that may be there is not missing, so its pages are zeros or there already.
        self.uffd.zero(PROBE..PROBE + PAGE).error == Some(Errno::ESRCH)
    }

    fn copying(&self, thread: usize) -> Copying<'_> {
        let turn = self.turns[thread.min(self.turns.len() - 1)].take();
        Copying { map: self.map.read().unwrap_or_else(PoisonError::into_inner), _turn: turn }
    }

    fn alone(&self) -> Alone<'_> {
        let turns = self.turns.iter().map(Turn::take).collect();
        Alone { map: self.map.write().unwrap_or_else(PoisonError::into_inner), _turns: turns }
    }
}

impl AsFd for Space {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.uffd.as_fd()
    }
}

/// The number of a thread that is none of the handler's.
pub(super) const OTHER: usize = usize::MAX;

/// The most pages that are copied at once: a thread that reads messages waits for no more. Larger
/// pieces are no faster.
const PIECE: u64 = 16;

/// An address that programs do not use, above the lowest that the kernel allows.
const PROBE: u64 = 1 << 20;
