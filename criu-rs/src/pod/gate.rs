//! Operations that run side by side and wait for each other before the last step.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::{io, thread};

use super::error::PodError;
use crate::criu::Criu;
use crate::error::Error;
use crate::hooks::{Action, At, HookError, HookResult, Hooks};
use crate::value::InvalidValue;

/// An operation on a container: a dump or a restore.
pub(super) trait Operation: Send {
    type Outcome: Send;

    /// The action at which the operation waits for the others.
    const AT: Action;

    fn run_with(&self, criu: &Criu, hooks: &mut dyn Hooks) -> Result<Self::Outcome, Error>;
}

/// A container and its operation.
pub(super) struct Container<'a, O> {
    pub(super) name: String,
    pub(super) operation: O,
    pub(super) hooks: Option<&'a mut (dyn Hooks + Send)>,
}

/// Refuses a criu that can be asked only one request at a time.
pub(super) fn connections(criu: &Criu) -> Result<(), InvalidValue> {
    if criu.transport().is_one_connection() {
        let (what, found) = ("a pod's criu", "one connection");
        let want = "a program or a service: each container takes a connection of its own";
        return Err(InvalidValue::new(what, found, want));
    }
    Ok(())
}

/// Sets an option of every operation.
pub(super) fn set<O: Clone>(containers: &mut [Container<'_, O>], option: impl Fn(O) -> O) {
    for container in containers {
        container.operation = option(container.operation.clone());
    }
}

/// The outcomes of the operations.
pub(super) struct Endings<T> {
    /// Outcomes with the containers' names.
    outcomes: Vec<(String, Result<T, Error>)>,
    /// The caller's refusal.
    refused: Option<HookError>,
    /// Set if all operations came to where they wait, and were let go.
    pub(super) is_let_go: bool,
}

/// Runs each operation to where it waits. When all wait, asks `go_on`, and lets all go or makes all
/// refuse.
pub(super) fn run<'a, O: Operation + 'a>(
    containers: Vec<Container<'a, O>>,
    criu: &Criu,
    go_on: impl FnOnce() -> HookResult,
) -> Endings<O::Outcome> {
    let gate = &Gate::default();
    let count = containers.len();
    thread::scope(|scope| {
        // Operations that wait are told, whatever happens here.
        let _end = RefuseWhenDropped(gate);
        let start = |container: Container<'a, O>| {
            let Container { name, operation, hooks } = container;
            let thread = scope.spawn(move || {
                let _left = LeaveWhenDropped(gate);
                let mut none = ();
                let hooks: &mut dyn Hooks = match hooks {
                    Some(hooks) => hooks,
                    None => &mut none,
                };
                let then = || gate.pass();
                operation.run_with(criu, &mut At { hooks, action: O::AT, then })
            });
            (name, thread)
        };
        let threads: Vec<_> = containers.into_iter().map(start).collect();
        let refused = if gate.all_wait(count) { go_on().err() } else { None };
        let is_let_go = gate.all_wait(count) && refused.is_none();
        gate.decide(if is_let_go { Decision::GoOn } else { Decision::Refuse });
        let lost =
            || Error::system("go on with the container", io::Error::other("a hook panicked"));
        let ended = threads.into_iter().map(|(name, thread)| {
            let ended = thread.join().unwrap_or_else(|_| Err(lost()));
            (name, ended)
        });
        Endings { outcomes: ended.collect(), refused, is_let_go }
    })
}

impl<T> Endings<T> {
    /// The outcome of the pod.
    pub(super) fn conclude(self) -> Result<Vec<(String, T)>, PodError> {
        if let Some(refused) = self.refused {
            return Err(PodError::Hook(refused));
        }
        let mut complete = Vec::new();
        let mut failed = Vec::new();
        for (name, outcome) in self.outcomes {
            match outcome {
                Ok(outcome) => complete.push((name, outcome)),
                // This crate refused because of another container.
                Err(Error::Hook { source, .. }) if source.is::<Refused>() => {}
                Err(source) => failed.push((name, Box::new(source))),
            }
        }
        match (failed.into_iter().next(), self.is_let_go) {
            (None, true) => Ok(complete),
            (None, false) => Err(PodError::Hook("criu ended without its actions".into())),
            (Some((name, source)), false) => Err(PodError::Container { name, source }),
            (Some((name, source)), true) => {
                let complete = complete.into_iter().map(|(name, _)| name).collect();
                Err(PodError::Torn { name, source, complete })
            }
        }
    }
}

/// The place where operations wait for each other.
#[derive(Default)]
struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Operations that wait, or have waited.
    waiting: usize,
    /// Operations that are over.
    left: usize,
    decision: Option<Decision>,
}

#[derive(Clone, Copy, PartialEq)]
enum Decision {
    GoOn,
    Refuse,
}

impl Gate {
    /// Called by an operation that has arrived. Waits for the decision about all.
    fn pass(&self) -> HookResult {
        let mut state = self.state();
        state.waiting += 1;
        self.changed.notify_all();
        loop {
            match state.decision {
                Some(Decision::GoOn) => return Ok(()),
                Some(Decision::Refuse) => return Err(Refused.into()),
                None => {
                    state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    /// Waits until `count` operations wait, or one of them ends too early. Returns whether all
    /// wait.
    fn all_wait(&self, count: usize) -> bool {
        let mut state = self.state();
        while state.waiting < count && state.left == 0 {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.left == 0
    }

    /// Tells the decision to the operations that wait. The first decision holds.
    fn decide(&self, decision: Decision) {
        self.state().decision.get_or_insert(decision);
        self.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A guard that counts an operation as over when it is dropped.
struct LeaveWhenDropped<'g>(&'g Gate);

impl Drop for LeaveWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.state().left += 1;
        self.0.changed.notify_all();
    }
}

/// A guard that refuses when it is dropped, unless there is a decision.
struct RefuseWhenDropped<'g>(&'g Gate);

impl Drop for RefuseWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.decide(Decision::Refuse);
    }
}

/// The refusal for an operation that would have succeeded.
#[derive(Debug, thiserror::Error)]
#[error("another container of the pod has failed")]
struct Refused;
