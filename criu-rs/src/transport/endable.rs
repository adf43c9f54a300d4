//! A worker as seen by its ending.

use super::subject::Subject;
use crate::host::Held;
use crate::value::Pid;

/// A worker as seen by its ending: its subject, and the ways to end it.
pub(crate) trait Endable {
    /// Returns the subject that the worker works on.
    fn subject(&self) -> Subject;

    /// Says whether the worker has ended. An answer may still wait in its socket.
    fn has_ended(&self) -> bool;

    /// Says whether the worker has ended and has been reaped.
    fn is_gone(&mut self) -> bool;

    /// Stops the worker at a point where no task below `root` executes CRIU's code, and releases
    /// the worker's hold on the tasks. Returns `false` if this is not such a point.
    fn hold(&mut self, root: Pid) -> bool;

    /// Stops the worker at any point. Returns `false` if it has ended meanwhile.
    fn halt(&mut self) -> bool;

    /// Kills every task that a restore has made. Returns the killed tasks.
    fn sweep(&mut self, root: Option<Pid>) -> Vec<Held>;

    /// Asks the worker and its helpers to end, and lets a stopped worker go on.
    fn terminate(&mut self);

    /// Kills the worker and its helpers.
    fn kill(&mut self);

    /// Reaps those of the killed tasks that have become children of this process.
    fn bury(&mut self, tasks: &[Held]);
}
