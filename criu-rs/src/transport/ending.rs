//! The early end of a worker, at a moment that harms no task.

use std::time::{Duration, Instant};

use super::endable::Endable;
use super::subject::Subject;
use crate::diagnosis::StopMethod;
use crate::host::Held;

/// The ending of a worker, at a safe point if there is one in time.
#[derive(Debug, Default)]
pub(crate) struct Ending {
    /// The time since when a safe point has been looked for.
    since: Option<Instant>,
    /// The way the worker was told to end, once decided.
    told: Option<StopMethod>,
    /// The time since when the end has been waited for.
    waiting: Option<Instant>,
    /// Killed tasks of an unfinished restore.
    swept: Vec<Held>,
}

/// The next step for an operation that is being stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Look again at this time, or when CRIU does something.
    Wait(Instant),
    /// The worker is gone.
    Over(StopMethod),
}

impl Ending {
    /// Returns the way the worker was told to end, once that is decided.
    pub(crate) fn method(&self) -> Option<StopMethod> {
        self.told
    }

    /// Ends the worker, and waits until it is gone.
    pub(crate) fn finish(mut self, worker: &mut impl Endable) {
        while let Next::Wait(until) = self.advance(Instant::now(), worker) {
            if self.told.is_none() && worker.is_gone() {
                return;
            }
            std::thread::sleep(until.saturating_duration_since(Instant::now()));
        }
    }

    /// Takes the next step.
    pub(crate) fn advance(&mut self, now: Instant, worker: &mut impl Endable) -> Next {
        let since = *self.since.get_or_insert(now);
        if let Some(how) = self.told {
            if worker.is_gone() {
                worker.bury(&self.swept);
                return Next::Over(how);
            }
            if now > *self.waiting.get_or_insert(now) + TERM_TIME {
                worker.kill();
            }
            return Next::Wait(now + TICK);
        }
        if worker.has_ended() {
            // The worker may have left its answer, perhaps a success.
            return Next::Wait(now);
        }
        let how = match worker.subject() {
            Subject::Tasks { root, .. } if worker.hold(root) => StopMethod::Killed,
            // Saved tasks are about to be killed.
            Subject::Tasks { .. } | Subject::Saved if now < since + WINDOW => {
                return Next::Wait(now + TICK);
            }
            Subject::Tasks { .. } | Subject::Saved => StopMethod::KilledUnsafely,
            // Others adopt the worker's tasks when it ends.
            Subject::Restored { .. } if !worker.halt() => return Next::Wait(now),
            Subject::Restored { root } => {
                self.swept = worker.sweep(root);
                StopMethod::Killed
            }
            Subject::None => StopMethod::Killed,
        };
        worker.terminate();
        self.told = Some(how);
        Next::Wait(now + TICK)
    }
}

/// The time to wait for a safe point. The dangerous stretches last a few milliseconds a task.
const WINDOW: Duration = Duration::from_secs(1);

/// The time between two looks.
const TICK: Duration = Duration::from_millis(1);

/// The time that SIGTERM may take before SIGKILL follows.
const TERM_TIME: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::super::scripted::Scripted;
    use super::*;
    use crate::value::Pid;

    /// Lets time pass in the requested steps, to the end.
    fn run(worker: &mut Scripted, mut each: impl FnMut(Duration, &mut Scripted)) -> StopMethod {
        let start = Instant::now();
        let mut ending = Ending::default();
        let mut now = start;
        loop {
            match ending.advance(now, worker) {
                Next::Over(how) => return how,
                Next::Wait(until) => now = until.max(now + Duration::from_micros(1)),
            }
            assert!(now < start + Duration::from_secs(10), "no end: {worker:?}");
            each(now - start, worker);
        }
    }

    fn tasks() -> Subject {
        Subject::Tasks { root: Pid::this(), end: true }
    }

    #[test]
    fn a_dump_ends_at_the_first_safe_point() {
        let mut worker = Scripted::new(tasks());
        let how = run(&mut worker, |passed, worker| {
            assert!(worker.is_safe || worker.done.is_empty(), "touched before it was safe");
            worker.is_safe |= passed > Duration::from_millis(300);
        });
        assert_eq!((how, worker.done), (StopMethod::Killed, vec!["terminate"]));
    }

    #[test]
    fn a_dump_without_a_safe_point_is_ended_after_the_window_and_says_so() {
        let mut worker = Scripted::new(tasks());
        let how = run(&mut worker, |passed, worker| {
            assert!(passed >= WINDOW || worker.done.is_empty(), "ended after {passed:?}");
        });
        assert_eq!(how, StopMethod::KilledUnsafely);
    }

    #[test]
    fn a_worker_that_does_not_heed_sigterm_is_killed() {
        let mut worker = Scripted::new(Subject::None);
        worker.heeds_term = false;
        let how = run(&mut worker, |passed, worker| {
            assert!(passed >= TERM_TIME || !worker.done.contains(&"kill"));
        });
        assert_eq!(how, StopMethod::Killed);
        assert_eq!(worker.done, ["terminate", "kill"]);
    }

    #[test]
    fn a_restore_is_halted_before_its_tasks_are_swept() {
        let mut worker = Scripted::new(Subject::Restored { root: Some(Pid::this()) });
        assert_eq!(run(&mut worker, |_, _| {}), StopMethod::Killed);
        assert_eq!(worker.done, ["halt", "sweep", "terminate", "reap"]);
    }

    #[test]
    fn a_worker_that_has_ended_by_itself_is_left_alone() {
        let mut worker = Scripted::new(tasks());
        worker.ended = true;
        let mut ending = Ending::default();
        let now = Instant::now();
        assert_eq!(ending.advance(now, &mut worker), Next::Wait(now));
        assert!(worker.done.is_empty());
        assert_eq!(ending.method(), None);
    }

    #[test]
    fn tasks_that_are_saved_are_given_the_window_to_be_killed() {
        let mut worker = Scripted::new(Subject::Saved);
        let how = run(&mut worker, |passed, worker| {
            assert!(passed >= WINDOW || worker.done.is_empty());
        });
        assert_eq!(how, StopMethod::KilledUnsafely);
    }
}
