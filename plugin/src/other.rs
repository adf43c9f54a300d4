//! The dump on an architecture that the plugin does not know.

use crate::journal::{Head, Journal, Plugin, State};
use crate::sys::shared::Mapped;

/// No function of the C library is replaced.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Calls;

/// The effect on a dump if there is no session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Without {
    /// CRIU saves everything itself.
    Complete,
    /// CRIU would save holders as if they were tasks.
    Wrong,
}

/// A dump without holders.
#[derive(Debug)]
pub(crate) enum Session {}

impl Session {
    /// Says in the journal that the plugin refuses, with `EOPNOTSUPP`.
    ///
    /// # Errors
    /// Always.
    pub(crate) fn begin(mapped: Mapped, _calls: &Calls) -> Result<Self, Without> {
        let journal = Journal::new(mapped.words()).ok_or(Without::Complete)?;
        journal.set(Head::Errno, u64::from(libc::EOPNOTSUPP.unsigned_abs()));
        journal.set(Head::Plugin, Plugin::Refused as u64);
        let are_kept = journal.records().any(|record| record.state() == Some(State::Kept));
        Err(if are_kept { Without::Wrong } else { Without::Complete })
    }

    pub(crate) fn task(&mut self, _pid: i32) -> bool {
        match *self {}
    }

    pub(crate) fn end(self, _is_done: bool) {
        match self {}
    }
}
