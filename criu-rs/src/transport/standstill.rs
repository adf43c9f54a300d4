//! Stopping a criu, and killing the tasks that it has made so far.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use procfs::process::Process;

use crate::host::tree;
use crate::value::Pid;

/// Stops a criu. Returns `true` once it stands still; `false` if it has ended meanwhile.
pub(super) fn halt(criu: Pid) -> bool {
    let _ = kill(criu.nix(), Signal::SIGSTOP);
    let limit = Instant::now() + HALT_TIME;
    loop {
        let stat = Process::new(criu.as_raw()).and_then(|process| process.stat());
        match stat.map(|stat| stat.state) {
            Ok('T' | 't') => return true,
            Ok('Z' | 'X') | Err(_) => return false,
            // The process is in the middle of a system call.
            Ok(_) if Instant::now() < limit => std::thread::sleep(PAUSE),
            Ok(_) => return true,
        }
    }
}

/// Kills every task that a restore has made so far, while its criu stands still. Returns the killed
/// tasks.
pub(super) fn sweep(criu: Pid, root: Option<Pid>, image_root: Option<Pid>) -> Vec<Pid> {
    let mut roots = tree::children(criu);
    roots.extend(root);
    let siblings = tree::children(Pid::this());
    roots.extend(siblings.into_iter().filter(|&pid| is_made_by(pid, criu, image_root)));
    tree::kill_all(&roots)
}

/// Says whether a child of this process is a root that criu has forked as its sibling. Such a
/// process is younger than criu, and either still runs criu's program or has the root's id in its
/// own pid namespace.
fn is_made_by(pid: Pid, criu: Pid, image_root: Option<Pid>) -> bool {
    let look =
        |pid: Pid| Process::new(pid.as_raw()).and_then(|p| Ok((p.stat()?.starttime, p.exe()?)));
    let (Ok((born, program)), Ok((criu_born, criu_program))) = (look(pid), look(criu)) else {
        return false;
    };
    let inner = || Process::new(pid.as_raw()).ok()?.status().ok()?.nspid?.last().copied();
    let is_root = || image_root.is_some_and(|root| inner() == Some(root.as_raw()));
    pid != criu && born >= criu_born && (program == criu_program || is_root())
}

/// The time that criu may take to stop.
const HALT_TIME: Duration = Duration::from_secs(1);

/// The time between two looks.
const PAUSE: Duration = Duration::from_micros(100);
