//! The journal that this process shares with the plugin.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::PathBuf;

use criu_plugin::journal::{Field, Head, Journal, MOST, Plugin, Reason, Record, State};
use nix::errno::Errno;

use super::error::InstantError;
use super::outcome::WhyNot;
use super::plan::{Plan, Verdict};
use crate::host::tree;
use crate::sys::shared::SharedWords;
use crate::value::Pid;

/// The journal of one dump.
#[derive(Debug)]
pub(super) struct Shared(SharedWords);

impl Shared {
    /// Makes a journal with the verdicts of a plan, and room for tasks that begin until the freeze.
    /// `kept` are the holders of an earlier round, which CRIU is not to see.
    pub(super) fn new(plan: &Plan, kept: &[(Pid, u64)]) -> io::Result<Self> {
        let capacity = plan.tasks.len().saturating_mul(2).saturating_add(SPARE);
        let capacity = capacity.saturating_add(kept.len()).min(MOST);
        let shared = Self(SharedWords::new(Journal::bytes(capacity))?);
        let journal = Journal::make(shared.0.words());
        let own = Pid::this();
        let start = tree::started_at(own).ok_or_else(|| io::Error::other("no /proc/self/stat"))?;
        journal.set(Head::Owner, id(own));
        journal.set(Head::OwnerStart, start);
        journal.set(Head::LeastBytes, plan.least_unknown);
        for task in &plan.tasks {
            let record = journal.add(id(task.pid));
            let record = record.ok_or_else(|| io::Error::other("more than 65536 processes"))?;
            record.set(Field::TaskStart, task.start);
            record.set(Field::Inner, task.inner);
            record.pass(match &task.verdict {
                Verdict::Hold => State::Wanted,
                Verdict::Capture(_) => State::Unwanted,
            });
        }
        for (holder, start) in kept {
            let record = journal.add(0);
            let record = record.ok_or_else(|| io::Error::other("more than 65536 processes"))?;
            record.set(Field::Holder, id(*holder));
            record.set(Field::HolderStart, *start);
            record.pass(State::Kept);
        }
        Ok(shared)
    }

    /// Returns the path at which criu finds the journal.
    pub(super) fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", Pid::this(), self.0.as_fd().as_raw_fd()).into()
    }

    /// Returns the journal.
    ///
    /// # Errors
    /// The plugin has overwritten the head.
    pub(super) fn journal(&self) -> Result<Journal<'_>, InstantError> {
        Journal::new(self.0.words()).ok_or_else(|| InstantError::Journal("its head".to_owned()))
    }
}

impl AsFd for Shared {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Returns a process id in a record.
pub(super) fn pid(record: &Record<'_>, field: Field) -> Option<Pid> {
    i32::try_from(record.get(field)).ok().and_then(Pid::new)
}

/// Returns the reason why no task has a holder, if the plugin has not been at work.
pub(super) fn idle(journal: &Journal<'_>) -> Option<WhyNot> {
    match journal.head(Head::Plugin) {
        plugin if plugin == Plugin::Ready as u64 => None,
        plugin if plugin == Plugin::Absent as u64 => Some(WhyNot::Absent),
        _ => Some(WhyNot::Refused(errno(journal.head(Head::Errno)))),
    }
}

/// Tells whether CRIU may have seen holders that are kept of an earlier round.
pub(super) fn is_unhidden(journal: &Journal<'_>) -> bool {
    let mut records = journal.records();
    let are_kept = records.any(|record| record.state() == Some(State::Kept));
    // A criu may call the kernel in a way that the plugin does not know.
    are_kept && (idle(journal).is_some() || journal.head(Head::Lists) == 0)
}

/// Returns the reason why the plugin has made no holder for a task.
pub(super) fn given_up(record: &Record<'_>) -> WhyNot {
    let reason = record.get(Field::Reason);
    let row = REASONS.iter().find(|(number, _)| *number as u64 == reason);
    match row {
        Some((Reason::Small, _)) => WhyNot::Small { bytes: 0 },
        Some((Reason::Compat, _)) => WhyNot::Compat,
        Some((_, why)) => WhyNot::GivenUp { why, errno: errno(record.get(Field::Errno)) },
        None => WhyNot::GivenUp { why: "the plugin has given up", errno: None },
    }
}

fn errno(number: u64) -> Option<Errno> {
    i32::try_from(number).ok().filter(|number| *number != 0).map(Errno::from_raw)
}

fn id(pid: Pid) -> u64 {
    u64::from(pid.as_raw().unsigned_abs())
}

/// The reasons of the plugin, in words.
const REASONS: &[(Reason, &str)] = &[
    (Reason::Small, "its memory is small"),
    (Reason::Compat, "it runs in 32-bit mode"),
    (Reason::Gadgets, "its code lacks instructions that bring it back if criu is killed"),
    (Reason::Stack, "its stack has no room"),
    (Reason::Rseq, "it is inside a restartable sequence"),
    (Reason::Fork, "the kernel refuses another process"),
    (Reason::Stop, "it stopped in another way than expected"),
    (Reason::Park, "its fork could not be made harmless"),
    (Reason::ShadowStack, "the kernel protects it by a shadow stack"),
    (Reason::Full, "too many processes have begun meanwhile"),
    (Reason::Lost, "it could not be brought back"),
    (Reason::Ended, "criu would take the number of its fork for that of its child that has ended"),
    (Reason::Filter, "its seccomp filter refuses calls that bring it back if criu is killed"),
];

/// Records for tasks that begin until the freeze, beside one for each known task.
const SPARE: usize = 256;
