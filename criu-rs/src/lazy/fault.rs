//! A thread that serves faults.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{EpollEvent, EpollTimeout};

use super::error::LazyError;
use super::missing::{Missing, PAGE, Run};
use super::options::Fill;
use super::seat::{Seat, move_to};
use super::shared::{Member, Shared};
use super::space::{MESSAGES, Placed, Step, Zeroed};
use super::statistics::add;
use super::supply::{Reader, Urgency, Wanted};
use crate::sys::scheduling::{Scheduling, schedule};

/// A thread that serves faults.
pub(super) struct Faults<'s> {
    shared: &'s Shared,
    /// The number of the thread in the handler.
    thread: usize,
    reader: Option<Box<dyn Reader + 's>>,
    steps: Vec<Step>,
    /// Faults that were read, for the thread to serve.
    waiting: VecDeque<(u64, Instant)>,
    /// Faults of all spaces that must be tried again.
    later: VecDeque<(Arc<Member>, u64, Instant)>,
    /// True if this thread runs before all ordinary ones.
    is_first: bool,
    /// The processor to which this thread is bound, and the time of the next look at the task's.
    seat: (Option<usize>, Instant),
}

/// The answer to a fault.
enum Answer {
    /// The thread goes on.
    Served,
    /// A message must be read first, or memory is short: try again.
    Again,
}

impl<'s> Faults<'s> {
    /// Makes the thread with a number.
    pub(super) fn new(shared: &'s Shared, thread: usize) -> Self {
        let (steps, waiting, later) = (Vec::new(), VecDeque::new(), VecDeque::new());
        let seat = (None, Instant::now());
        Self { shared, thread, reader: None, steps, waiting, later, is_first: false, seat }
    }

    /// Serves faults until the handler ends.
    pub(super) fn run(&mut self) {
        self.is_first = schedule(Scheduling::First).is_ok();
        if !self.is_first {
            let _ = schedule(Scheduling::Short);
        }
        // A source that cannot be reached is tried again when a page is wanted.
        self.reader = self.shared.supply.reader(Urgency::Fault).ok();
        let mut events = [EpollEvent::empty(); 16];
        let mut next_look = Instant::now() + LOOK;
        let mut pause = PAUSE;
        loop {
            let timeout = match (self.later.is_empty(), self.thread) {
                (false, _) => EpollTimeout::ZERO,
                (true, 0) => EpollTimeout::try_from(LOOK).unwrap_or(EpollTimeout::NONE),
                (true, _) => EpollTimeout::NONE,
            };
            let count = self.shared.epoll.wait(&mut events, timeout).unwrap_or(0);
            for event in events.iter().take(count) {
                match self.shared.member(event.data()) {
                    Some((member, false)) => self.drain(&member),
                    Some((member, true)) => self.end_if_gone(&member),
                    None => {}
                }
            }
            if self.shared.stops() {
                return;
            }
            if self.try_again() {
                pause = PAUSE;
            } else if count == 0 {
                // Faults of other spaces do not wait for long meanwhile.
                std::thread::sleep(pause);
                pause = (pause * 2).min(LONG_PAUSE);
            }
            if self.thread == 0 && Instant::now() >= next_look {
                next_look = Instant::now() + LOOK;
                self.look_at_all();
            }
        }
    }

    /// Looks at all spaces: at processes that ended unnoticed, and at tasks that are not treated
    /// yet.
    fn look_at_all(&mut self) {
        for member in self.shared.members() {
            self.end_if_gone(&member);
            self.drain(&member);
            if member.course.is_lost() {
                self.shared.treat(&member, self.thread);
            }
        }
    }

    /// Ends a space whose process is gone.
    fn end_if_gone(&self, member: &Member) {
        if member.space.is_gone(self.thread) {
            self.shared.end(member);
        }
    }

