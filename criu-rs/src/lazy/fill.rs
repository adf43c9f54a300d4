//! The thread that brings pages before anybody asks for them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;

use super::error::LazyError;
use super::missing::{Missing, PAGE, Run};
use super::options::Fill;
use super::seat::leave;
use super::shared::{Member, Shared};
use super::space::Placed;
use super::statistics::add;
use super::supply::{Reader, Urgency, Wanted};
use crate::sys::scheduling::{Scheduling, schedule};

/// The thread that brings pages before anybody asks for them.
pub(super) struct Filler<'s> {
    shared: &'s Shared,
    /// The number of the thread in the handler.
    thread: usize,
    /// The number among the threads that fill. The first goes up through the memory, and ends what
    /// is done. Others help where a processor has nothing to do, and go down.
    number: usize,
    reader: Option<Box<dyn Reader + 's>>,
    jobs: VecDeque<Job>,
    /// Requests that were announced, in their order.
    line: VecDeque<Request>,
    /// The processors that this process may use, and the one that this thread has left.
    allowed: Option<CpuSet>,
    left: Option<usize>,
}

/// A task whose pages come.
#[derive(Debug)]
struct Job {
    member: Arc<Member>,
    /// True if the fill goes down from `cursor`, and up otherwise.
    goes_down: bool,
    /// The address where the fill goes on.
    cursor: u64,
    /// The time before which nothing is tried.
    not_before: Option<Instant>,
    /// The moment since which no memory was found for the pages that are left.
    lost_since: Option<Instant>,
    has_progress: bool,
}

/// Pages that are on their way.
#[derive(Debug)]
struct Request {
    member: Arc<Member>,
    run: Run,
}

/// The next thing to do.
enum Next {
    Request(Request),
    /// A pause up to a moment, or until the bell rings.
    Wait(Option<Instant>),
}

impl<'s> Filler<'s> {
    /// Makes the thread with a number in the handler, and with one among those that fill.
    pub(super) fn new(shared: &'s Shared, thread: usize, number: usize) -> Self {
        let (jobs, line) = (VecDeque::new(), VecDeque::new());
        let allowed = sched_getaffinity(Pid::from_raw(0)).ok();
        Self { shared, thread, number, reader: None, jobs, line, allowed, left: None }
    }

    /// Brings pages until the handler ends.
    pub(super) fn run(&mut self) {
        let goes_down = self.number > 0;
        let _ = schedule(if goes_down { Scheduling::Spare } else { Scheduling::Batch });
        self.reader = self.shared.supply.reader(Urgency::Background).ok();
        let mut wait = Duration::ZERO;
        loop {
            let new = self.shared.listen(self.number, wait);
            if self.shared.stops() {
                return;
            }
            self.jobs.extend(new.into_iter().map(|member| Job::new(member, goes_down)));
            self.jobs.retain(|job| !job.member.has_ended() && !job.is_over());
            wait = self.round();
        }
    }

    /// Announces requests, and brings the pages of the first. Returns the time for which nothing
    /// can be done.
    fn round(&mut self) -> Duration {
        // The scheduler would move a task that is woken to the processor of a thread that yields to
        // everybody, away from the thread that serves its faults.
        if self.number > 0 && self.shared.is_urgent() {
            return CALM;
        }
        self.make_room();
        let depth = self.reader.as_ref().map_or(0, |reader| reader.depth());
        let mut until = None;
        while self.line.len() < depth.max(1) {
            match self.next() {
                Next::Request(request) => {
                    if depth > 0 {
                        self.announce(&request);
                    }
                    self.line.push_back(request);
                }
                Next::Wait(moment) => {
                    until = moment;
                    break;
                }
            }
        }
        let Some(request) = self.line.pop_front() else {
            let rest = until.map(|until| until.saturating_duration_since(Instant::now()));
            return rest.map_or(LOOK, |rest| rest.clamp(SHORT, LOOK));
        };
        self.give_way();
        if let Err(why) = self.bring(&request) {
            // Announced requests of other restores are lost with the reader: their pages are still
            // missing, and are found again.
            self.reader = None;
            self.line.clear();
            self.shared.give_up(&request.member.course, why, self.thread);
        }
        Duration::ZERO
    }

