//! Settings of a handler.

/// The settings of a [`Handler`](super::Handler).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LazyOptions {
    /// The pages that come without being asked for.
    pub fill: Fill,
    /// The most pages that come with a page that a task touches, this page included. Neighbours
    /// come if the source has them together with the page. 1 brings the page alone.
    pub around: u64,
    /// The number of threads that serve faults. 0 means one for each two processors, at most 4.
    pub fault_threads: usize,
    /// The fate of the tasks if the source of their pages is lost.
    pub on_loss: OnLoss,
}

/// The pages that come without being asked for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Fill {
    /// All pages, in the order of addresses. The restore is complete when the last page has come.
    #[default]
    Everything,
    /// None: a page comes when a task touches it. The handler is needed as long as the tasks run.
    Nothing,
}

/// The fate of tasks whose missing pages are lost.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum OnLoss {
    /// The tasks are killed.
    #[default]
    Kill,
    /// The tasks run on, and get `SIGBUS` where they touch a missing page. Linux 6.6; killed before.
    SigBus,
}

impl Default for LazyOptions {
    fn default() -> Self {
        Self { fill: Fill::default(), around: 16, fault_threads: 0, on_loss: OnLoss::default() }
    }
}
