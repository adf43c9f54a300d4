//! Instant captures of several containers as one.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::dump::{Container, Pod};
use super::error::PodError;
use super::gate::{self, Operation};
use super::hooks::PodHooks;
use crate::criu::Criu;
use crate::error::{Error, Misuse};
use crate::hooks::{Action, Hooks};
use crate::instant::{
    self, Agreed, InstantCapture, InstantError, InstantOptions, Late, ReadOut, Ready,
};
use crate::operation::Dump;

/// An instant capture of a pod, whose containers run on while their memory is read.
#[derive(Debug)]
#[non_exhaustive]
pub struct PodInstant {
    /// The names and captures of the containers, in the order in which they were added. All images
    /// are kept or none: if the reading of one container fails, all fail.
    pub containers: Vec<(String, InstantCapture)>,
    /// Time for which all containers stood still.
    pub frozen: Duration,
}

impl PodInstant {
    /// Returns the bytes of pages written so far, and of all pages, of all containers.
    pub fn progress(&self) -> (u64, u64) {
        let each = self.containers.iter().map(|(_, capture)| capture.reading.progress());
        each.fold((0, 0), |(done, all), (more, of)| {
            (done.saturating_add(more), all.saturating_add(of))
        })
    }

    /// Returns `true` when the images of all containers are complete and no holder is left, or the
    /// reading has failed.
    pub fn is_finished(&self) -> bool {
        self.containers.iter().all(|(_, capture)| capture.reading.is_finished())
    }

    /// Ends the reading soon: see [`Reading::cancel`](crate::instant::Reading::cancel).
    pub fn cancel(&self) {
        self.containers.iter().for_each(|(_, capture)| capture.reading.cancel());
    }

    /// Waits until the images of all containers are complete and no holder is left.
    ///
    /// # Errors
    /// [`PodError::Container`] with the name of a container whose memory cannot be read or written.
    /// No image of this run is left, and the containers run on.
    pub fn wait(self) -> Result<Vec<(String, ReadOut)>, PodError> {
        let (mut complete, mut failed) = (Vec::new(), None);
        for (name, capture) in self.containers {
            match capture.reading.wait() {
                Ok(read) => complete.push((name, read)),
                Err(error) => failed = Some(first(failed, name, error)),
            }
        }
        match failed {
            Some((name, source)) => Err(PodError::Container { name, source: Box::new(source) }),
            None => Ok(complete),
        }
    }
}

/// Returns the failure to tell about. One that follows from that of another container is not.
fn first(known: Option<(String, Error)>, name: String, error: Error) -> (String, Error) {
    match known {
        Some(known) if !follows(&known.1) => known,
        _ => (name, error),
    }
}

/// Says whether the images of a container are not kept for the sake of another container.
fn follows(error: &Error) -> bool {
    let Error::Instant(source) = error else { return false };
    matches!(source.downcast_ref(), Some(InstantError::Others))
}

impl<'a> Pod<'a> {
    /// Freezes the containers, dumps them as [`dump`](Self::dump) does, and lets them go. Their
    /// memory is read from holders while they run on: see [`instant`](crate::instant). All holders
    /// are made before the first task goes on, so the images are of one moment. Room for the worst
    /// case is looked for once, for all containers together.
    ///
    /// If the dumps end the tasks ([`AfterDump::Kill`](crate::AfterDump::Kill)), nothing runs on
    /// meanwhile, and the pod is dumped as by [`dump`](Self::dump).
    ///
    /// ```no_run
    /// use criu_rs::instant::InstantOptions;
    /// use criu_rs::{AfterDump, Criu, Dump, Pid, Pod};
    ///
    /// let (web, log): (Pid, Pid) = ("4711".parse()?, "4720".parse()?);
    /// let container = |name: &str, pid| {
    ///     Dump::new(pid, format!("/ckpt/{name}"))
    ///         .after_dump(AfterDump::LeaveRunning)
    ///         .freeze_cgroup(format!("/sys/fs/cgroup/pod7/{name}"))
    /// };
    /// let pod = Pod::new().container("web", container("web", web));
    /// let pod = pod.container("log", container("log", log));
    /// let capture = pod.instant(&Criu::new(), &InstantOptions::new(), &mut ())?;
    /// println!("frozen for {:?}", capture.frozen);
    /// capture.wait()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// See [`PodError`]. Except after [`PodError::Torn`], all containers run on, their freezers are
    /// as they were, and no image of this run is left. [`PodError::Container`] before anything is
    /// frozen for a dump that ends its tasks while another one leaves them running, and for a criu
    /// that is not started by this process. [`PodError::Torn`] only if the dumps end the tasks.
    pub fn instant(
        self,
        criu: &Criu,
        options: &InstantOptions,
        hooks: &mut dyn PodHooks,
    ) -> Result<PodInstant, PodError> {
        let votes = Arc::new(Votes::default());
        let mut all_end = false;
        let make = |containers: Vec<Container<'a>>| {
            all_end = ends(&containers, criu)?;
            if all_end { Ok(plain(containers)) } else { make(containers, criu, options, &votes) }
        };
        let ran = self.run(criu, hooks, make, || votes.let_go());
        votes.late.end();
        let (containers, frozen) = ran.map_err(|error| match error {
            // All images are kept or none, so the others are not complete.
            PodError::Torn { name, source, .. } if !all_end => PodError::Container { name, source },
            other => other,
        })?;
        Ok(PodInstant { containers, frozen })
    }
}