    /// Leaves the processor of a task that waits for pages to the task and to the thread that
    /// serves its faults, as long as faults come.
    fn make_room(&mut self) {
        let seat = self.shared.seat().filter(|_| self.shared.is_urgent());
        if seat == self.left {
            return;
        }
        if let Some(allowed) = &self.allowed {
            let _ = leave(seat, allowed);
        }
        self.left = seat;
    }

    fn announce(&mut self, request: &Request) {
        if let Some(reader) = &mut self.reader {
            // An error comes again when the pages are read.
            let _ = reader.announce(request.wanted());
        }
    }

    /// Lets faults go first.
    fn give_way(&self) {
        for _ in 0..MOST_YIELDS {
            if self.shared.waiting.load(Ordering::Relaxed) == 0 {
                return;
            }
            std::thread::yield_now();
        }
    }

    /// Finds the next request: the tasks take turns.
    fn next(&mut self) -> Next {
        let now = Instant::now();
        let most = self.reader.as_ref().map_or(AT_ONCE, |reader| reader.most().clamp(1, AT_ONCE));
        let mut until: Option<Instant> = None;
        for _ in 0..self.jobs.len() {
            let Some(mut job) = self.jobs.pop_front() else { break };
            let request = match job.not_before {
                Some(moment) if moment > now => {
                    until = Some(until.map_or(moment, |until| until.min(moment)));
                    None
                }
                _ => job.next(self.thread, self.shared.options.fill, most),
            };
            self.jobs.push_back(job);
            if let Some(request) = request {
                return Next::Request(request);
            }
        }
        Next::Wait(until)
    }

    /// Brings the pages of a request.
    fn bring(&mut self, request: &Request) -> Result<(), LazyError> {
        let course = &request.member.course;
        if course.is_lost() || request.member.has_ended() {
            // An announced reply must be read all the same.
            if let Some(reader) = &mut self.reader {
                if reader.depth() > 0 {
                    let _ = reader.read(request.wanted());
                }
            }
            return Ok(());
        }
        if self.shared.supply.is_near() && request.is_done(self.thread) {
            return Ok(());
        }
        let reader = match &mut self.reader {
            Some(reader) => reader,
            none => none.insert(self.shared.supply.reader(Urgency::Background)?),
        };
        let pages = reader.read(request.wanted())?;
        let counters = &course.counters;
        add(&counters.bytes, pages.size());
        let placed = request.member.space.place(self.thread, request.run, &pages, |pages| {
            add(&counters.filled, pages);
            add(&counters.pages, pages);
        });
        let got = (pages.size() / PAGE).min(request.run.pages);
        self.settle(request, placed, got)
    }

    /// Says what follows from the result of a copy. `got` is the number of pages that were read.
    fn settle(&mut self, request: &Request, placed: Placed, got: u64) -> Result<(), LazyError> {
        let member = &request.member;
        let job = self.jobs.iter_mut().find(|job| job.member.id == member.id);
        let again = |job: Option<&mut Job>, pause: Duration| {
            if let Some(job) = job {
                job.not_before = Instant::now().checked_add(pause);
                job.back(request, 0);
            }
        };
        match placed.error {
            None => {
                if let Some(job) = job {
                    job.has_progress |= placed.pages > 0;
                    if got < request.run.pages {
                        job.back(request, got);
                    }
                }
                self.shared.end_if_done(member);
            }
            Some(Errno::EAGAIN) => again(job, SHORT),
            // Memory is not registered yet. Later: it has moved, and the message is on its way.
            Some(Errno::ENOENT) if !member.course.is_complete() => again(job, PATIENCE),
            Some(Errno::ENOENT) => {
                if let Some(job) = job.filter(|job| !job.goes_down) {
                    job.has_progress |= placed.pages > 0;
                    let since = *job.lost_since.get_or_insert_with(Instant::now);
                    if since.elapsed() > LOST {
                        // No memory for these pages, and no message about them: nobody sees them.
                        member.space.drop_pages(self.thread, placed.address, AT_ONCE * AT_ONCE);
                        job.cursor = placed.address;
                        self.shared.end_if_done(member);
                    }
                }
            }
            Some(Errno::ENOMEM) => again(job, LONG),
            Some(Errno::ESRCH) => self.shared.end(member),
            Some(error) => {
                return Err(LazyError::system("filling missing pages")(error.into()));
            }
        }
        Ok(())
    }
}

