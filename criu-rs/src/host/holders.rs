//! Holders of instant captures in a live tree.

use std::fmt;
use std::fs;

use super::namespaces::number;
use super::tree;
use crate::sys::holders::{Look, Owner};
use crate::sys::proc::{Stat, each_child, innermost};
use crate::value::Pid;

/// A process that holds the memory of a task for an instant capture. A dump would save it as a
/// child of the task.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "process {holder} holds the memory of process {task} for an instant capture of process \
     {owner}{state}"
)]
#[non_exhaustive]
pub struct LiveHolder {
    /// The task.
    pub task: Pid,
    /// The holder.
    pub holder: Pid,
    /// The process that reads the holder, by its number in its own pid namespace.
    pub owner: Pid,
    /// The life of that process, as far as it is known.
    pub state: OwnerState,
}

/// The life of the process that reads a holder, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OwnerState {
    /// The process is alive.
    Lives,
    /// The process has ended, and nobody needs the holder.
    Gone,
    /// The process has ended, or it is in a pid namespace that this process does not see.
    Unseen,
}

impl fmt::Display for OwnerState {
    /// Writes what to do.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lives => ": wait until that capture is complete",
            Self::Gone => ", which has ended: call instant::clear_orphans",
            Self::Unseen => {
                ", which has ended or is not seen from here: wait, or call instant::clear_orphans"
            }
        })
    }
}

/// A holder below a tree's root, or the remains of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) task: Pid,
    pub(crate) holder: Pid,
    /// The process that reads the holder; `None` for remains, which do not tell.
    pub(crate) owner: Option<Owner>,
}

/// Finds the holders of a tree. Takes some ten microseconds for each process.
pub(crate) fn below(root: Pid) -> Vec<Found> {
    let (mut tasks, mut found) = (vec![root], Vec::new());
    let mut next = 0;
    while let Some(&task) = tasks.get(next) {
        next += 1;
        each_child(task.as_raw(), |child| {
            let Some(holder) = Pid::new(child) else { return };
            match Look::settled(child) {
                Some(Look::Parked(owner)) => found.push(Found { task, holder, owner: Some(owner) }),
                Some(Look::Dead) => found.push(Found { task, holder, owner: None }),
                Some(Look::Begins) | None => tasks.push(holder),
            }
        });
    }
    found
}

impl Found {
    /// The holder as an error, if it is alive.
    pub(crate) fn alive(&self) -> Option<LiveHolder> {
        let Self { task, holder, owner } = *self;
        let state = state(&owner?);
        Some(LiveHolder { task, holder, owner: Pid::new(owner?.pid)?, state })
    }
}

/// Looks for the process that reads a holder.
fn state(owner: &Owner) -> OwnerState {
    let is_alive =
        |pid: i32| Stat::of(pid).is_some_and(|stat| stat.start == owner.start && !stat.has_ended());
    if is_alive(owner.pid) || tree::all().into_iter().any(|pid| is_called(pid, owner, is_alive)) {
        return OwnerState::Lives;
    }
    // Everybody is seen from the first pid namespace.
    match number("/proc/self/ns/pid") {
        Some(FIRST_NAMESPACE) => OwnerState::Gone,
        _ => OwnerState::Unseen,
    }
}

/// Returns true if a process has the owner's number in its own pid namespace, and may be the owner.
fn is_called(pid: Pid, owner: &Owner, is_alive: impl Fn(i32) -> bool) -> bool {
    let raw = pid.as_raw();
    let is_elsewhere = || {
        let time = |pid: &dyn fmt::Display| fs::read_link(format!("/proc/{pid}/ns/time")).ok();
        // Start times of another time namespace are not those that are seen from here.
        time(&pid) != time(&"self")
    };
    innermost(raw) == Some(owner.pid) && (is_alive(raw) || is_elsewhere())
}

/// The inode of the first pid namespace.
const FIRST_NAMESPACE: u64 = 0xefff_fffc;
