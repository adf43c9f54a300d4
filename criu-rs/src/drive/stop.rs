//! Ending an operation before its time.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use procfs::process::Process;

use crate::error::{StopMethod, StopReason};
use crate::host::tree;
use crate::transport::{Link, Worker, safe_point};
use crate::value::Pid;

/// What an operation works on, as far as ending it has to know.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Subject {
    /// Live tasks, which must survive.
    Tasks {
        /// Their root.
        root: Pid,
        /// Whether they are killed in the end.
        end: bool,
    },
    /// Tasks that are saved, and just being killed.
    Saved,
    /// Tasks in the making, of which none may be left.
    Restored {
        /// The root, once CRIU has named it.
        root: Option<Pid>,
        /// The root's id in its own pid namespace, as the images have it.
        image_root: Option<Pid>,
    },
    /// Nothing.
    None,
}

/// An operation that is being stopped.
#[derive(Debug)]
pub(crate) struct Stopping {
    pub(crate) why: StopReason,
    /// Until when an action is waited for, at which CRIU can be refused.
    until: Instant,
    ending: Ending,
}

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

impl Stopping {
    pub(crate) fn new(why: StopReason, grace: Duration) -> Self {
        Self { why, until: Instant::now() + grace, ending: Ending::default() }
    }

    /// Does what is due.
    pub(crate) fn advance(&mut self, link: &mut Link) -> Next {
        let now = Instant::now();
        if now < self.until {
            return Next::Wait(self.until);
        }
        match &mut link.worker {
            Some(worker) => self.ending.advance(worker),
            None => {
                link.hang_up();
                let limit = self.until + HANG_UP_TIME;
                if now < limit { Next::Wait(limit) } else { Next::Over(StopMethod::Disconnected) }
            }
        }
    }

    /// How it has been stopped, CRIU having gone.
    pub(crate) fn method(&self, link: &Link) -> StopMethod {
        match (self.ending.ended, &link.worker) {
            (Some((how, _)), _) => how,
            (None, Some(_)) => StopMethod::Refused,
            (None, None) => StopMethod::Disconnected,
        }
    }
}

impl Ending {
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

/// How long a service may take to notice that it has been left.
const HANG_UP_TIME: Duration = Duration::from_secs(5);
