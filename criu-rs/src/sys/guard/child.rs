//! The life of a guard of missing pages, after its fork.

use super::loss;
use super::missing::Fate;
use super::news::receive;
use super::process::Ears;
use super::table::{Answer, Table, WORDS, Words};
use crate::sys::raw::{self, poll_for};

/// A guard after its fork.
pub(super) struct Child {
    ears: Ears,
    log: i32,
    fate: Fate,
    page: u64,
    table: Table,
}

impl Child {
    pub(super) const fn new(ears: Ears, log: i32, fate: Fate, page: u64) -> Self {
        Self { ears, log, fate, page, table: Table::new() }
    }

    /// Runs the guard until it is not needed any more.
    pub(super) fn run(&mut self) {
        loop {
            let mut fds = [poll_for(self.ears.socket), poll_for(self.ears.parent)];
            raw::wait(&mut fds, None);
            let is_lost = fds.get(1).is_some_and(|fd| fd.revents != 0);
            match self.listen() {
                Some(Answer::End) => return,
                Some(Answer::Listen) if !is_lost => {}
                // The process is gone, or has closed the socket.
                _ => return loss::act(&mut self.table, self.fate, self.page, self.log),
            }
        }
    }

    /// Takes the messages that wait. Returns `None` at the end of the socket.
    fn listen(&mut self) -> Option<Answer> {
        loop {
            let mut words: Words = [0; WORDS];
            let mut fds = [-1; 2];
            match receive(self.ears.socket, &mut words, &mut fds) {
                0 => return None,
                size @ 1.. => {
                    let count = usize::try_from(size).unwrap_or(0) / size_of::<u64>();
                    match self.table.take(&words, count, fds) {
                        Answer::End => return Some(Answer::End),
                        Answer::Unguarded => raw::write(self.log, UNGUARDED),
                        Answer::Listen => {}
                    }
                }
                error if error == -i64::from(libc::EAGAIN) => return Some(Answer::Listen),
                error if error == -i64::from(libc::EINTR) => {}
                _ => return None,
            }
        }
    }
}

/// The words about a task whose descriptor has not come.
const UNGUARDED: &[u8] = b"criu-rs guard: no descriptor is left for a task: its missing pages \
    turn into zeros if their handler is killed\n";
