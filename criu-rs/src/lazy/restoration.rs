//! A restore: its tasks, its progress, its end.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::error::LazyError;
use super::missing::Missing;
use super::shared::{Member, Shared};
use super::space::OTHER;
use super::statistics::{Counters, LazyProgress, LazyStatistics};
use super::supply::Wanted;
use crate::sys::uffd::Uffd;

/// A restore that a [`Handler`](super::Handler) serves. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Restoration {
    shared: Arc<Shared>,
    course: Arc<Course>,
}

/// The course of a restore.
#[derive(Debug, Default)]
pub(super) struct Course {
    pub(super) counters: Counters,
    is_complete: AtomicBool,
    is_recording: AtomicBool,
    is_lost: AtomicBool,
    /// The number of threads that read messages now, of which each may bring a child.
    arriving: AtomicUsize,
    state: Mutex<State>,
    changed: Condvar,
}

/// The changing part of a restore.
#[derive(Debug, Default)]
struct State {
    members: Vec<Arc<Member>>,
    lost: Option<Arc<LazyError>>,
    /// Pages that come first, by the task that wants them.
    first: HashMap<u32, VecDeque<Wanted>>,
    record: Record,
}

/// The record of the pages that tasks touch.
#[derive(Debug, Default)]
struct Record {
    since: Option<Instant>,
    touches: Vec<Touch>,
}

/// The first touch of a page.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Touch {
    /// The task, by its pid in the images. A forked child has the pid of its parent.
    pub pid: u32,
    /// The address of the page at the moment of the dump.
    pub address: u64,
    /// The time since the record began.
    pub time: Duration,
}

