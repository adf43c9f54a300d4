//! Holders of captures that nobody reads any more.

use crate::error::Result;
use crate::host::LiveHolder;
use crate::host::holders::below;
use crate::operation::{Hidden, refuse_holders};
use crate::undo;
use crate::value::Pid;

/// Finds the processes of a tree that hold memory for instant captures.
pub fn holders_of(root: Pid) -> Vec<LiveHolder> {
    below(root).into_iter().filter_map(|found| found.alive()).collect()
}

/// Ends the holders of a tree that nobody reads any more, and has their tasks reap them. Returns
/// the holders that were ended. Holders whose reader lives stay.
///
/// Holders end with their capture, even if the program is killed. They stay only if their guard, a
/// small process beside the program, is killed as well. A dump of the tree clears up by itself,
/// unless it runs in a pid namespace of its own: there, a reader outside of the namespace is not
/// seen. This function ends such holders, too. A capture that still reads one then fails.
///
/// # Errors
/// A holder cannot be ended, or its task does not reap it, because another process traces the task.
/// Returns after ten seconds then.
pub fn clear_orphans(root: Pid) -> Result<Vec<LiveHolder>> {
    undo::clear_orphans(root, true)
}

/// Makes a tree ready for a capture: clears up what earlier ones have left, and refuses a tree with
/// a holder that is not hidden.
pub(super) fn clear(root: Pid, hidden: &[Hidden]) -> Result<()> {
    refuse_holders(root, hidden)
}
