//! The guard of a handler: a process that acts when this one is killed.

use std::collections::HashMap;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::error::LazyError;
use super::options::OnLoss;
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
    spaces: HashMap<u64, Known>,
}

/// A space that the guard knows.
#[derive(Debug)]
struct Known {
    uffd: OwnedFd,
    process: Option<(OwnedFd, i32)>,
    missing: Vec<Range<u64>>,
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
        let state = Mutex::new(State { process, spaces: HashMap::new() });
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
    fn begins(&self, begun: Begun<'_>) {
        let Begun { space, uffd, missing, process } = begun;
        let Ok(uffd) = uffd.try_clone_to_owned() else { return };
        let process = process.and_then(|process| {
            let pid = fd::process_of(process).unwrap_or(0);
            Some((process.try_clone_to_owned().ok()?, pid))
        });
        let known = Known { uffd, process, missing: missing.to_vec() };
        let mut state = self.shared.state();
        known.tell(space, &state.process);
        state.spaces.insert(space, known);
    }

    fn changes(&self, space: u64, change: &Change) {
        let mut state = self.shared.state();
        let Some(known) = state.spaces.get_mut(&space) else { return };
        known.change(change);
        let news = match *change {
            Change::Moved { from, to, bytes } => News::Moved { space, from, to, bytes },
            Change::Gone(Range { start, end }) => News::Gone { space, start, end },
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
        loop {
            let process = Arc::clone(&self.state().process);
            let mut fds =
                [process.as_fd(), stop.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) => {}
                Err(Errno::EINTR) => continue,
                Err(_) => return,
            }
            if stop.is_cancelled() {
                tell(&process, News::Done);
                process.reap();
                return;
            }
            process.reap();
            // Somebody has killed the guard, or it did not listen.
            if !self.replace() {
                return;
            }
        }
    }

    /// Starts another guard, and tells it all that the last one knew.
    fn replace(&self) -> bool {
        let mut state = self.state();
        let Ok(process) = GuardProcess::start(self.fate, self.log.as_ref().map(AsFd::as_fd)) else {
            return false;
        };
        for (space, known) in &state.spaces {
            known.tell(*space, &process);
        }
        state.process = Arc::new(process);
        true
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn tell(&self, space: u64, guard: &GuardProcess) {
        let process = self.process.as_ref().map(|(process, pid)| (process.as_fd(), *pid));
        tell(guard, News::Begins { space, uffd: self.uffd.as_fd(), process });
        for ranges in self.missing.chunks(RANGES) {
            tell(guard, News::Missing { space, ranges });
        }
    }

    fn change(&mut self, change: &Change) {
        match change {
            Change::Gone(gone) => self.cut(gone),
            Change::Moved { from, to, bytes } => {
                let (source, target) =
                    (*from..from.saturating_add(*bytes), *to..to.saturating_add(*bytes));
                self.cut(&target);
                let moved: Vec<_> = self
                    .missing
                    .iter()
                    .map(|range| range.start.max(source.start)..range.end.min(source.end))
                    .filter(|range| range.start < range.end)
                    .map(|range| range.start - from + to..range.end - from + to)
                    .collect();
                self.cut(&source);
                self.missing.extend(moved);
            }
        }
    }

    /// Takes a range out of those that may miss pages.
    fn cut(&mut self, gone: &Range<u64>) {
        let parts = |range: Range<u64>| {
            [range.start..range.end.min(gone.start), range.start.max(gone.end)..range.end]
        };
        let all = std::mem::take(&mut self.missing).into_iter().flat_map(parts);
        self.missing = all.filter(|range| range.start < range.end).collect();
    }
}

/// Tells a guard news. One that does not listen is killed: another takes its place.
fn tell(guard: &GuardProcess, news: News<'_>) {
    if guard.tell(news).is_err() {
        guard.kill();
    }
}

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

    use super::*;

    /// The guards of this process, by their numbers.
    fn pid(guard: &Guard) -> i32 {
        fd::process_of(&*guard.shared.state().process).unwrap()
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
        fd::process_of(&*guard.shared.state().process)
    }

    #[test]
    fn the_ranges_that_a_new_guard_gets_are_those_of_the_last() {
        let mut known = Known {
            uffd: standard_error().unwrap(),
            process: None,
            missing: std::iter::once(10..20).collect(),
        };
        known.change(&Change::Gone(12..14));
        known.change(&Change::Moved { from: 11, to: 101, bytes: 5 });
        known.missing.sort_by_key(|range| range.start);
        assert_eq!(known.missing, [10..11, 16..20, 101..102, 104..106]);
    }
}
