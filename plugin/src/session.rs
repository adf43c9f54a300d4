//! A dump: the journal, the slot of `ioctl`, and the task that CRIU looks at.

use std::io;
use std::os::fd::BorrowedFd;

use crate::children;
use crate::flags;
use crate::inject::{self, GiveUp, Owner};
use crate::journal::{Field, Head, Journal, Plugin, Reason, Record, State};
use crate::scan;
use crate::sys::call::{Access, Fd};
use crate::sys::got::{self, Slots};
use crate::sys::pagemap::{PAGEMAP_SCAN, Pagemap, Scan};
use crate::sys::path::Path;
use crate::sys::proc::{self, Stat, Status};
use crate::sys::shared::Mapped;
use crate::sys::task;
use crate::watch::Watch;

/// A dump for which somebody wants holders.
#[derive(Debug)]
pub(crate) struct Session {
    mapped: Mapped,
    watch: Watch,
    /// The slots of `ioctl`, and those of `openat` if there are holders to hide, or flags that were
    /// read before the freeze.
    slots: (Slots, Option<Slots>),
    /// Tells that there are holders to hide.
    hides: bool,
}

/// Addresses of the functions that CRIU calls in place of those of the C library.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Calls {
    pub(crate) ioctl: usize,
    pub(crate) openat: usize,
}

/// The effect on a dump if there is no session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Without {
    /// CRIU saves everything itself.
    Complete,
    /// CRIU would save holders as if they were tasks.
    Wrong,
}

impl Session {
    /// Gets ready, and says so in the journal.
    ///
    /// # Errors
    /// CRIU, the kernel or the journal is none that the plugin can work with.
    pub(crate) fn begin(mapped: Mapped, calls: &Calls) -> Result<Self, Without> {
        let journal = Journal::new(mapped.words()).filter(is_of_owner).ok_or(Without::Complete)?;
        let are_kept = children::are_kept(&journal);
        match redirect(calls, are_kept, flags::are_known(&journal)) {
            Ok(slots) => {
                journal.set(Head::Plugin, Plugin::Ready as u64);
                Ok(Self { mapped, watch: Watch::default(), slots, hides: are_kept })
            }
            Err(error) => {
                journal.set(Head::Errno, number(&error));
                journal.set(Head::Plugin, Plugin::Refused as u64);
                Err(if are_kept { Without::Wrong } else { Without::Complete })
            }
        }
    }

    /// Takes the holders of earlier dumps out of an open list of children.
    ///
    /// # Errors
    /// The errors of [`children::hide`].
    pub(crate) fn children(&self, parent: BorrowedFd<'_>, fd: BorrowedFd<'_>) -> io::Result<()> {
        let journal = Journal::new(self.mapped.words()).ok_or(io::ErrorKind::InvalidData)?;
        children::hide(&journal, parent, fd)?;
        journal.set(Head::Lists, journal.head(Head::Lists) + 1);
        Ok(())
    }

    /// Tells whether there are holders of earlier dumps to hide.
    pub(crate) fn hides(&self) -> bool {
        self.hides
    }

    /// Gives CRIU the flags of mappings as they were before the freeze.
    ///
    /// # Errors
    /// The errors of [`flags::give`].
    pub(crate) fn flags(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        let journal = Journal::new(self.mapped.words()).ok_or(io::ErrorKind::InvalidData)?;
        flags::give(&journal, fd)
    }

    /// Makes a holder of a stopped task, if the journal wants one. Returns false if the task is not
    /// as it was, so that its images would be wrong.
    pub(crate) fn task(&mut self, pid: i32) -> bool {
        let Some(journal) = Journal::new(self.mapped.words()) else { return true };
        let id = u64::from(pid.unsigned_abs());
        let Some(record) = journal.find(id).or_else(|| journal.add(id)) else { return true };
        let Err(GiveUp { reason, errno }) = hold(&journal, &record, pid) else { return true };
        record.set(Field::Reason, reason as u64);
        record.set(Field::Errno, u64::from(errno.unsigned_abs()));
        record.pass(State::GivenUp);
        reason != Reason::Lost
    }

    /// Answers a scan of a pagemap. Returns `None` if the kernel is to answer.
    pub(crate) fn scan(&mut self, fd: i32, scan: &mut Scan) -> Option<i32> {
        let journal = Journal::new(self.mapped.words())?;
        scan::answer(&mut self.watch, &journal, fd, scan)
    }

    /// Ends the holders of a dump that has failed. CRIU's calls reach the kernel again.
    pub(crate) fn end(self, is_done: bool) {
        let Self { mapped, watch, slots, .. } = self;
        drop((watch, slots));
        let Some(journal) = Journal::new(mapped.words()).filter(|_| !is_done) else { return };
        let held = || journal.records().filter_map(|record| Some((record, held_by(&record)?)));
        // They give back their memory side by side.
        for (_, (task, holder)) in held() {
            let _ = inject::kill(task, holder);
        }
        for (record, (task, holder)) in held() {
            // criu-rs ends what is left.
            if inject::end(task, holder).is_ok() {
                record.pass(State::Ended);
            }
        }
    }
}

