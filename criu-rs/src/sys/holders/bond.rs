//! A holder and its task, until the holder is reaped.
//!
//! The end of a holder sends no signal, so its task does not reap it. A thread of the task is made
//! to: it stops for a moment, makes the call, and goes on as it was.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use criu_plugin::inject;

use super::thread::Threads;
use crate::sys::proc::{Stat, number_for, process_of, tracer};
use crate::sys::{fd, raw};

/// A holder and its task, by numbers.
#[derive(Clone, Copy, Debug)]
pub(in crate::sys) struct Held {
    pub(in crate::sys) task: i32,
    pub(in crate::sys) holder: i32,
    /// The number of the holder that its task uses, or 0 if the task is gone.
    pub(in crate::sys) inner: i32,
    /// A descriptor of the holder.
    pub(in crate::sys) pidfd: i32,
}

/// A holder and its task.
#[derive(Debug)]
pub(crate) struct Bond {
    held: Held,
    pidfd: OwnedFd,
}

/// The end of a holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The holder is gone: its task has reaped it.
    Reaped,
    /// The task has ended, and another process has become the parent of the remains.
    Adopted(i32),
}

/// The reason why a holder could not be reaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Kept {
    /// The holder has not ended.
    #[error("it has not ended")]
    Alive,
    /// Another process traces the task, and a thread has one tracer only.
    #[error("process {0} traces its task")]
    Traced(i32),
    /// A thread of the task does not stop. It is traced until the calling thread ends.
    #[error("thread {0} of its task does not stop")]
    Stuck(i32),
    /// A thread of the task could not be made to reap the holder.
    #[error("no thread of its task reaps it: {}", io::Error::from_raw_os_error(*.0))]
    Unwilling(i32),
}

impl Bond {
    /// Opens a holder, by its number and that of its task.
    pub(crate) fn open(task: i32, holder: i32) -> io::Result<Self> {
        let pidfd = fd::open(nix::unistd::Pid::from_raw(holder))?;
        let inner = number_for(holder, task).unwrap_or(0);
        Ok(Self { held: Held { task, holder, inner, pidfd: pidfd.as_raw_fd() }, pidfd })
    }

    /// Takes a holder with its descriptor.
    pub(super) fn new(held: Held, pidfd: OwnedFd) -> Self {
        Self { held, pidfd }
    }

    /// The task.
    pub(crate) fn task(&self) -> i32 {
        self.held.task
    }

    /// The holder.
    pub(crate) fn holder(&self) -> i32 {
        self.held.holder
    }

    /// Returns true if the holder has not been reaped: its number is its own.
    pub(crate) fn is_there(&self) -> bool {
        fd::is_there(&self.pidfd)
    }

    /// Kills the holder.
    pub(crate) fn kill(&self) {
        raw::signal(self.held.pidfd, libc::SIGKILL);
    }

    /// Has the task reap the holder, which has been killed.
    ///
    /// # Errors
    /// The reason that is left when the time has come.
    pub(crate) fn reap(&self, until: Instant) -> Result<End, Kept> {
        reap(&self.held, until)
    }
}

