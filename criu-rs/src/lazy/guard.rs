//! The guard of a handler: a process that acts when this one is killed.

use std::collections::HashMap;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::error::LazyError;
use super::options::OnLoss;
use super::ranges::Ranges;
use super::watcher::{Begun, Change, Watcher};
use crate::sys::fd;
use crate::sys::guard::{Fate, GuardProcess, News, RANGES};
use crate::value::Cancel;

/// The guard of a handler. Dropped, it ends the process.
#[derive(Debug)]
pub(super) struct Guard {
    shared: Arc<Shared>,
    stop: Cancel,
    keeper: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    fate: Fate,
    log: Option<OwnedFd>,
    state: Mutex<State>,
}

/// The process, and what it knows, for one that takes its place.
#[derive(Debug)]
struct State {
    process: Arc<GuardProcess>,
    /// True while no process could be started in the place of the last.
    is_missing: bool,
    spaces: HashMap<u64, Known>,
}

/// A space that the guard knows.
#[derive(Debug)]
struct Known {
    uffd: OwnedFd,
    process: Option<(OwnedFd, i32)>,
    missing: Ranges,
}

impl Guard {
    /// Starts a guard, which writes what it has to say into `log`.
    ///
    /// # Errors
    /// [`LazyError::Guard`] if the kernel does not start one.
    pub(super) fn start(on_loss: OnLoss, log: Option<OwnedFd>) -> Result<Self, LazyError> {
        let fate = match on_loss {
            OnLoss::Kill => Fate::Kill,
            OnLoss::SigBus => Fate::Poison,
        };
        let process = GuardProcess::start(fate, log.as_ref().map(AsFd::as_fd));
        let process = Arc::new(process.map_err(LazyError::Guard)?);
        let state = Mutex::new(State { process, is_missing: false, spaces: HashMap::new() });
        let shared = Arc::new(Shared { fate, log, state });
        let stop = Cancel::new()?;
        let keep = {
            let (shared, stop) = (Arc::clone(&shared), stop.clone());
            move || shared.keep(&stop)
        };
        let keeper = thread::Builder::new().name("lazy guard".to_owned()).stack_size(STACK);
        let keeper = keeper.spawn(keep).map_err(LazyError::system("start a thread"))?;
        Ok(Self { shared, stop, keeper: Some(keeper) })
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(keeper) = self.keeper.take() {
            let _ = keeper.join();
        }
    }
}

impl Watcher for Guard {
    fn begins(&self, begun: Begun<'_>) -> Result<(), LazyError> {
        let Begun { space, uffd, missing, process } = begun;
        let copy = |fd: BorrowedFd<'_>| {
            fd.try_clone_to_owned().map_err(LazyError::system("hand a task to the guard"))
        };
        let held = |process| copy(process).map(|held| (held, fd::number_of(process).unwrap_or(0)));
        let process = process.map(held).transpose()?;
        let known = Known { uffd: copy(uffd)?, process, missing: Ranges::new(missing) };
        let mut state = self.shared.state();
        known.tell(space, &state.process);
        state.spaces.insert(space, known);
        Ok(())
    }

    fn changes(&self, space: u64, change: &Change) {
        let mut state = self.shared.state();
        let Some(known) = state.spaces.get_mut(&space) else { return };
        let news = match *change {
            Change::Moved { from, to, bytes } => {
                known.missing.shift(from, to, bytes);
                News::Moved { space, from, to, bytes }
            }
            Change::Gone(Range { start, end }) => {
                known.missing.cut(&(start..end));
                News::Gone { space, start, end }
            }
        };
        tell(&state.process, news);
    }

    fn ends(&self, space: u64) {
        let mut state = self.shared.state();
        if state.spaces.remove(&space).is_some() {
            tell(&state.process, News::Ends { space });
        }
    }
}

impl Shared {
    /// Keeps a guard running until the handler stops.
    fn keep(&self, stop: &Cancel) {
        let (mut since, mut pause) = (Instant::now(), Duration::ZERO);
        loop {
            let process = Arc::clone(&self.state().process);
            let _ = wait(&[process.as_fd(), stop.as_fd()], None);
            if stop.is_cancelled() {
                tell(&process, News::Done);
                process.reap(PATIENCE);
                return;
            }
            process.reap(PATIENCE);
            // Somebody has killed the guard, or it did not listen, or none could be started.
            if since.elapsed() > CALM {
                pause = Duration::ZERO;
            }
            if !pause.is_zero() && wait(&[stop.as_fd()], Some(pause)) {
                continue;
            }
            pause = (pause * 2).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
            since = Instant::now();
            self.replace();
        }
    }

    /// Starts another guard, and tells it all that the last one knew.
    fn replace(&self) {
        let mut state = self.state();
        match GuardProcess::start(self.fate, self.log.as_ref().map(AsFd::as_fd)) {
            Ok(process) => {
                for (space, known) in &state.spaces {
                    known.tell(*space, &process);
                }
                state.process = Arc::new(process);
                if std::mem::take(&mut state.is_missing) {
                    self.say("missing pages are guarded again");
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut state.is_missing, true) {
                    self.say(&format!(
                        "cannot start another guard: {error}: \
                        missing pages turn into zeros if this process is killed"
                    ));
                }
            }
        }
    }

