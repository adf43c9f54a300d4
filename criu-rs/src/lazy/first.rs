//! Threads that bring the pages of working sets before all others.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::error::LazyError;
use super::missing::{Missing, PAGE, Run};
use super::shared::{Member, Shared};
use super::statistics::add;
use super::supply::{Reader, Urgency, Wanted};
use crate::sys::scheduling::{Scheduling, schedule};

/// The tasks whose working sets have not come yet.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    rung: Condvar,
}

#[derive(Debug, Default)]
struct State {
    jobs: VecDeque<Job>,
    stops: bool,
}

/// A task whose working set comes.
#[derive(Debug)]
struct Job {
    member: Arc<Member>,
    /// Pages that nobody brings yet, in their order.
    wanted: VecDeque<Wanted>,
    /// The number of requests that threads have taken.
    taken: usize,
    /// True once a page has come. Before, the memory may not be registered.
    has_landed: bool,
    /// The time before which nothing is tried.
    not_before: Option<Instant>,
}

/// A thread that brings the pages of working sets.
pub(super) struct First<'s> {
    shared: &'s Shared,
    /// The number of the thread in the handler.
    thread: usize,
    reader: Option<Box<dyn Reader + 's>>,
    /// Requests that were announced, in their order.
    line: VecDeque<(Arc<Member>, Wanted)>,
}

/// The end of a request.
enum End {
    /// The pages are there, or need not come.
    Done,
    /// The pages need not come, and nothing was tried.
    Vain,
    /// These pages are to be tried again after a time.
    Again(Wanted, Duration),
}

impl Queue {
    /// Takes a task and the pages that it wants first.
    pub(super) fn push(&self, member: Arc<Member>, wanted: VecDeque<Wanted>) {
        let job = Job { member, wanted, taken: 0, has_landed: false, not_before: None };
        self.state().jobs.push_back(job);
        self.rung.notify_all();
    }

    /// Ends the threads.
    pub(super) fn stop(&self) {
        self.state().stops = true;
        self.rung.notify_all();
    }