impl Job {
    fn new(member: Arc<Member>, goes_down: bool) -> Self {
        // Many a child runs another program at once, and would get pages for nothing.
        let not_before = member.is_child.then(|| Instant::now() + CHILDHOOD);
        let cursor = if goes_down { u64::MAX } else { 0 };
        Self { member, goes_down, cursor, not_before, lost_since: None, has_progress: false }
    }

    /// Returns true if this thread has been everywhere, and leaves the rest to the first.
    fn is_over(&self) -> bool {
        self.goes_down && self.cursor == 0
    }

    /// Finds the next request of the task.
    fn next(&mut self, thread: usize, fill: Fill, most: u64) -> Option<Request> {
        let course = &self.member.course;
        if course.is_lost() || course.is_recording() || self.member.awaits_first() {
            return None;
        }
        if !course.is_complete() || fill != Fill::Everything {
            return None;
        }
        if self.goes_down {
            let look = |map: &Missing| map.previous(self.cursor, most);
            let run = self.member.space.look(thread, look);
            self.cursor = run.map_or(0, |run| run.address);
            return run.map(|run| Request { member: Arc::clone(&self.member), run });
        }
        let near = self.member.near.swap(0, Ordering::Relaxed);
        if near != 0 {
            self.cursor = near;
        }
        let look = |map: &Missing| map.next(self.cursor, most);
        let run = self.member.space.look(thread, look).or_else(|| {
            // A whole round without a page.
            if !std::mem::take(&mut self.has_progress) {
                self.not_before = Instant::now().checked_add(PATIENCE);
            } else {
                self.lost_since = None;
            }
            self.member.space.look(thread, |map: &Missing| map.next(0, most))
        })?;
        self.cursor = run.address + run.pages * PAGE;
        Some(Request { member: Arc::clone(&self.member), run })
    }

    /// Takes back what was not brought of a request, from a page on.
    fn back(&mut self, request: &Request, got: u64) {
        let Run { address, pages, .. } = request.run;
        self.cursor = if self.goes_down {
            self.cursor.max(address + pages * PAGE)
        } else {
            self.cursor.min(address + got * PAGE)
        };
    }
}

impl Request {
    /// Returns true if another thread has brought the pages meanwhile.
    fn is_done(&self, thread: usize) -> bool {
        let Run { address, pages, .. } = self.run;
        let next = self.member.space.look(thread, |map| map.next(address, 1));
        next.is_none_or(|next| next.address >= address + pages * PAGE)
    }

    fn wanted(&self) -> Wanted {
        let Run { origin, pages, .. } = self.run;
        Wanted { pid: self.member.pid, address: origin, pages }
    }
}

/// The time between two looks for faults.
const CALM: Duration = Duration::from_millis(1);

/// The most pages of a request.
const AT_ONCE: u64 = 64;

/// The most times that the fill yields to faults that wait.
const MOST_YIELDS: u32 = 100;

/// The time for which the fill waits for a process whose message was read.
const SHORT: Duration = Duration::from_micros(100);

/// The time for which the fill waits for memory to be registered.
const PATIENCE: Duration = Duration::from_micros(500);

/// The time for which the fill waits when the memory of the machine or of the control group is
/// short.
const LONG: Duration = Duration::from_millis(10);

/// The time after which the fill brings pages to the child of a task.
const CHILDHOOD: Duration = Duration::from_millis(50);

/// The time between two looks for work.
const LOOK: Duration = Duration::from_millis(250);

/// The time after which missing pages without memory count as gone.
const LOST: Duration = Duration::from_secs(1);