    fn say(&self, what: &str) {
        if let Some(log) = &self.log {
            let _ = nix::unistd::write(log, format!("criu-rs guard: {what}\n").as_bytes());
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn tell(&self, space: u64, guard: &GuardProcess) {
        let process = self.process.as_ref().map(|(process, pid)| (process.as_fd(), *pid));
        tell(guard, News::Begins { space, uffd: self.uffd.as_fd(), process });
        for ranges in self.missing.to_vec().chunks(RANGES) {
            tell(guard, News::Missing { space, ranges });
        }
    }
}

/// Tells a guard news. One that does not listen is killed: another takes its place.
fn tell(guard: &GuardProcess, news: News<'_>) {
    if guard.tell(news, PATIENCE).is_err() {
        guard.kill();
    }
}

/// Waits until one of the descriptors is readable. Returns false if the time has passed before.
fn wait(fds: &[BorrowedFd<'_>], at_most: Option<Duration>) -> bool {
    let mut fds: Vec<_> = fds.iter().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)).collect();
    let timeout = at_most.and_then(|time| PollTimeout::try_from(time).ok());
    !matches!(poll(&mut fds, timeout.unwrap_or(PollTimeout::NONE)), Ok(0))
}

/// The time in which a guard takes what it is told, and ends when it is told to.
const PATIENCE: Duration = Duration::from_secs(2);

/// The life of a guard after which the next is started at once.
const CALM: Duration = Duration::from_secs(10);

/// The shortest pause before a guard is started again.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);

/// The longest pause before a guard is started again.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The stack of the thread that waits for the end of the guard.
const STACK: usize = 256 << 10;

/// Returns a descriptor of standard error, if there is one.
pub(super) fn standard_error() -> Option<OwnedFd> {
    let error = std::io::stderr();
    let error: BorrowedFd<'_> = error.as_fd();
    error.try_clone_to_owned().ok()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use nix::sys::signal::Signal;

    use super::*;

    /// The guards of this process, by their numbers.
    fn pid(guard: &Guard) -> i32 {
        fd::number_of(&*guard.shared.state().process).unwrap()
    }

    fn line(pid: i32, name: &str) -> String {
        let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim_start_matches(':').trim().to_owned()
    }

    #[test]
    fn a_guard_is_small_apart_and_replaced_when_it_is_killed() {
        let memory = vec![1u8; 64 << 20];
        let leaked = nix::unistd::dup(std::io::stdin()).unwrap();
        let guard = Guard::start(OnLoss::Kill, None).unwrap();
        let first = pid(&guard);
        assert!(criu_lab::soon(|| line(first, "Name") == "criu-rs guard"));
        let fds = || fs::read_dir(format!("/proc/{first}/fd")).unwrap().count();
        // The socket, and the descriptor of this process.
        assert!(criu_lab::soon(|| fds() == 2), "{}", fds());
        let kilobytes = || line(first, "RssAnon").trim_end_matches(" kB").parse::<u64>().unwrap();
        assert!(criu_lab::soon(|| kilobytes() < 2048), "{}", kilobytes());
        assert_eq!(line(first, "NSsid"), first.to_string());
        assert_eq!(line(first, "SigBlk"), "fffffffe7ffbfeff");
        assert!(memory.iter().all(|byte| *byte == 1));
        drop(leaked);

        nix::sys::signal::kill(nix::unistd::Pid::from_raw(first), nix::sys::signal::SIGKILL)
            .unwrap();
        assert!(criu_lab::soon(|| pid_now(&guard).is_some_and(|now| now != first)));
        let second = pid(&guard);
        drop(guard);
        for gone in [first, second] {
            assert!(!fs::exists(format!("/proc/{gone}")).unwrap(), "{gone} is not reaped");
        }
    }

    fn pid_now(guard: &Guard) -> Option<i32> {
        fd::number_of(&*guard.shared.state().process)
    }

    #[test]
    fn a_guard_takes_more_ranges_than_its_socket_holds() {
        let guard = Guard::start(OnLoss::SigBus, None).unwrap();
        let first = pid(&guard);
        // A guard only holds this descriptor. One of a userfaultfd of this process would wait for
        // the fork of the next guard to be read.
        let uffd = fs::File::open("/dev/null").unwrap();
        let end = 1 << 20;
        let missing: Vec<_> =
            (0..100_000).map(|at| end + at * 8192..end + at * 8192 + 4096).collect();
        for space in 1..=3 {
            let begun = Begun { space, uffd: uffd.as_fd(), missing: &missing, process: None };
            guard.begins(begun).unwrap();
        }
        assert_eq!(pid(&guard), first);
        // The one that takes its place takes them, too.
        guard.shared.state().process.kill();
        assert!(criu_lab::soon(|| pid_now(&guard).is_some_and(|now| now != first)));
        let second = pid(&guard);
        guard.changes(1, &Change::Gone(0..end));
        guard.ends(1);
        assert_eq!(pid(&guard), second);
    }

    #[test]
    fn a_guard_that_is_stopped_does_not_hold_up_its_handler() {
        let guard = Guard::start(OnLoss::Kill, None).unwrap();
        fd::signal(&*guard.shared.state().process, Signal::SIGSTOP).unwrap();
        drop(guard);
    }
}
