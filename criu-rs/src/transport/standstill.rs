//! Stopping a criu, and killing the tasks that it has made so far.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use procfs::process::Process;

use crate::host::{Held, held, tree};
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
pub(super) fn sweep(criu: Pid, root: Option<Pid>, image_root: Option<Pid>) -> Vec<Held> {
    let children =
        |of: Pid| tree::children(of).into_iter().filter_map(move |child| Held::child(child, of));
    let mut roots: Vec<Held> = children(criu).collect();
    // CRIU has named a child of its own, or a child of this process.
    let adopted = children(Pid::this()).filter(|held| {
        Some(held.pid()) == root && is_younger(held, criu) || is_made_by(held, criu, image_root)
    });
    roots.extend(adopted);
    tree::kill_all(roots)
}

/// Says whether a process was started after a criu, or in the same tick.
fn is_younger(held: &Held, criu: Pid) -> bool {
    held.pid() != criu && tree::started_at(criu).is_some_and(|born| held.since() >= born)
}

/// Says whether a child of this process is a root that criu has forked as its sibling. Such a
/// process is younger than criu, and either still runs criu's program or has the root's id in its
/// own pid namespace.
fn is_made_by(held: &Held, criu: Pid, image_root: Option<Pid>) -> bool {
    let process = Process::new(held.pid().as_raw());
    let program = |pid: Pid| Process::new(pid.as_raw()).and_then(|process| process.exe()).ok();
    let is_criu = || {
        let own = program(held.pid());
        own.is_some() && own == program(criu)
    };
    let inner = || process.ok()?.status().ok()?.nspid?.last().copied();
    let is_root = || image_root.is_some_and(|root| inner() == Some(root.as_raw()));
    is_younger(held, criu) && (is_criu() || is_root()) && held.is_there()
}

/// The time that criu may take to stop.
const HALT_TIME: Duration = Duration::from_secs(1);

/// The time between two looks.
const PAUSE: Duration = Duration::from_micros(100);
