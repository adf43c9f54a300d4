//! An operation as a driver is handed it.

use std::os::fd::OwnedFd;

use crate::diagnosis::LogPlace;
use crate::error::Result;
use crate::hooks::Action;
use crate::options::Needed;
use crate::rpc::CriuReq;
use crate::transport::Subject;
use crate::undo::Strays;
use crate::value::{Pid, Version};

/// A guard that looks at each action before the caller's hooks do. Its error refuses the action,
/// and comes back to the caller.
pub(crate) trait Guard: std::fmt::Debug + Send {
    /// Checks the state at an action. `root` is the restored root task, if its number means the
    /// same process here.
    fn check(&mut self, action: Action, root: Option<Pid>) -> Result<()>;
}

/// An operation, as a driver needs to know it.
#[derive(Debug)]
pub(crate) struct Job {
    /// The name: "dump", "restore", ...
    pub(crate) operation: &'static str,
    pub(crate) request: CriuReq,
    /// The part of the request that not every CRIU knows.
    pub(crate) needed: Option<Needed>,
    pub(crate) subject: Subject,
    /// The tasks that a restore makes.
    pub(crate) strays: Strays,
    pub(crate) log: Option<LogPlace>,
    /// The worker ends with the reply. Otherwise it waits for more, or becomes another program.
    pub(crate) worker_ends: bool,
    /// The guards, in the order in which they look.
    pub(crate) guards: Vec<Box<dyn Guard>>,
    /// The images of a restore, in which a failure looks up names.
    pub(crate) images: Option<OwnedFd>,
}

impl Job {
    /// Leaves the connection open for another request.
    pub(crate) fn keep_open(&mut self) {
        self.request.keep_open = Some(true);
        self.worker_ends = false;
    }

    /// Notes that the request itself needs this CRIU.
    pub(crate) fn needs(&mut self, what: &str, since: Version) {
        self.needed = Some(Needed::request(what, since).or(self.needed.take()));
    }

    /// Adds a guard, and tells CRIU to stop at its actions.
    pub(crate) fn watch(&mut self, guard: Option<impl Guard + 'static>) {
        let Some(guard) = guard else { return };
        self.guards.push(Box::new(guard));
        if let Some(opts) = &mut self.request.opts {
            opts.notify_scripts = Some(true);
        }
    }
}
