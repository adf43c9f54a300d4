//! The end of the holders of a capture.

use std::time::Duration;

use criu_plugin::journal::Journal;

use super::holder::Holder;
use crate::sys::holders::{Bond, Owner, left};
use crate::undo::{self, Unreaped};

/// Ends holders, and all others that the journal of their dump tells of, and has their tasks reap
/// them. Returns the holders that were killed and not reaped: those whose tasks another process has
/// traced all the time.
///
/// Waits ten seconds for all of them. A task stands still for less than a millisecond, and runs on
/// then. A task that has ended meanwhile is no fault: the process that has adopted the holder reaps
/// it.
pub(super) fn end(holders: Vec<Holder>, journal: Option<&Journal<'_>>) -> Vec<Unreaped> {
    let mut bonds: Vec<Bond> = holders.into_iter().map(Holder::into_bond).collect();
    if let (Some(journal), Some(owner)) = (journal, Owner::this()) {
        // Holders that nobody has opened: criu was killed, or one of the others was lost.
        let others = left(journal, owner).into_iter();
        let is_new = |other: &Bond| bonds.iter().all(|known| known.holder() != other.holder());
        let others: Vec<Bond> = others.filter(is_new).collect();
        bonds.extend(others);
    }
    undo::end(&bonds, PATIENCE)
}

/// The time for all holders of a capture.
const PATIENCE: Duration = Duration::from_secs(10);