impl AsFd for Bond {
    /// A descriptor that is readable when the holder has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

/// Has the task of a killed holder reap it. Uses no heap. A try that has begun is brought to its
/// end, even if the time comes.
pub(in crate::sys) fn reap(held: &Held, until: Instant) -> Result<End, Kept> {
    reap_by(held, until, |thread, inner, until| {
        inject::reap(thread, inner, until).map_err(|error| error.0)
    })
}

fn reap_by(
    held: &Held,
    until: Instant,
    by: impl Fn(i32, i32, Instant) -> Result<(), i32>,
) -> Result<End, Kept> {
    let mut pause = SHORTEST_PAUSE;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let mut ended = [raw::poll_for(held.pidfd)];
        raw::wait(&mut ended, Some(millis(left)));
        if !raw::signal(held.pidfd, 0) {
            return Ok(End::Reaped);
        }
        let kept = if ended.iter().all(|fd| fd.revents == 0) {
            Kept::Alive
        } else {
            let parent = Stat::of(held.holder).map(|stat| stat.parent);
            if !raw::signal(held.pidfd, 0) {
                return Ok(End::Reaped);
            }
            if let Some(parent) = parent.filter(|parent| *parent != held.task) {
                return Ok(End::Adopted(parent));
            }
            match once(held, &by) {
                // This thread has to end, so that the thread that has not stopped runs on.
                Err(Kept::Stuck(thread)) => return Err(Kept::Stuck(thread)),
                Ok(()) if !raw::signal(held.pidfd, 0) => return Ok(End::Reaped),
                Ok(()) => Kept::Unwilling(libc::ECHILD),
                Err(kept) => kept,
            }
        };
        if Instant::now() >= until {
            return Err(kept);
        }
        raw::wait(&mut [], Some(millis(pause)));
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Tries the threads of a task.
fn once(held: &Held, by: &impl Fn(i32, i32, Instant) -> Result<(), i32>) -> Result<(), Kept> {
    let mut kept = Kept::Unwilling(libc::ESRCH);
    for thread in Threads::of(held.task).iter() {
        let reaped = by(thread, held.inner, Instant::now() + LONGEST_STOP);
        // A thread that executes a program meanwhile goes on under the number of its process.
        for number in [thread, held.task] {
            if tracer(number) == Some(raw::own_thread()) && !raw::let_go(number, LONGEST_STOP) {
                return Err(Kept::Stuck(number));
            }
        }
        match reaped {
            // Somebody else may have reaped it meanwhile.
            Ok(()) | Err(libc::ECHILD) => return Ok(()),
            Err(libc::ESRCH) => {}
            Err(libc::EPERM) => {
                let by = tracer(thread).and_then(process_of);
                kept = by.map_or(Kept::Unwilling(libc::EPERM), Kept::Traced);
            }
            Err(errno) => kept = Kept::Unwilling(errno),
        }
    }
    Err(kept)
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_micros().div_ceil(1000)).unwrap_or(i64::MAX)
}

/// The time in which a thread stops. On a busy machine it waits for its turn to run.
const LONGEST_STOP: Duration = Duration::from_secs(5);

/// The shortest pause between two tries.
const SHORTEST_PAUSE: Duration = Duration::from_millis(2);

/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
#[cfg(target_arch = "x86_64")]
mod tests {
    use std::sync::mpsc;

    use nix::sys::ptrace;

    use super::*;
    use crate::sys::holders::lab::{Task, children, hold};
    use crate::sys::holders::{Look, Owner};

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    #[test]
    fn a_task_reaps_its_holder_and_runs_on() {
        let (task, own) = (Task::sleeping(), Owner::this().unwrap());
        let holder = hold(task.pid(), own);
        assert_eq!(Look::at(holder), Some(Look::Parked(own)));
        let bond = Bond::open(task.pid(), holder).unwrap();
        assert_eq!(bond.reap(Instant::now()), Err(Kept::Alive));
        bond.kill();
        assert!(criu_lab::soon(|| criu_lab::process::has_ended(holder)));
        assert_eq!(Look::at(holder), Some(Look::Dead));
        assert_eq!(bond.reap(soon()), Ok(End::Reaped));
        assert!(!bond.is_there());
        task.is_unharmed();
        assert_eq!(bond.reap(Instant::now()), Ok(End::Reaped), "once more");
    }

    #[test]
    fn a_running_task_and_one_in_a_pid_namespace_reap_their_holders() {
        let own = Owner::this().unwrap();
        let busy = Task::start("sh", &["-c", "while :; do :; done"]);
        let apart = Task::start("unshare", &["--pid", "--fork", "--kill-child", "sleep", "1000"]);
        let mut inner = Vec::new();
        assert!(criu_lab::soon(|| {
            inner = children(apart.pid());
            inner.first().is_some_and(|inner| criu_lab::process::name(*inner) == "sleep")
        }));
        for (task, number) in [(busy.pid(), None), (inner[0], Some(2))] {
            let holder = hold(task, own);
            let bond = Bond::open(task, holder).unwrap();
            assert_eq!(bond.held.inner, number.unwrap_or(holder));
            bond.kill();
            assert_eq!(bond.reap(soon()), Ok(End::Reaped));
            assert_eq!(children(task), [0; 0]);
        }
        busy.is_unharmed();
    }