    /// Takes at most so many requests of one task: the tasks take turns. Waits for a request if
    /// `waits`. Returns `None` when the threads shall end.
    fn take(&self, most: usize, waits: bool) -> Option<Vec<(Arc<Member>, Wanted)>> {
        let mut state = self.state();
        loop {
            if state.stops {
                return None;
            }
            let now = Instant::now();
            let mut until: Option<Instant> = None;
            for _ in 0..state.jobs.len() {
                let Some(mut job) = state.jobs.pop_front() else { break };
                if job.is_over() {
                    job.member.first_came();
                    continue;
                }
                let later = job.not_before.filter(|moment| *moment > now);
                let requests = if later.is_none() { job.take(most) } else { Vec::new() };
                until = [until, later].into_iter().flatten().min();
                state.jobs.push_back(job);
                if !requests.is_empty() {
                    return Some(requests);
                }
            }
            if !waits {
                return Some(Vec::new());
            }
            let wait = until.map_or(LOOK, |until| until.saturating_duration_since(now).min(LOOK));
            let waited = self.rung.wait_timeout(state, wait);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Says how a request of a task has ended. Returns true if the working set of the task has
    /// come.
    fn settle(&self, member: &Member, end: End) -> bool {
        let mut state = self.state();
        let Some(at) = state.jobs.iter().position(|job| job.member.id == member.id) else {
            return false;
        };
        let Some(job) = state.jobs.get_mut(at) else { return false };
        job.taken -= 1;
        match end {
            End::Done => {
                let is_first = !std::mem::replace(&mut job.has_landed, true);
                if is_first && !job.wanted.is_empty() {
                    self.rung.notify_all();
                }
            }
            End::Vain => self.rung.notify_all(),
            End::Again(wanted, pause) => {
                job.wanted.push_front(wanted);
                job.not_before = Instant::now().checked_add(pause);
            }
        }
        let is_over = job.is_over();
        if is_over {
            state.jobs.remove(at);
        }
        is_over
    }

    /// Takes back the end of a request that was cut.
    fn put_back(&self, member: &Member, wanted: Wanted) {
        let mut state = self.state();
        if let Some(job) = state.jobs.iter_mut().find(|job| job.member.id == member.id) {
            job.wanted.push_front(wanted);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Job {
    /// Returns true if no page of the job has to come any more.
    fn is_over(&self) -> bool {
        self.taken == 0 && (self.wanted.is_empty() || self.is_vain())
    }

    /// Returns true if nobody wants the pages any more.
    fn is_vain(&self) -> bool {
        let course = &self.member.course;
        self.member.has_ended() || course.is_lost() || course.is_recording()
    }

    fn take(&mut self, most: usize) -> Vec<(Arc<Member>, Wanted)> {
        let most = match (self.has_landed, self.taken) {
            _ if self.is_vain() => 0,
            (true, _) => most.min(self.wanted.len()),
            // One request finds out if the memory is registered.
            (false, 0) => 1,
            (false, _) => 0,
        };
        let taken: Vec<_> = self.wanted.drain(..most.min(self.wanted.len())).collect();
        self.taken += taken.len();
        taken.into_iter().map(|wanted| (Arc::clone(&self.member), wanted)).collect()
    }
}

impl<'s> First<'s> {
    /// Makes the thread with a number.
    pub(super) fn new(shared: &'s Shared, thread: usize) -> Self {
        Self { shared, thread, reader: None, line: VecDeque::new() }
    }

    /// Brings pages until the handler ends.
    pub(super) fn run(&mut self) {
        // The tasks begin to run meanwhile, and want these pages at once.
        let _ = schedule(Scheduling::Eager);
        loop {
            let depth = self.reader.as_ref().map_or(0, |reader| reader.depth());
            if self.line.len() <= depth / 2 {
                let waits = self.line.is_empty();
                let most = depth.max(MOST).saturating_sub(self.line.len()).max(1);
                let Some(requests) = self.shared.first.take(most, waits) else { return };
                requests.into_iter().for_each(|(member, wanted)| self.plan(member, wanted));
            }
            let Some((member, wanted)) = self.line.pop_front() else { continue };
            let end = self.bring(&member, wanted).unwrap_or_else(|why| {
                self.reader = None;
                self.shared.give_up(&member.course, why, self.thread);
                // Requests of other restores, which were announced to the reader that has failed.
                for (member, wanted) in std::mem::take(&mut self.line) {
                    self.settle(&member, End::Again(wanted, Duration::ZERO));
                }
                End::Done
            });
            self.settle(&member, end);
        }
    }

    /// Announces a request, as far as its pages are missing and lie where they lay at the dump.
    fn plan(&mut self, member: Arc<Member>, wanted: Wanted) {
        let end = wanted.address.saturating_add(wanted.pages.saturating_mul(PAGE));
        let look = |map: &Missing| map.next(wanted.address, wanted.pages.min(AT_ONCE));
        let run = member.space.look(self.thread, look);
        let Some(Run { address, pages, .. }) =
            run.filter(|run| run.address < end && run.origin == run.address)
        else {
            return self.settle(&member, End::Vain);
        };
        let pages = pages.min((end - address) / PAGE);
        let behind = address + pages * PAGE;
        if behind < end {
            let rest = Wanted { address: behind, pages: (end - behind) / PAGE, ..wanted };
            self.shared.first.put_back(&member, rest);
        }
        let wanted = Wanted { address, pages, ..wanted };
        self.announce(wanted);
        self.line.push_back((member, wanted));
    }

    fn settle(&self, member: &Member, end: End) {
        if self.shared.first.settle(member, end) {
            member.first_came();
            self.shared.end_if_done(member);
            self.shared.ring();
        }
    }

    fn announce(&mut self, wanted: Wanted) {
        if self.reader.is_none() {
            // A source that cannot be reached is tried again when the page is wanted.
            self.reader = self.shared.supply.reader(Urgency::Background).ok();
        }
        if let Some(reader) = self.reader.as_mut().filter(|reader| reader.depth() > 0) {
            // An error comes again when the pages are read.
            let _ = reader.announce(wanted);
        }
    }

    /// Brings the pages of a request.
    fn bring(&mut self, member: &Member, wanted: Wanted) -> Result<End, LazyError> {
        let reader = match &mut self.reader {
            Some(reader) => reader,
            none => none.insert(self.shared.supply.reader(Urgency::Background)?),
        };
        let pages = reader.read(wanted)?;
        let got = (pages.size() / PAGE).min(wanted.pages);
        let counters = &member.course.counters;
        add(&counters.bytes, pages.size());
        let address = wanted.address;
        let whole = Run { address, origin: address, pages: got };
        let placed = member.space.place(self.thread, whole, &pages, |pages| {
            add(&counters.working_set, pages);
            add(&counters.pages, pages);
        });
        let rest = |from: u64| Wanted {
            address: address + from * PAGE,
            pages: wanted.pages - from,
            ..wanted
        };
        Ok(match placed.error {
            None if got < wanted.pages => End::Again(rest(got), Duration::ZERO),
            None => End::Done,
            Some(Errno::EAGAIN) => End::Again(wanted, SHORT),
            // The memory is not registered yet.
            Some(Errno::ENOENT) if !member.course.is_complete() => End::Again(wanted, PATIENCE),
            // Later, memory has moved or is gone, and the fill finds out.
            Some(Errno::ENOENT) => End::Done,
            Some(Errno::ENOMEM) => End::Again(wanted, LONG),
            Some(Errno::ESRCH) => {
                self.shared.end(member);
                End::Done
            }
            Some(error) => return Err(LazyError::system("fill missing pages")(error.into())),
        })
    }
}

/// The requests that a thread takes at once from a source that is near.
const MOST: usize = 16;

/// The most pages of a request.
const AT_ONCE: u64 = 64;

/// The time between two looks for work.
const LOOK: Duration = Duration::from_millis(250);

/// The pauses after a process whose message was read, memory that is not registered, and a lack of
/// memory.
const SHORT: Duration = Duration::from_micros(50);
const PATIENCE: Duration = Duration::from_micros(100);
const LONG: Duration = Duration::from_millis(10);