    /// Reads the messages of a space, and serves the faults.
    fn drain(&mut self, member: &Arc<Member>) {
        loop {
            let count = self.read(member);
            let has_served = !self.waiting.is_empty();
            self.serve_all(member);
            if has_served {
                self.follow(member);
            }
            // A message that comes after a read which did not fill its buffer is another event.
            if member.has_ended() || count < MESSAGES {
                break;
            }
        }
        self.shared.end_if_done(member);
    }

    /// Moves this thread to the processor of a task. A thread on another processor is woken later,
    /// and wakes the task later: between virtual processors this takes longer than the copy.
    fn follow(&mut self, member: &Member) {
        self.shared.note_fault();
        let (bound, next) = self.seat;
        // A thread without priority might find another one on the processor of the task.
        if !self.is_first || Instant::now() < next {
            return;
        }
        let processor = member.seat.as_ref().and_then(Seat::processor);
        if let Some(processor) = processor.filter(|processor| bound != Some(*processor)) {
            // A processor that is not allowed is passed over.
            let _ = move_to(processor);
            self.shared.note_seat(processor);
        }
        self.seat = (processor.or(bound), Instant::now() + SEATED);
    }

    /// Reads messages, and deals with all that are no faults. Returns their number.
    fn read(&mut self, member: &Member) -> usize {
        let waiting = &mut self.waiting;
        let note = |address| waiting.push_back((address, Instant::now()));
        self.shared.read(self.thread, member, &mut self.steps, note)
    }

    /// Tries the faults again that were put off. Returns true if none was, or if one is served now.
    fn try_again(&mut self) -> bool {
        let mut any = self.later.is_empty();
        for (member, address, at) in std::mem::take(&mut self.later) {
            let count = self.later.len();
            self.waiting.push_back((address, at));
            // The process of a message has to run before a copy succeeds, and a message that waits
            // is read first.
            self.drain_with(&member);
            any |= self.later.len() == count;
        }
        any
    }

    /// Reads the messages of a space, and serves the faults, also those that wait already.
    fn drain_with(&mut self, member: &Arc<Member>) {
        self.read(member);
        self.serve_all(member);
        self.drain(member);
    }

    /// Serves the faults that were read. Faults that must be tried again are put off.
    fn serve_all(&mut self, member: &Arc<Member>) {
        self.shared.waiting.fetch_add(self.waiting.len(), Ordering::Relaxed);
        while let Some((address, at)) = self.waiting.pop_front() {
            let answer = self.serve(member, address, at);
            self.shared.waiting.fetch_sub(1, Ordering::Relaxed);
            match answer {
                Ok(Answer::Served) => {}
                Ok(Answer::Again) if member.has_ended() => {}
                Ok(Answer::Again) => self.later.push_back((Arc::clone(member), address, at)),
                Err(why) => self.shared.give_up(&member.course, why, self.thread),
            }
        }
    }