impl Restoration {
    /// Begins a restore.
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, course: Arc::default() }
    }

    /// Takes the missing pages of a task: its pid in the images, its userfaultfd, the addresses of
    /// its missing pages, ascending, and a descriptor of the process (pidfd) if there is one.
    /// Faults are served from now on.
    ///
    /// # Errors
    /// If the descriptor is no userfaultfd, if the ranges are not in order, or if the restore was
    /// given up.
    pub fn add(
        &self,
        pid: u32,
        uffd: OwnedFd,
        missing: &[Range<u64>],
        process: Option<OwnedFd>,
    ) -> Result<(), LazyError> {
        let uffd = Uffd::try_from(uffd).map_err(LazyError::system("taking a userfaultfd"))?;
        self.shared.adopt(&self.course, pid, uffd, Missing::new(missing)?, process)
    }

    /// Says that all tasks are here and run: pages come in the background from now on.
    pub fn complete(&self) {
        self.course.is_complete.store(true, Ordering::SeqCst);
        for member in self.course.members() {
            self.shared.end_if_done(&member);
        }
        self.shared.ring();
        self.course.changed.notify_all();
    }

    /// Brings pages before all others, in this order, as soon as the task that wants them is here.
    pub fn prefetch(&self, pages: impl IntoIterator<Item = Wanted>) {
        let mut state = self.course.state();
        for wanted in pages {
            state.first.entry(wanted.pid).or_default().push_back(wanted);
        }
        drop(state);
        self.shared.ring();
    }

    /// Records the pages that tasks touch, until [`Restoration::recorded`] is called. Meanwhile a
    /// page comes only when a task touches it, and comes alone.
    pub fn record(&self) {
        let mut state = self.course.state();
        state.record = Record { since: Some(Instant::now()), touches: Vec::new() };
        self.course.is_recording.store(true, Ordering::SeqCst);
    }

    /// Ends the record, and returns the touches in their order. Other pages come from now on.
    pub fn recorded(&self) -> Vec<Touch> {
        let mut state = self.course.state();
        self.course.is_recording.store(false, Ordering::SeqCst);
        let record = std::mem::take(&mut state.record);
        drop(state);
        self.shared.ring();
        record.touches
    }

    /// Gives the restore up: the tasks are treated as [`OnLoss`](super::OnLoss) says. Does nothing
    /// if all tasks have all their pages, or if the restore was given up before.
    pub fn give_up(&self, why: LazyError) {
        self.shared.give_up(&self.course, why, OTHER);
    }

    /// Returns the progress.
    pub fn progress(&self) -> LazyProgress {
        let members = self.course.members();
        let missing = members.iter().map(|member| member.space.look(OTHER, Missing::left)).sum();
        LazyProgress {
            pages: self.course.counters.pages.load(Ordering::Relaxed),
            missing,
            tasks: members.len() as u64,
            unused: self.course.counters.unused.load(Ordering::Relaxed),
        }
    }

    /// Returns the numbers so far.
    pub fn statistics(&self) -> LazyStatistics {
        let retries = self.shared.supply.retries();
        LazyStatistics { retries, ..self.course.counters.read() }
    }

    /// Waits until no page is missing or no task is left, at most for a time. Returns false if the
    /// time has passed. [`LazyProgress::unused`] is 0 if all pages have come. The restore must be
    /// [complete](Restoration::complete), or be given up.
    ///
    /// # Errors
    /// The error for which the restore was given up, once its tasks are treated.
    pub fn wait(&self, at_most: Option<Duration>) -> Result<bool, LazyError> {
        let end = at_most.and_then(|time| Instant::now().checked_add(time));
        let mut state = self.course.state();
        loop {
            let is_known = self.course.is_complete() || state.lost.is_some();
            let is_arriving = self.course.arriving.load(Ordering::SeqCst) > 0;
            if is_known && state.members.is_empty() && !is_arriving {
                return match &state.lost {
                    Some(why) => Err(LazyError::GivenUp(Arc::clone(why))),
                    None => Ok(true),
                };
            }
            let rest = end.map(|end| end.saturating_duration_since(Instant::now()));
            if rest == Some(Duration::ZERO) {
                return Ok(false);
            }
            // Nobody may ring if the handler's threads are gone, or if no child has come.
            let look = if is_arriving && state.members.is_empty() { SOON } else { LOOK };
            let rest = rest.unwrap_or(look).min(look);
            let waited = self.course.changed.wait_timeout(state, rest);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Course {
    /// Returns true once all tasks are here and run.
    pub(super) fn is_complete(&self) -> bool {
        self.is_complete.load(Ordering::SeqCst)
    }

    /// Returns true while touches are recorded.
    pub(super) fn is_recording(&self) -> bool {
        self.is_recording.load(Ordering::Relaxed)
    }

    /// Returns true once the restore is given up.
    pub(super) fn is_lost(&self) -> bool {
        self.is_lost.load(Ordering::SeqCst)
    }

    /// Returns the tasks that have missing pages.
    pub(super) fn members(&self) -> Vec<Arc<Member>> {
        self.state().members.clone()
    }

    /// Takes a task, also if the restore is given up: the restore lasts until the task is treated.
    pub(super) fn join(&self, member: &Arc<Member>) {
        let mut state = self.state();
        // A task that was treated before stays away.
        if !member.has_ended() {
            state.members.push(Arc::clone(member));
        }
    }

    /// Returns the error for which the restore was given up.
    pub(super) fn lost(&self) -> Option<Arc<LazyError>> {
        self.state().lost.clone()
    }

    /// Keeps the restore from its end until the result is dropped.
    pub(super) fn expect_arrival(&self) -> Arrival<'_> {
        self.arriving.fetch_add(1, Ordering::SeqCst);
        Arrival(&self.arriving)
    }

    /// Lets a task go.
    pub(super) fn leave(&self, id: u64) {
        self.state().members.retain(|member| member.id != id);
        self.changed.notify_all();
    }

    /// Says that the restore is given up. Returns false if it was before, or has ended.
    pub(super) fn lose(&self, why: LazyError) -> bool {
        let mut state = self.state();
        let is_arriving = self.arriving.load(Ordering::SeqCst) > 0;
        let has_ended = self.is_complete() && state.members.is_empty() && !is_arriving;
        if has_ended || state.lost.is_some() {
            return false;
        }
        state.lost = Some(Arc::new(why));
        self.is_lost.store(true, Ordering::SeqCst);
        self.changed.notify_all();
        true
    }

    /// Takes the pages that a task wants first.
    pub(super) fn take_first(&self, pid: u32) -> Option<VecDeque<Wanted>> {
        self.state().first.remove(&pid)
    }

    /// Records a touch.
    pub(super) fn touch(&self, pid: u32, address: u64, at: Instant) {
        let mut state = self.state();
        if let Some(since) =
            state.record.since.filter(|_| state.record.touches.len() < MOST_TOUCHES)
        {
            let time = at.saturating_duration_since(since);
            state.record.touches.push(Touch { pid, address, time });
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The time in which a child may come.
#[derive(Debug)]
pub(super) struct Arrival<'c>(&'c AtomicUsize);

impl Drop for Arrival<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The time between two looks at a restore that only the arrival of a child can keep on.
const SOON: Duration = Duration::from_millis(1);

/// The longest time for which a waiting caller does not look at the restore.
const LOOK: Duration = Duration::from_millis(500);

/// The most touches of a record, 384 MiB in memory. A page is touched first once, but once more in
/// each child that a task forks.
const MOST_TOUCHES: usize = 1 << 24;
