//! Stopping a criu, and killing the tasks that it has made so far.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::host::{Held, held, tree};
use crate::undo::Life;
use crate::value::Pid;

/// Stops a criu. Returns `true` once it stands still; `false` if it has ended meanwhile.
pub(super) fn halt(criu: &Held) -> bool {
    criu.signal(Signal::SIGSTOP);
    let limit = Instant::now() + HALT_TIME;
    loop {
        let stat = held::stat(criu.pid());
        match stat.map(|stat| stat.state).filter(|_| criu.is_there()) {
            Some('T' | 't') => return true,
            Some('Z' | 'X') | None => return false,
            // The process is in the middle of a system call.
            Some(_) if Instant::now() < limit => std::thread::sleep(PAUSE),
            Some(_) => return true,
        }
    }
}

/// Kills every task that a restore has made so far, while its criu stands still. Returns the killed
/// tasks.
///
/// A child of this process is a root that criu has forked as its sibling if criu has named the
/// child, or if the child has a [file of this criu](Life::has_marked) open: until criu names a
/// root, the root keeps criu's socket. Other children may be a criu of another operation, or a
/// container that this process restores meanwhile.
pub(super) fn sweep(criu: Pid, root: Option<Pid>, life: &Life) -> Vec<Held> {
    let children =
        |of: Pid| tree::children(of).into_iter().filter_map(move |child| Held::child(child, of));
    let mut roots: Vec<Held> = children(criu).collect();
    // CRIU has named a child of its own, or a child of this process.
    let adopted = children(Pid::this()).filter(|held| {
        held.pid() != criu
            && held.since() >= life.since
            && (Some(held.pid()) == root || life.has_marked(held))
    });
    roots.extend(adopted);
    tree::kill_all(roots)
}

/// The time that criu may take to stop.
const HALT_TIME: Duration = Duration::from_secs(1);

/// The time between two looks.
const PAUSE: Duration = Duration::from_micros(100);
