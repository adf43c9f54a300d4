//! The end of the holders of a capture.

use std::time::Duration;

use criu_plugin::journal::Journal;

use super::holder::Holder;
use crate::sys::holders::{Bond, Owner, left};
use crate::undo::{self, Unreaped};

/// Ends holders, and has their tasks reap them. Returns the holders that were killed and not
/// reaped: those whose task another process has traced all the time.
///
/// Waits ten seconds for all of them. A task stands still for less than a millisecond, and runs on
/// then. A task that has ended meanwhile is no fault: the process that has adopted the holder reaps
/// it.
pub(super) fn end(holders: Vec<Holder>) -> Vec<Unreaped> {
    let bonds: Vec<Bond> = holders.into_iter().map(Holder::into_bond).collect();
    undo::end(&bonds, PATIENCE)
}

/// Ends the holders that a journal tells of, after a dump that has failed. The plugin has ended
/// them itself, unless criu was killed.
pub(super) fn end_left(journal: &Journal<'_>) -> Vec<Unreaped> {
    let Some(owner) = Owner::this() else { return Vec::new() };
    undo::end(&left(journal, owner), PATIENCE)
}

/// The time for all holders of a capture.
const PATIENCE: Duration = Duration::from_secs(10);