    /// Serves a fault.
    fn serve(&mut self, member: &Member, address: u64, at: Instant) -> Result<Answer, LazyError> {
        let course = &member.course;
        if course.is_lost() {
            self.shared.treat(member, self.thread);
            return Ok(Answer::Served);
        }
        let window = self.window(member);
        let look = |map: &Missing| map.around(address, window);
        let Some(run) = member.space.look(self.thread, look) else {
            return self.zero(member, address, at);
        };
        let reader = match &mut self.reader {
            Some(reader) => reader,
            none => none.insert(self.shared.supply.reader(Urgency::Fault)?),
        };
        let pid = member.pid;
        let own = Run { address, origin: run.origin + (address - run.address), pages: 1 };
        let mut pages = reader.read(Wanted { pid, address: run.origin, pages: run.pages })?;
        let mut rest = Run { pages: run.pages.min(pages.size() / PAGE), ..run };
        if rest.address + rest.pages * PAGE <= address {
            // The source has cut the request before the page.
            pages = reader.read(Wanted { pid, address: own.origin, pages: 1 })?;
            rest = own;
        }
        add(&course.counters.bytes, pages.size());
        let counters = &course.counters;
        let own_pages = pages.without(address - rest.address);
        let place = || {
            member.space.place(self.thread, own, &own_pages, |pages| {
                if pages > 0 {
                    counters.latency.count_in(at.elapsed());
                }
                add(&counters.touched, pages);
                add(&counters.pages, pages);
            })
        };
        let mut placed = place();
        // The bytes are here: the process of a message gets a moment to go on.
        for _ in 0..SHORT_TRIES {
            if placed.error != Some(Errno::EAGAIN) {
                break;
            }
            let waiting = &mut self.waiting;
            let note = |address| waiting.push_back((address, Instant::now()));
            self.shared.read(self.thread, member, &mut self.steps, note);
            std::thread::sleep(PAUSE);
            placed = place();
        }
        let answer = judge((self.shared, self.thread), member, address, placed)?;
        if placed.error.is_some() || placed.pages == 0 {
            return Ok(answer);
        }
        if course.is_recording() {
            course.touch(pid, own.origin, at);
        }
        if rest.pages > 1 {
            member.space.place(self.thread, rest, &pages, |pages| {
                add(&counters.around, pages);
                add(&counters.pages, pages);
            });
        }
        member.near.store(address + PAGE, Ordering::Relaxed);
        Ok(Answer::Served)
    }

    /// Returns the number of pages that may come with a page of a task.
    fn window(&self, member: &Member) -> u64 {
        let (course, options) = (&member.course, &self.shared.options);
        // The fill goes on behind the page, and does not let the task wait.
        let is_filling = options.fill == Fill::Everything && course.is_complete();
        // The neighbours that are wanted come with the working set.
        let is_alone = is_filling || course.is_recording() || member.awaits_first();
        if is_alone { 1 } else { options.around.min(MOST_AROUND) }
    }

    /// Serves a fault at a page that is not missing.
    fn zero(&self, member: &Member, address: u64, at: Instant) -> Result<Answer, LazyError> {
        match member.space.zero(self.thread, address) {
            Ok(Zeroed::There) => {
                member.course.counters.latency.count_in(at.elapsed());
                Ok(Answer::Served)
            }
            Ok(Zeroed::Missing) => Ok(Answer::Again),
            Err(error) => {
                let placed = Placed { pages: 0, error: Some(error), address };
                judge((self.shared, self.thread), member, address, placed)
            }
        }
    }
}

/// Says what follows from the result of a copy.
fn judge(
    (shared, thread): (&Shared, usize),
    member: &Member,
    address: u64,
    placed: Placed,
) -> Result<Answer, LazyError> {
    match placed.error {
        // The page may have come by another thread: the task looks again.
        None if placed.pages == 0 => member.space.wake(thread, address),
        None => {}
        Some(Errno::EAGAIN | Errno::ENOMEM) => return Ok(Answer::Again),
        Some(Errno::ENOENT) => member.space.wake(thread, address),
        Some(Errno::ESRCH) => shared.end(member),
        Some(error) => return Err(LazyError::system("filling a missing page")(error.into())),
    }
    Ok(Answer::Served)
}

/// The most pages that come with a page.
const MOST_AROUND: u64 = 512;
/// The time between two looks at the processor of a task.
const SEATED: Duration = Duration::from_millis(2);

/// The time between two looks at all spaces. Processes without a descriptor end unnoticed between.
const LOOK: Duration = Duration::from_millis(250);

/// The time for which a thread waits for the process of a message, and the number of tries before
/// other faults go first.
const PAUSE: Duration = Duration::from_micros(20);
const SHORT_TRIES: u32 = 8;

/// The longest time for which a thread waits for processes of messages, or while the memory of the
/// machine or of the tasks' control group is short.
const LONG_PAUSE: Duration = Duration::from_millis(1);
