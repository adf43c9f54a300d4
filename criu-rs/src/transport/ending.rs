//! A worker ended before its time, where that harms no task.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use procfs::process::Process;

use super::safe_point;
use super::subject::Subject;
use super::worker::Worker;
use crate::diagnosis::StopMethod;
use crate::host::tree;
use crate::value::Pid;

/// A worker that is being ended, at a safe point if one comes.
#[derive(Debug, Default)]
pub(crate) struct Ending {
    /// Since when one is looked for.
    since: Option<Instant>,
    /// How it was ended, and when.
    ended: Option<(StopMethod, Instant)>,
    /// Tasks of an unfinished restore, killed.
    swept: Vec<Pid>,
}

/// What to do next about an operation that is being stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Look again at this time, or when CRIU does something.
    Wait(Instant),
    /// It is over.
    Over(StopMethod),
}

impl Ending {
    /// How the worker was ended, once that is decided.
    pub(crate) fn method(&self) -> Option<StopMethod> {
        self.ended.map(|(how, _)| how)
    }

    /// Ends the worker, and waits until it has ended.
    pub(crate) fn finish(mut self, worker: &mut Worker) {
        while let Next::Wait(until) = self.advance(worker) {
            if self.ended.is_none() && worker.try_wait().is_some() {
                return;
            }
            std::thread::sleep(until.saturating_duration_since(Instant::now()));
        }
    }

    /// Does what is due.
    pub(crate) fn advance(&mut self, worker: &mut Worker) -> Next {
        let now = Instant::now();
        let since = *self.since.get_or_insert(now);
        if let Some((how, ended)) = self.ended {
            if worker.try_wait().is_some() {
                tree::reap(&self.swept);
                return Next::Over(how);
            }
            if now > ended + TERM_TIME {
                worker.signal_group(Signal::SIGKILL);
            }
            return Next::Wait(now + TICK);
        }
        if worker.has_ended() {
            // It may have left its answer, perhaps that all went well.
            return Next::Wait(now);
        }
        let how = match worker.subject {
            Subject::Tasks { root, .. } if safe_point::hold(worker.pid(), root) => {
                if let Some(connections) = &worker.connections {
                    connections.release();
                }
                StopMethod::Killed
            }
            Subject::Tasks { .. } if now < since + WINDOW => return Next::Wait(now + TICK),
            // It is about to be done.
            Subject::Saved if now < since + WINDOW => return Next::Wait(now + TICK),
            Subject::Tasks { .. } | Subject::Saved => StopMethod::KilledUnsafely,
            // What it has made is adopted by others when it ends.
            Subject::Restored { .. } if !halt(worker) => return Next::Wait(now),
            Subject::Restored { root, image_root } => {
                self.swept = sweep(worker, root, image_root);
                StopMethod::Killed
            }
            Subject::None => StopMethod::Killed,
        };
        // A stopped process takes SIGTERM as soon as it goes on, before anything else.
        worker.signal_group(Signal::SIGTERM);
        worker.signal_group(Signal::SIGCONT);
        self.ended = Some((how, Instant::now()));
        Next::Wait(now + TICK)
    }
}

/// Stops a worker; whether it stands still, and has not ended meanwhile.
fn halt(worker: &Worker) -> bool {
    worker.signal(Signal::SIGSTOP);
    let limit = Instant::now() + HALT_TIME;
    loop {
        let stat = Process::new(worker.pid().as_raw()).and_then(|process| process.stat());
        match stat.map(|stat| stat.state) {
            Ok('T' | 't') => return true,
            Ok('Z' | 'X') | Err(_) => return false,
            // In the middle of a system call.
            Ok(_) if Instant::now() < limit => std::thread::sleep(TICK / 10),
            Ok(_) => return true,
        }
    }
}

/// Kills everything that a restore, whose worker stands still, has made so far.
fn sweep(worker: &Worker, root: Option<Pid>, image_root: Option<Pid>) -> Vec<Pid> {
    let mut roots = tree::children(worker.pid());
    roots.extend(root);
    let siblings = tree::children(Pid::this());
    roots.extend(siblings.into_iter().filter(|&pid| is_made_by(pid, worker.pid(), image_root)));
    tree::kill_all(&roots)
}

/// Whether a child of ours is a root that the worker has forked as its sibling: it came after the
/// worker, and still runs criu's program, or has the root's id in a pid namespace of its own.
fn is_made_by(pid: Pid, worker: Pid, image_root: Option<Pid>) -> bool {
    let look =
        |pid: Pid| Process::new(pid.as_raw()).and_then(|p| Ok((p.stat()?.starttime, p.exe()?)));
    let (Ok((born, program)), Ok((criu_born, criu))) = (look(pid), look(worker)) else {
        return false;
    };
    let inner = || Process::new(pid.as_raw()).ok()?.status().ok()?.nspid?.last().copied();
    let is_root = || image_root.is_some_and(|root| inner() == Some(root.as_raw()));
    pid != worker && born >= criu_born && (program == criu || is_root())
}

/// How long after the grace time a safe point is waited for. The dangerous stretches last a few
/// milliseconds a task.
const WINDOW: Duration = Duration::from_secs(1);

/// How long a worker may take to stop.
const HALT_TIME: Duration = Duration::from_secs(1);

/// How often to look.
const TICK: Duration = Duration::from_millis(1);

/// How long SIGTERM may take before SIGKILL follows.
const TERM_TIME: Duration = Duration::from_millis(200);
