//! The guard of holders.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use criu_plugin::journal::{Journal, State};

use super::news::receive;
use super::process::{Ears, Process, Start};
use crate::sys::holders::{Held, Owner, each_left, reap};
use crate::sys::list::List;
use crate::sys::raw::{self, poll_for};

/// A process that ends the holders of a capture if this process is killed. Dropped, it ends without
/// touching them.
#[derive(Debug)]
pub(crate) struct HolderGuard(Process);

impl HolderGuard {
    /// Starts a guard. `journal` is the file that criu's plugin and this process share.
    ///
    /// # Errors
    /// The errors of fstat(2) and clone3(2), or of clone(2) where there is no clone3.
    pub(crate) fn start(journal: BorrowedFd<'_>) -> io::Result<Self> {
        let owner = Owner::this().ok_or_else(|| io::Error::other("no /proc/self/stat"))?;
        let size = nix::sys::stat::fstat(journal)?.st_size;
        let bytes = usize::try_from(size).map_err(io::Error::other)?;
        let start = Start { name: c"criu-rs holders", stack: STACK, kept: &[journal] };
        let file = journal.as_raw_fd();
        Process::start(&start, move |ears| run(ears, owner, file, bytes)).map(Self)
    }

    /// Names the criu that makes the holders. The guard waits for its end before it acts: until
    /// then, the tasks stand still and more holders may come.
    ///
    /// # Errors
    /// `EPIPE` if the guard is gone.
    pub(crate) fn wait_for(&self, criu: BorrowedFd<'_>) -> io::Result<()> {
        self.0.tell(&[CRIU], &[criu], PATIENCE)
    }
}

impl AsFd for HolderGuard {
    /// A descriptor that is readable when the guard has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Drop for HolderGuard {
    fn drop(&mut self) {
        if self.0.tell(&[DONE], &[], PATIENCE).is_err() {
            self.0.kill();
        }
        self.0.reap(PATIENCE);
    }
}

/// The life of a guard after its fork.
fn run(ears: Ears, owner: Owner, file: i32, bytes: usize) {
    let Some(words) = raw::map_words(file, bytes) else { return };
    let mut criu = -1;
    loop {
        let mut fds = [poll_for(ears.socket), poll_for(ears.parent)];
        raw::wait(&mut fds, None);
        let is_lost = fds.get(1).is_some_and(|fd| fd.revents != 0);
        match listen(ears.socket, &mut criu) {
            Heard::Done => return,
            Heard::Nothing if !is_lost => {}
            _ => break,
        }
    }
    if criu >= 0 {
        raw::wait_for(criu);
    }
    act(words, owner);
}

/// What a guard has heard.
enum Heard {
    Nothing,
    Done,
    /// The process is gone.
    End,
}

/// Takes the messages that wait.
fn listen(socket: i32, criu: &mut i32) -> Heard {
    loop {
        let (mut words, mut fds) = ([0; 1], [-1; 2]);
        match receive(socket, &mut words, &mut fds) {
            0 => return Heard::End,
            1.. if words == [DONE] => return Heard::Done,
            1.. => {
                raw::close(*criu);
                *criu = fds[0];
                raw::close(fds[1]);
            }
            error if error == -i64::from(libc::EAGAIN) => return Heard::Nothing,
            error if error == -i64::from(libc::EINTR) => {}
            _ => return Heard::End,
        }
    }
}

/// Ends all holders, and has their tasks reap them.
fn act(words: &[AtomicU64], owner: Owner) {
    let Some(journal) = Journal::new(words) else { return };
    let begun = Instant::now();
    let mut all = List::new();
    loop {
        each_left(&journal, owner, |held| take(&mut all, held));
        // All are killed by now, and give their memory back at one time.
        let mut at = 0;
        while let Some(held) = all.get(at) {
            if reap(&held, Instant::now() + TURN).is_ok() {
                raw::close(held.pidfd);
                all.remove(at);
            } else {
                at += 1;
            }
        }
        let is_forking = journal.records().any(|record| record.state() == Some(State::Forking));
        let is_quiet = !is_forking || begun.elapsed() > FORK;
        if all.items().is_empty() && is_quiet || begun.elapsed() > LONGEST {
            return;
        }
        raw::wait(&mut [], Some(PAUSE));
    }
}

/// Kills a holder that is not known yet.
fn take(all: &mut List<Held>, held: Held) {
    let is_known = all.items().iter().any(|known| known.holder == held.holder);
    raw::signal(held.pidfd, libc::SIGKILL);
    if is_known || !all.push(held) {
        raw::close(held.pidfd);
    }
}

// The kinds of messages.
const CRIU: u64 = 1;
const DONE: u64 = 2;

/// The time in which a guard takes what it is told, and ends when it is told to.
const PATIENCE: Duration = Duration::from_secs(2);

/// The time for one holder before the next has its turn.
const TURN: Duration = Duration::from_millis(300);

/// The pause between two turns, in milliseconds.
const PAUSE: i64 = 20;

/// The time in which a fork that a killed criu has begun shows.
const FORK: Duration = Duration::from_millis(500);

/// The time after which a guard gives up: what is left is cleared up by the next run.
const LONGEST: Duration = Duration::from_secs(600);

/// The stack of the guard, which is all its memory.
const STACK: usize = 256 << 10;
