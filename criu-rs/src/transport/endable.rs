//! A worker as its ending sees it.

use super::subject::Subject;
use crate::value::Pid;

/// A worker as its ending sees it: what it works on, and what can be done to it.
pub(crate) trait Endable {
    /// Returns what the worker works on.
    fn subject(&self) -> Subject;

    /// Says whether the worker has ended. It may have left an answer in its socket.
    fn has_ended(&self) -> bool;

    /// Says whether the worker has ended and has been reaped.
    fn is_gone(&mut self) -> bool;

    /// Stops the worker at a point where no task below `root` executes CRIU's code, and lets go of what
    /// the worker holds of the tasks. Returns `false` if this is not such a point.
    fn hold(&mut self, root: Pid) -> bool;

    /// Stops the worker wherever it is. Returns `false` if it has ended meanwhile.
    fn halt(&mut self) -> bool;

    /// Kills everything that a restore has made. Returns the killed tasks.
    fn sweep(&mut self, root: Option<Pid>, image_root: Option<Pid>) -> Vec<Pid>;

    /// Asks the worker and its helpers to end, and lets a stopped worker go on.
    fn terminate(&mut self);

    /// Kills the worker and its helpers.
    fn kill(&mut self);

    /// Reaps tasks that were killed, if they have become children of this process.
    fn bury(&mut self, tasks: &[Pid]);
}