/// Says whether the tasks of all containers end with their dumps.
fn ends(containers: &[Container<'_>], criu: &Criu) -> Result<bool, PodError> {
    for Container { name, operation: dump, .. } in containers {
        let ends = instant::ends_tasks(dump, criu);
        let failed = |source| PodError::Container { name: name.clone(), source: Box::new(source) };
        if !ends.map_err(failed)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Makes plain dumps of tasks that end with them.
fn plain<'a>(containers: Vec<Container<'a>>) -> Vec<gate::Container<'a, Once<'a>>> {
    let made = containers.into_iter().map(|Container { name, operation, hooks }| gate::Container {
        name,
        operation: Once::Ends(Box::new(operation)),
        hooks,
    });
    made.collect()
}

/// Makes the captures of all containers ready, before anything is frozen.
fn make<'a>(
    containers: Vec<Container<'a>>,
    criu: &Criu,
    options: &InstantOptions,
    votes: &Arc<Votes>,
) -> Result<Vec<gate::Container<'a, Once<'a>>>, PodError> {
    let dumps = containers.iter().map(|container| container.operation.clone());
    let ready = Ready::all(dumps, criu, options).map_err(|(at, source)| {
        let name = containers.get(at).map_or_else(String::new, |container| container.name.clone());
        PodError::Container { name, source: Box::new(source) }
    })?;
    votes.lock().missing = ready.len();
    let made = containers.into_iter().zip(ready).map(|(container, ready)| {
        let vote = Vote(Some(Arc::clone(votes)));
        let agreed: Agreed = Box::new(move |is_complete| vote.cast(is_complete));
        let ready = Box::new(Mutex::new(Some((ready, agreed))));
        let operation = Once::Held(ready, Arc::clone(votes));
        gate::Container { name: container.name, operation, hooks: container.hooks }
    });
    Ok(made.collect())
}

/// The capture of a container.
enum Once<'a> {
    /// A capture that is ready, and runs once.
    Held(Box<Mutex<Option<(Ready<'a>, Agreed)>>>, Arc<Votes>),
    /// A dump that ends the tasks.
    Ends(Box<Dump<'a>>),
}

impl Operation for Once<'_> {
    type Outcome = InstantCapture;

    const AT: Action = Action::PostDump;

    fn run_with(&self, criu: &Criu, hooks: &mut dyn Hooks) -> Result<InstantCapture, Error> {
        let (ready, votes) = match self {
            Self::Held(ready, votes) => (ready, votes),
            Self::Ends(dump) => return instant::ended(dump, criu, hooks),
        };
        let taken = ready.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (ready, agreed) = taken.ok_or(Misuse::SessionOver)?;
        ready.run_agreed(hooks, agreed, &votes.late)
    }
}

/// The votes of all containers: their images are kept if all are complete.
#[derive(Default)]
struct Votes {
    state: Mutex<State>,
    changed: Condvar,
    /// Holders of dumps that have failed.
    late: Late,
}

#[derive(Default)]
struct State {
    missing: usize,
    is_refused: bool,
    /// Set when no container is frozen any more.
    is_let_go: bool,
}

impl State {
    fn is_decided(&self) -> bool {
        self.missing == 0 || self.is_refused
    }
}

/// The vote of one container. Dropped without being cast, it refuses.
struct Vote(Option<Arc<Votes>>);

impl Vote {
    /// Casts the vote, and waits for the others. Returns whether all images are kept. By then all
    /// containers have been let go: a frozen task could not reap its holder.
    fn cast(mut self, is_complete: bool) -> bool {
        let Some(votes) = self.0.take() else { return false };
        let mut state = votes.lock();
        state.missing = state.missing.saturating_sub(1);
        state.is_refused |= !is_complete;
        votes.changed.notify_all();
        while !state.is_decided() || !state.is_let_go {
            state = votes.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        !state.is_refused
    }
}

impl Drop for Vote {
    fn drop(&mut self) {
        if let Some(votes) = self.0.take() {
            votes.lock().is_refused = true;
            votes.changed.notify_all();
        }
    }
}

impl Votes {
    /// Tells that no container is frozen any more.
    fn let_go(&self) {
        self.lock().is_let_go = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn votes(count: usize, is_let_go: bool) -> (Arc<Votes>, Vec<Vote>) {
        let state = Mutex::new(State { missing: count, is_let_go, ..State::default() });
        let votes = Arc::new(Votes { state, ..Votes::default() });
        let each = (0..count).map(|_| Vote(Some(Arc::clone(&votes)))).collect();
        (votes, each)
    }

    #[test]
    fn a_vote_waits_until_no_container_is_frozen() {
        for is_complete in [true, false] {
            let (votes, each) = votes(1, false);
            let cast = |vote: Vote| thread::spawn(move || vote.cast(is_complete));
            let threads: Vec<_> = each.into_iter().map(cast).collect();
            assert!(criu_lab::soon(|| votes.lock().is_decided()));
            assert!(threads.iter().all(|thread| !thread.is_finished()));
            votes.let_go();
            for thread in threads {
                assert_eq!(thread.join().unwrap(), is_complete);
            }
        }
    }

    #[test]
    fn images_are_kept_if_all_are_complete() {
        let cast = |ballots: Vec<Option<bool>>| {
            let votes = votes(ballots.len(), true).1.into_iter().zip(ballots);
            let cast = votes.map(|(vote, ballot)| {
                thread::spawn(move || ballot.is_some_and(|is_complete| vote.cast(is_complete)))
            });
            let threads: Vec<_> = cast.collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(cast(vec![Some(true), Some(true), Some(true)]), [true; 3]);
        assert_eq!(cast(vec![Some(true), Some(false), Some(true)]), [false; 3]);
        // One that never comes to vote.
        assert_eq!(cast(vec![Some(true), None]), [false; 2]);
    }
}
