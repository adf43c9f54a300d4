//! An operation as a driver is handed it.

use crate::diagnosis::LogPlace;
use crate::error::Result;
use crate::hooks::Action;
use crate::rpc::CriuReq;
use crate::transport::Subject;
use crate::undo::Strays;
use crate::value::Pid;

/// Looks at what is under way before the caller's hooks do. An error refuses the action, and comes back.
pub(crate) trait Guard: std::fmt::Debug + Send {
    /// `root` is the restored root task, where its number means the same process here.
    fn check(&mut self, action: Action, root: Option<Pid>) -> Result<()>;
}

/// What a driver is to know of an operation.
#[derive(Debug)]
pub(crate) struct Job {
    /// "dump", "restore", ...
    pub(crate) operation: &'static str,
    pub(crate) request: CriuReq,
    pub(crate) subject: Subject,
    /// What a restore makes.
    pub(crate) strays: Strays,
    pub(crate) log: Option<LogPlace>,
    /// Whether the worker ends with the reply, as opposed to waiting for more or becoming another
    /// program.
    pub(crate) worker_ends: bool,
    pub(crate) guard: Option<Box<dyn Guard>>,
}

impl Job {
    /// Leaves the connection open for another request.
    pub(crate) fn keep_open(&mut self) {
        self.request.keep_open = Some(true);
        self.worker_ends = false;
    }

    /// Has somebody look at each action, for which CRIU has to stop there.
    pub(crate) fn watch(&mut self, guard: Option<impl Guard + 'static>) {
        let Some(guard) = guard else { return };
        self.guard = Some(Box::new(guard));
        if let Some(opts) = &mut self.request.opts {
            opts.notify_scripts = Some(true);
        }
    }
}
