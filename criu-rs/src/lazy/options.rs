//! Settings of a handler.

use std::os::fd::OwnedFd;
use std::sync::Arc;

/// The settings of a [`Handler`](super::Handler).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LazyOptions {
    /// The pages that come without being asked for.
    pub fill: Fill,
    /// The most pages that come with a page that a task touches, this page included. Neighbours
    /// come where no fill runs, and only for a page next to one that is there already: so a task
    /// that goes through its memory waits seldom, and one that jumps does not wait for bytes that
    /// nobody wants. 1 brings each page alone, and more than 512 is 512.
    pub around: u64,
    /// The number of threads that serve faults. 0 means one for each two processors, at most 4.
    pub fault_threads: usize,
    /// The fate of the tasks if the source of their pages is lost, or the handler.
    pub on_loss: OnLoss,
    /// The process that brings this fate if this process is killed.
    pub guard: Guarding,
}

/// The pages that come without being asked for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Fill {
    /// All pages, in the order of addresses. The restore is complete when the last page has come.
    #[default]
    Everything,
    /// No page: each comes when a task touches it. The handler is needed as long as the tasks run.
    Nothing,
}

/// A guard: a small process that outlives the process of a handler.
///
/// The kernel lets missing pages read as zeros when the handler is killed. A guard holds copies of
/// the descriptors, so that this does not happen, and treats the tasks as [`OnLoss`] says. The
/// guard is a fork of the handler's process that makes system calls only. A killed guard is
/// replaced.
///
/// A guard needs Linux 5.9. What kills a whole cgroup at once kills the guard, too.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Guarding {
    /// A guard that writes a line to standard error when it acts.
    #[default]
    Stderr,
    /// A guard that writes a line to this file when it acts.
    Log(Arc<OwnedFd>),
    /// No guard: missing pages read as zeros after the handler is killed.
    Off,
}

/// The fate of tasks whose missing pages are lost.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum OnLoss {
    /// The tasks are killed.
    #[default]
    Kill,
    /// The tasks run on, and get `SIGBUS` where they touch a missing page. Before Linux 6.6 the
    /// tasks are killed, and their children since the restore, of which the handler has no
    /// descriptor, stay blocked where a page is missing.
    SigBus,
}

impl Default for LazyOptions {
    fn default() -> Self {
        Self {
            fill: Fill::default(),
            around: 16,
            fault_threads: 0,
            on_loss: OnLoss::default(),
            guard: Guarding::default(),
        }
    }
}
