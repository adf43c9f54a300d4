//! Progress of long work, and how it is stopped.

use std::ops::ControlFlow;

/// A call with the bytes that are done so far. The work stops if the call breaks.
pub type Watch<'a> = &'a (dyn Fn(u64) -> ControlFlow<()> + Sync);

/// A [`Watch`] that never stops the work.
pub const UNWATCHED: Watch<'static> = &|_| ControlFlow::Continue(());
