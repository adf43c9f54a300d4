//! The dump on an architecture that the plugin does not know.

use crate::journal::{Head, Journal, Plugin};
use crate::sys::Mapped;

/// A dump without holders.
#[derive(Debug)]
pub(crate) enum Session {}

impl Session {
    /// Says in the journal that the plugin refuses, with `EOPNOTSUPP`.
    pub(crate) fn begin(mapped: Mapped) -> Option<Self> {
        let journal = Journal::new(mapped.words())?;
        journal.set(Head::Errno, u64::from(libc::EOPNOTSUPP.unsigned_abs()));
        journal.set(Head::Plugin, Plugin::Refused as u64);
        None
    }

    pub(crate) fn task(&mut self, _pid: i32) -> bool {
        match *self {}
    }

    pub(crate) fn end(self, _is_done: bool) {
        match self {}
    }
}
