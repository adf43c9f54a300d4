//! Restrictions of threads by seccomp(2).

use std::fmt;
use std::sync::{Arc, PoisonError};

use crate::arch::Architecture;
use crate::bpf::{Program, Summary};
use crate::error::{Error, ErrorKind, Fault, Result};
use crate::kind;
use crate::proto::{CoreEntry, SeccompFilter, SeccompMode};
use crate::set::ImageSet;
use crate::task::{Task, Thread};

/// Restrictions of threads by seccomp(2).
///
/// ```
/// use criu_images::{ImageSet, Seccomp};
///
/// let set = ImageSet::open("tests/data/pipeline")?;
/// for thread in set.checkpoint()?.root().threads()? {
///     assert!(matches!(thread.seccomp()?, Seccomp::Off));
/// }
/// # Ok::<(), criu_images::Error>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Seccomp<'a> {
    /// No restriction.
    Off,
    /// Strict mode: the thread may only call read(2), write(2), _exit(2) and sigreturn(2).
    Strict,
    /// Filters decide, listed in the order in which they were installed. All of them run; the
    /// strictest answer wins.
    Filters(Vec<Filter<'a>>),
}

/// A seccomp filter of a thread, from `seccomp.img`.
#[derive(Clone, Copy, Debug)]
pub struct Filter<'a> {
    index: u32,
    entry: &'a SeccompFilter,
    arch: Architecture,
    set: &'a ImageSet,
}

impl<'a> Seccomp<'a> {
    pub(crate) fn of(thread: &'a Thread<'_>, set: &'a ImageSet) -> Result<Self> {
        let (mode, first) = match own(thread) {
            // Only the first thread records a filter that all threads have.
            (None, None) => match of_leader(&thread.task()) {
                (Some(SeccompMode::Filter), Some(first)) => {
                    let filters = &set.seccomp()?.seccomp_filters;
                    let shared = filters.get(first as usize);
                    if shared.is_some_and(|filter| filter.flags() & FLAG_TSYNC != 0) {
                        (SeccompMode::Filter, Some(first))
                    } else {
                        return Ok(Self::Off);
                    }
                }
                _ => return Ok(Self::Off),
            },
            (mode, first) => (mode.unwrap_or(SeccompMode::Disabled), first),
        };
        match (mode, first) {
            (SeccompMode::Disabled, _) => Ok(Self::Off),
            (SeccompMode::Strict, _) => Ok(Self::Strict),
            (SeccompMode::Filter, first) => {
                Self::chain(thread, set, first.unwrap_or(0)).map(Self::Filters)
            }
        }
    }

    fn chain(thread: &Thread<'_>, set: &'a ImageSet, first: u32) -> Result<Vec<Filter<'a>>> {
        let all = &set.seccomp()?.seccomp_filters;
        let arch = thread.architecture().ok_or_else(|| {
            let name = kind::CORE.file_name(thread.tid().into());
            let found = u64::try_from(thread.core().mtype).unwrap_or(u64::MAX);
            let want = "a known architecture";
            Error::new(
                name,
                Fault::from(ErrorKind::Value { found, want }).field("core_entry", "mtype"),
            )
        })?;
        let mut filters = Vec::new();
        let mut next = Some(first);
        while let Some(index) = next {
            let fail = |kind| Error::new(kind::SECCOMP.file, Fault::from(kind));
            if filters.len() == all.len() && !all.is_empty() {
                return Err(fail(ErrorKind::Malformed("has filters that form a loop")));
            }
            if filters.len() == MAX_FILTERS {
                let (what, limit) = ("filters of a thread", MAX_FILTERS as u64);
                return Err(fail(ErrorKind::TooMany { what, limit }));
            }
            let (what, id) = ("seccomp filter", index.into());
            let entry = all.get(index as usize);
            let entry = entry.ok_or_else(|| fail(ErrorKind::Dangling { what, id }))?;
            filters.push(Filter { index, entry, arch, set });
            next = entry.prev;
        }
        Ok(filters)
    }
}

