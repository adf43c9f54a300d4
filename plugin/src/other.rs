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

#[cfg(test)]
mod tests {
    use std::fs::File;

    use nix::fcntl::{FcntlArg, SealFlag, fcntl};
    use nix::sys::memfd::{MFdFlags, memfd_create};

    use super::*;

    /// A journal that a dump has made.
    fn journal(records: &[State]) -> File {
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        let file = File::from(memfd_create(c"journal", flags).unwrap());
        file.set_len(Journal::bytes(4) as u64).unwrap();
        fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SHRINK)).unwrap();
        let mapped = Mapped::new(&file).unwrap();
        let journal = Journal::make(mapped.words());
        (1..).zip(records).for_each(|(task, state)| {
            journal.add(task).unwrap().pass(*state);
        });
        file
    }

    fn begins(records: &[State]) -> Without {
        let file = journal(records);
        let without = Session::begin(Mapped::new(&file).unwrap(), &Calls).unwrap_err();
        let mapped = Mapped::new(&file).unwrap();
        let journal = Journal::new(mapped.words()).unwrap();
        assert_eq!(journal.head(Head::Plugin), Plugin::Refused as u64);
        assert_eq!(journal.head(Head::Errno), libc::EOPNOTSUPP as u64);
        // The tasks are dumped as without a plugin.
        let states: Vec<State> = journal.records().filter_map(|record| record.state()).collect();
        assert_eq!(states, records);
        without
    }

    #[test]
    fn another_architecture_is_refused_and_the_dump_goes_on() {
        assert_eq!(begins(&[]), Without::Complete);
        assert_eq!(begins(&[State::Wanted, State::Unwanted]), Without::Complete);
    }

    #[test]
    fn a_dump_that_would_save_holders_of_an_earlier_one_is_refused() {
        assert_eq!(begins(&[State::Wanted, State::Kept]), Without::Wrong);
    }

    #[test]
    fn a_file_that_is_no_journal_changes_nothing() {
        let file = journal(&[]);
        let mapped = Mapped::new(&file).unwrap();
        Journal::new(mapped.words()).unwrap().set(Head::Magic, 1);
        assert_eq!(Session::begin(mapped, &Calls).unwrap_err(), Without::Complete);
        let mapped = Mapped::new(&file).unwrap();
        assert!(Journal::new(mapped.words()).is_none());
    }
}