    #[test]
    fn a_stopped_task_reaps_its_holder_and_stays_stopped() {
        let task = Task::sleeping();
        let bond = Bond::open(task.pid(), hold(task.pid(), Owner::this().unwrap())).unwrap();
        let pid = nix::unistd::Pid::from_raw(task.pid());
        nix::sys::signal::kill(pid, nix::sys::signal::SIGSTOP).unwrap();
        assert!(criu_lab::soon(|| Stat::of(task.pid()).unwrap().state == b'T'));
        bond.kill();
        assert_eq!(bond.reap(soon()), Ok(End::Reaped));
        assert_eq!(children(task.pid()), [0; 0]);
        assert!(criu_lab::soon(|| tracer(task.pid()).is_none()));
        assert!(criu_lab::soon(|| Stat::of(task.pid()).unwrap().state == b'T'));
        nix::sys::signal::kill(pid, nix::sys::signal::SIGCONT).unwrap();
        assert!(criu_lab::soon(|| Stat::of(task.pid()).unwrap().state == b'S'));
    }

    #[test]
    fn a_holder_whose_task_has_ended_is_left_to_its_new_parent() {
        let task = Task::sleeping();
        let holder = hold(task.pid(), Owner::this().unwrap());
        let bond = Bond::open(task.pid(), holder).unwrap();
        drop(task);
        assert_eq!(Look::at(holder), Some(Look::Parked(Owner::this().unwrap())), "it lives on");
        bond.kill();
        assert!(matches!(bond.reap(soon()), Ok(End::Adopted(_) | End::Reaped)));
    }

    #[test]
    fn a_task_with_a_tracer_is_waited_for() {
        let task = Task::sleeping();
        let bond = Bond::open(task.pid(), hold(task.pid(), Owner::this().unwrap())).unwrap();
        bond.kill();
        let pid = nix::unistd::Pid::from_raw(task.pid());
        let (send, go) = mpsc::channel::<()>();
        let (traced, is_traced) = mpsc::channel();
        let tracer = std::thread::spawn(move || {
            ptrace::seize(pid, ptrace::Options::empty()).unwrap();
            traced.send(()).unwrap();
            let _ = go.recv();
        });
        is_traced.recv().unwrap();
        let until = Instant::now() + Duration::from_millis(50);
        let own = i32::try_from(std::process::id()).unwrap();
        assert_eq!(bond.reap(until), Err(Kept::Traced(own)));
        let late = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            drop(send);
        });
        assert_eq!(bond.reap(soon()), Ok(End::Reaped));
        late.join().unwrap();
        tracer.join().unwrap();
        task.is_unharmed();
    }

    #[test]
    fn what_threads_answer_decides() {
        let task = Task::sleeping();
        let bond = Bond::open(task.pid(), hold(task.pid(), Owner::this().unwrap())).unwrap();
        bond.kill();
        let by = |answer: Result<(), i32>| {
            let until = Instant::now() + Duration::from_millis(20);
            reap_by(&bond.held, until, move |_, _, _| answer)
        };
        assert!(criu_lab::soon(|| criu_lab::process::has_ended(bond.holder())));
        for errno in [libc::ESRCH, libc::EOPNOTSUPP, libc::ETIMEDOUT, libc::EPERM] {
            assert_eq!(by(Err(errno)), Err(Kept::Unwilling(errno)));
        }
        assert_eq!(by(Ok(())), Err(Kept::Unwilling(libc::ECHILD)), "a lie");
        assert_eq!(bond.reap(soon()), Ok(End::Reaped));
    }
}