impl Thread<'_> {
    /// Restrictions of this thread by seccomp(2).
    ///
    /// # Errors
    /// The errors of `seccomp.img`; [`ErrorKind::Dangling`] if the set does not have a filter that
    /// is named; [`ErrorKind::Malformed`] if the filters form a loop; [`ErrorKind::TooMany`] for
    /// more filters than the kernel lets a thread have.
    pub fn seccomp(&self) -> Result<Seccomp<'_>> {
        Seccomp::of(self, self.task().set())
    }
}

impl<'a> Filter<'a> {
    /// Place of the filter in `seccomp.img`, from 0.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// All data of the filter in the set.
    pub fn entry(&self) -> &'a SeccompFilter {
        self.entry
    }

    /// Instructions of the filter.
    ///
    /// # Errors
    /// The errors of [`Program::parse`], with the place in the filter.
    pub fn program(&self) -> Result<Program> {
        let program = Program::read(&self.entry.filter, self.arch);
        program.map_err(|fault| {
            Error::new(kind::SECCOMP.file, fault.field("seccomp_filter", "filter"))
        })
    }

    /// Returns the answers of the filter to all system calls.
    ///
    /// The filters of a set have a common budget. Once it is spent, the answers of programs that
    /// were not seen before are [unknown](Summary::is_complete).
    ///
    /// # Errors
    /// The errors of [`program`](Self::program).
    pub fn summary(&self) -> Result<Arc<Summary>> {
        let mut summaries = self.set.summaries().lock().unwrap_or_else(PoisonError::into_inner);
        let place = (self.arch, self.index);
        summaries.of(place, &self.entry.filter, || self.program())
    }

    /// Names of the flags, without `SECCOMP_FILTER_FLAG_`. CRIU adds TSYNC to a filter of all
    /// threads.
    pub fn flags(&self) -> impl Iterator<Item = &'static str> {
        let flags = self.entry.flags();
        let names =
            ["TSYNC", "LOG", "SPEC_ALLOW", "NEW_LISTENER", "TSYNC_ESRCH", "WAIT_KILLABLE_RECV"];
        let named = names.into_iter().enumerate();
        named.filter(move |(bit, _)| flags >> bit & 1 != 0).map(|(_, name)| name)
    }
}

impl fmt::Display for Seccomp<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Strict => f.write_str("strict"),
            Self::Filters(filters) if filters.len() == 1 => f.write_str("1 filter"),
            Self::Filters(filters) => write!(f, "{} filters", filters.len()),
        }
    }
}

/// Mode and filter, as far as images have them.
type SavedSeccomp = (Option<SeccompMode>, Option<u32>);

/// Reads mode and filter from a thread's own image.
fn own(thread: &Thread<'_>) -> SavedSeccomp {
    if thread.tid() == thread.task().pid() {
        of_leader(&thread.task())
    } else {
        in_core(thread.core())
    }
}

/// Reads mode and filter of a task's first thread; older sets have them in the part of the task.
fn of_leader(task: &Task<'_>) -> SavedSeccomp {
    let own = in_core(task.leader());
    if own.0.is_some() {
        return own;
    }
    let task = task.core();
    (task.old_seccomp_mode.and_then(|mode| mode.try_into().ok()), task.old_seccomp_filter)
}

fn in_core(core: &CoreEntry) -> SavedSeccomp {
    let thread = core.thread_core.as_ref();
    let mode = thread.and_then(|thread| thread.seccomp_mode?.try_into().ok());
    (mode, thread.and_then(|thread| thread.seccomp_filter))
}

/// Most filters of a thread. The kernel lets a thread have 32,768 instructions, and counts a filter
/// as at least five.
const MAX_FILTERS: usize = 32_768 / 5 + 1;

/// `SECCOMP_FILTER_FLAG_TSYNC`
const FLAG_TSYNC: u32 = 1;