/// Leads CRIU's calls of `ioctl` to the plugin, if CRIU and the kernel know the scan of pagemaps,
/// and those of `openat`, if there are holders to hide or flags to give.
///
/// # Errors
/// `ENOTTY` if the kernel has no such scan, `ENOEXEC` if CRIU has none or is linked in a way that
/// is not known, and the errors of `mprotect(2)`.
fn redirect(calls: &Calls, are_kept: bool, are_known: bool) -> io::Result<(Slots, Option<Slots>)> {
    let path = Path::of(format_args!("/proc/self/pagemap"))?;
    Pagemap::new(Fd::open_path(&path, Access::Read)?)?;
    if !got::mentions(PAGEMAP_SCAN) {
        return Err(io::Error::from_raw_os_error(libc::ENOEXEC));
    }
    let known = libc::ioctl as *const () as usize;
    let scans = Slots::redirect(c"ioctl", known, calls.ioctl)?;
    let opens = || {
        let known = libc::openat64 as *const () as usize;
        Slots::redirect(c"openat64", known, calls.openat)
    };
    let opened = match are_kept {
        true => Some(opens()?),
        // Without the slots, CRIU reads the flags itself.
        false => are_known.then(opens).and_then(Result::ok),
    };
    Ok((scans, opened))
}

/// Tells whether the process that a journal names as its owner is the one that has written it.
fn is_of_owner(journal: &Journal<'_>) -> bool {
    let owner = i32::try_from(journal.head(Head::Owner)).ok();
    let stat = owner.and_then(|owner| Stat::of(owner).ok());
    stat.is_some_and(|stat| stat.start == journal.head(Head::OwnerStart))
}

/// The task and the holder of a record, if the holder is still the process that the record names.
fn held_by(record: &Record<'_>) -> Option<(i32, i32)> {
    let number = |field| i32::try_from(record.get(field)).ok();
    let (task, holder) = number(Field::Task).zip(number(Field::Holder))?;
    let is_it = || Stat::of(holder).is_ok_and(|stat| stat.start == record.get(Field::HolderStart));
    (record.state() == Some(State::Held) && is_it()).then_some((task, holder))
}

/// Forks a task that is wanted, and notes its holder.
fn hold(journal: &Journal<'_>, record: &Record<'_>, pid: i32) -> Result<(), GiveUp> {
    let start = Stat::of(pid).map_err(stop)?.start;
    let status = Status::of(pid).map_err(stop)?;
    // A record of another start time is about an earlier process of this number.
    let is_known = [0, start].contains(&record.get(Field::TaskStart));
    record.set(Field::TaskStart, start);
    record.set(Field::Inner, u64::from(status.inner().unsigned_abs()));
    match record.state() {
        Some(State::Wanted) if is_known => {}
        Some(State::Unwanted) if is_known => return Ok(()),
        Some(State::Free | State::Wanted | State::Unwanted) => {
            let bytes = proc::private_bytes(pid).map_err(stop)?;
            if bytes < journal.head(Head::LeastBytes) {
                return Err(GiveUp { reason: Reason::Small, errno: 0 });
            }
        }
        _ => return Ok(()),
    }
    if status.tracer != task::own_thread() {
        return Err(GiveUp { reason: Reason::Stop, errno: libc::EPERM });
    }
    // The holder would be one more number among the children of the task.
    if status.inner() != pid && children::have_ended(pid).map_err(stop)? {
        return Err(GiveUp { reason: Reason::Ended, errno: 0 });
    }
    record.set(Field::Stack, task::stack_pointer(pid).map_err(stop)?);
    // A kernel without such areas does not know the question.
    record.set(Field::Rseq, task::rseq(pid).unwrap_or(0));
    record.pass(State::Forking);
    let owner = i32::try_from(journal.head(Head::Owner)).unwrap_or(0);
    let owner = Owner { pid: owner, start: journal.head(Head::OwnerStart) };
    let held = inject::fork_held(pid, owner)?;
    record.set(Field::Holder, u64::from(held.pid.unsigned_abs()));
    record.set(Field::HolderStart, held.start);
    record.set(Field::ForkTime, held.nanoseconds);
    record.pass(State::Held);
    Ok(())
}

/// A task that cannot be looked at.
fn stop(error: impl Into<io::Error>) -> GiveUp {
    GiveUp { reason: Reason::Stop, errno: errno(&error.into()) }
}

fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}

fn number(error: &io::Error) -> u64 {
    u64::from(errno(error).unsigned_abs())
}
