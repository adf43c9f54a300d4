//! The state that the threads of a handler share: the address spaces, and the news of them.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::Signal;

use super::error::LazyError;
use super::first::Queue;
use super::missing::Missing;
use super::options::{LazyOptions, OnLoss};
use super::restoration::Course;
use super::seat::Seat;
use super::space::{OTHER, Space, Step};
use super::statistics::add;
use super::supply::Supply;
use super::watcher::{Begun, Change, Watcher};
use crate::host::held::Held;
use crate::host::tree;
use crate::sys::fd;
use crate::sys::uffd::Uffd;
use crate::value::Pid;

/// The state that the threads of a handler share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) supply: Arc<dyn Supply>,
    pub(super) options: LazyOptions,
    /// `None` once the handler is dropped.
    watcher: RwLock<Option<Arc<dyn Watcher>>>,
    pub(super) epoll: Epoll,
    /// Becomes readable when the threads shall end.
    bell: EventFd,
    stops: AtomicBool,
    /// The number of threads that fill pages.
    threads: usize,
    members: RwLock<HashMap<u64, Arc<Member>>>,
    last_id: AtomicU64,
    /// The number of faults that were read and are not served yet.
    pub(super) waiting: AtomicUsize,
    /// The processor of the task that has waited for a page last.
    seat: AtomicUsize,
    /// The milliseconds from `begun` to the last fault.
    last_fault: AtomicU64,
    begun: Instant,
    /// The tasks that are new to each thread in the background, and the bell of the thread.
    work: Mutex<Vec<Work>>,
    rung: Condvar,
    /// The tasks whose working sets come, for the threads that bring these.
    pub(super) first: Queue,
}

/// News for a thread in the background.
#[derive(Debug, Default)]
struct Work {
    new: Vec<Arc<Member>>,
    is_rung: bool,
}

/// An address space of a restore.
#[derive(Debug)]
pub(super) struct Member {
    /// The number of the space, unique in the handler.
    pub(super) id: u64,
    /// The task, by its pid in the images.
    pub(super) pid: u32,
    pub(super) space: Space,
    pub(super) course: Arc<Course>,
    /// True for the child of a task: the process that a task has forked since the restore.
    pub(super) is_child: bool,
    /// The page after the last fault: the fill goes on there. 0 is none.
    pub(super) near: AtomicU64,
    /// The processor of the task.
    pub(super) seat: Option<Seat>,
    /// True while the working set of the task comes.
    awaits_first: AtomicBool,
    has_ended: AtomicBool,
    /// True once the statistics say what became of the task, whose pages are lost.
    is_counted: AtomicBool,
}

impl Shared {
    /// Makes the state of `threads` threads, of which `background` bring pages before anybody asks.
    ///
    /// # Errors
    /// If the system denies an epoll or an eventfd.
    pub(super) fn new(
        supply: Arc<dyn Supply>,
        options: LazyOptions,
        watcher: Option<Arc<dyn Watcher>>,
        threads: usize,
        background: usize,
    ) -> Result<Self, LazyError> {
        let system = LazyError::system;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC);
        let bell = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK);
        let shared = Self {
            supply,
            options,
            watcher: RwLock::new(watcher),
            epoll: epoll.map_err(|e| system("making an epoll")(e.into()))?,
            bell: bell.map_err(|e| system("making an eventfd")(e.into()))?,
            stops: AtomicBool::new(false),
            threads,
            members: RwLock::default(),
            last_id: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            seat: AtomicUsize::new(usize::MAX),
            last_fault: AtomicU64::new(0),
            begun: Instant::now(),
            work: Mutex::new((0..background).map(|_| Work::default()).collect()),
            rung: Condvar::new(),
            first: Queue::default(),
        };
        let event = EpollEvent::new(EpollFlags::EPOLLIN, BELL);
        let added = shared.epoll.add(&shared.bell, event);
        added.map_err(|e| system("watching an eventfd")(e.into()))?;
        Ok(shared)
    }

    /// Lets the threads end.
    pub(super) fn stop(&self) {
        self.stops.store(true, Ordering::SeqCst);
        let _ = self.bell.write(1);
        self.ring();
        self.first.stop();
    }

    /// Takes the watcher away: nothing is told any more.
    pub(super) fn take_watcher(&self) -> Option<Arc<dyn Watcher>> {
        self.watcher.write().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Returns true once the threads shall end.
    pub(super) fn stops(&self) -> bool {
        self.stops.load(Ordering::SeqCst)
    }

    /// Takes an address space into a restore.
    pub(super) fn adopt(
        &self,
        course: &Arc<Course>,
        pid: u32,
        uffd: Uffd,
        missing: Missing,
        process: Option<OwnedFd>,
    ) -> Result<(), LazyError> {
        let taken = self.take((course, pid, false), uffd, missing, process);
        if self.stops() {
            // Nobody serves the task.
            self.settle();
            return taken.and(Err(LazyError::Stopped));
        }
        taken
    }

    /// Takes the address space of a task's child into the restore of the task.
    pub(super) fn adopt_child(
        &self,
        parent: &Member,
        uffd: Uffd,
        missing: Missing,
    ) -> Result<(), LazyError> {
        self.take((&parent.course, parent.pid, true), uffd, missing, None)
    }

    fn take(
        &self,
        (course, pid, is_child): (&Arc<Course>, u32, bool),
        uffd: Uffd,
        missing: Missing,
        process: Option<OwnedFd>,
    ) -> Result<(), LazyError> {
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let ranges = missing.ranges();
        let first = course.take_first(pid);
        let seat = process.as_ref().and_then(|process| Seat::of(process.as_fd()));
        let member = Arc::new(Member {
            id,
            pid,
            space: Space::new(uffd, process, missing, self.threads),
            course: Arc::clone(course),
            is_child,
            near: AtomicU64::new(0),
            seat,
            awaits_first: AtomicBool::new(first.is_some()),
            has_ended: AtomicBool::new(false),
            is_counted: AtomicBool::new(false),
        });
        if let Some(watcher) = self.watcher() {
            let process = member.space.process();
            let watched = member.space.descriptor(|uffd| {
                watcher.begins(Begun { space: id, uffd, missing: &ranges, process })
            });
            if let Some(Err(error)) = watched {
                self.treat(&member, OTHER);
                course.leave(id);
                return Err(error);
            }
        }
        // From now on the space is treated if its restore is given up, by whoever comes first. A
        // userfaultfd that is closed before would let the task read zeros.
        let mut members = self.members.write().unwrap_or_else(PoisonError::into_inner);
        members.insert(id, Arc::clone(&member));
        drop(members);
        course.join(&member);
        if let Err(error) = self.watch(&member) {
            let why = LazyError::system("watching a task")(error.into());
            self.give_up(course, why, OTHER);
        }
        if let Some(why) = course.lost() {
            self.treat(&member, OTHER);
            return Err(LazyError::GivenUp(why));
        }
        if let Some(first) = first {
            self.first.push(Arc::clone(&member), first);
        }
        let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        for work in work.iter_mut() {
            work.new.push(Arc::clone(&member));
            work.is_rung = true;
        }
        drop(work);
        self.rung.notify_all();
        Ok(())
    }

    fn watcher(&self) -> Option<Arc<dyn Watcher>> {
        self.watcher.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the messages of a space, at most [`MESSAGES`](super::space::MESSAGES), and deals with
    /// all that are no faults. Returns their number.
    pub(super) fn read(
        &self,
        thread: usize,
        member: &Member,
        steps: &mut Vec<Step>,
        mut fault: impl FnMut(u64),
    ) -> usize {
        let course = &member.course;
        // The child of a message belongs to the restore at once.
        let _arriving = course.expect_arrival();
        let read = member.space.read(steps, |change, pages| {
            if matches!(change, Change::Gone(_)) {
                add(&course.counters.zeros, pages);
            }
            if let Some(watcher) = self.watcher() {
                watcher.changes(member.id, change);
            }
        });
        for step in steps.drain(..) {
            match step {
                Step::Fault(address) => fault(address),
                Step::Fork(uffd, missing) => {
                    if let Err(why) = self.adopt_child(member, uffd, missing) {
                        self.give_up(course, why, thread);
                    }
                }
            }
        }
        read.unwrap_or_else(|error| {
            let why = LazyError::system("reading from a userfaultfd")(error);
            self.give_up(course, why, thread);
            0
        })
    }

    fn watch(&self, member: &Member) -> nix::Result<()> {
        let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLET;
        let add =
            |uffd: BorrowedFd<'_>| self.epoll.add(uffd, EpollEvent::new(flags, member.id << 1));
        member.space.descriptor(add).transpose()?;
        if let Some(process) = member.space.process() {
            self.epoll.add(process, EpollEvent::new(flags, member.id << 1 | 1))?;
            if member.has_ended() {
                let _ = self.epoll.delete(process);
            }
        }
        Ok(())
    }

    /// Returns the space of an event, and true if the event is of its process.
    pub(super) fn member(&self, token: u64) -> Option<(Arc<Member>, bool)> {
        let members = self.members.read().unwrap_or_else(PoisonError::into_inner);
        Some((Arc::clone(members.get(&(token >> 1))?), token & 1 == 1))
    }

    /// Returns all spaces.
    pub(super) fn members(&self) -> Vec<Arc<Member>> {
        let members = self.members.read().unwrap_or_else(PoisonError::into_inner);
        members.values().map(Arc::clone).collect()
    }

    /// Ends a space that misses no page. Before the restore is complete nothing ends so, because
    /// memory may still be registered.
    pub(super) fn end_if_done(&self, member: &Member) {
        if member.course.is_complete() && member.space.look(OTHER, Missing::left) == 0 {
            self.end(member);
        }
    }

    /// Ends a space: closes its userfaultfd. The kernel then serves zeros.
    pub(super) fn end(&self, member: &Member) {
        if member.has_ended.swap(true, Ordering::SeqCst) {
            return;
        }
        if !member.is_child && !member.course.is_lost() {
            add(&member.course.counters.unused, member.space.look(OTHER, Missing::left));
        }
        let uffd = member.space.close();
        // A watcher may hold a copy, which would keep the descriptor in the epoll.
        if let Some(uffd) = &uffd {
            let _ = self.epoll.delete(uffd.as_fd());
        }
        drop(uffd);
        if let Some(process) = member.space.process() {
            let _ = self.epoll.delete(process);
        }
        let mut members = self.members.write().unwrap_or_else(PoisonError::into_inner);
        members.remove(&member.id);
        drop(members);
        if let Some(watcher) = self.watcher() {
            watcher.ends(member.id);
        }
        member.course.leave(member.id);
    }

    /// Gives a restore up, and treats its tasks as the options say.
    pub(super) fn give_up(&self, course: &Arc<Course>, why: LazyError, thread: usize) {
        if !course.lose(why) {
            return;
        }
        let members = course.members();
        if self.options.on_loss == OnLoss::Kill {
            // With their children, of which the handler does not know the numbers.
            let held = |member: &Arc<Member>| {
                let process = member.space.process()?;
                member.count(&course.counters.killed);
                Held::by(Pid::try_from(fd::number_of(process)?).ok()?, process)
            };
            tree::kill_all(members.iter().filter_map(held).collect());
        }
        for member in members {
            self.treat(&member, thread);
        }
        self.ring();
    }

    /// Treats a task whose pages are lost. Some pages may be left, for another try.
    pub(super) fn treat(&self, member: &Member, thread: usize) {
        if self.options.on_loss == OnLoss::Kill {
            if let Some(process) = member.space.process() {
                // The space ends when the process is gone.
                member.kill(process);
                return;
            }
        }
        let is_registered = member.course.is_complete();
        match (member.space.poison(thread, is_registered), member.space.process()) {
            (Ok(()), _) => {
                // A child without a descriptor here is killed with its parent.
                if self.options.on_loss == OnLoss::SigBus && !member.has_ended() {
                    member.count(&member.course.counters.poisoned);
                }
                self.end(member);
            }
            (Err(Errno::EINVAL), Some(process)) => member.kill(process),
            // The task stays blocked where a page is missing: no wrong byte is read. A thread tries
            // again.
            (Err(_), _) => {}
        }
    }

    /// Gives all restores up, and treats their tasks until each has ended, at most for
    /// [`PATIENCE`].
    pub(super) fn settle(&self) {
        let start = Instant::now();
        let mut steps = Vec::new();
        loop {
            let members = self.members();
            if members.is_empty() || start.elapsed() > PATIENCE {
                return;
            }
            for member in members {
                self.give_up(&member.course, LazyError::Stopped, OTHER);
                if member.space.is_gone(OTHER) {
                    self.end(&member);
                    continue;
                }
                while self.read(OTHER, &member, &mut steps, |_| {}) > 0 {}
                self.treat(&member, OTHER);
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Notes the processor of a task that waits for pages. Threads in the background leave it.
    pub(super) fn note_seat(&self, processor: usize) {
        self.seat.store(processor, Ordering::Relaxed);
    }

    /// Returns the processor that was noted last.
    pub(super) fn seat(&self) -> Option<usize> {
        Some(self.seat.load(Ordering::Relaxed)).filter(|processor| *processor != usize::MAX)
    }

    /// Notes that a thread of a task has waited for a page.
    pub(super) fn note_fault(&self) {
        self.last_fault.store(self.now(), Ordering::Relaxed);
    }

    /// Tells if a thread of a task has waited for a page just now.
    pub(super) fn is_urgent(&self) -> bool {
        self.now().saturating_sub(self.last_fault.load(Ordering::Relaxed)) < CALM
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Lets the threads in the background look for work.
    pub(super) fn ring(&self) {
        let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        work.iter_mut().for_each(|work| work.is_rung = true);
        drop(work);
        self.rung.notify_all();
    }

    /// Takes the new tasks of a thread in the background. Waits at most for a time until its bell
    /// rings.
    pub(super) fn listen(&self, filler: usize, at_most: Duration) -> Vec<Arc<Member>> {
        let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        let is_quiet = |work: &mut Vec<Work>| work.get(filler).is_some_and(|work| !work.is_rung);
        if is_quiet(&mut work) && !at_most.is_zero() {
            let waited = self.rung.wait_timeout_while(work, at_most, is_quiet);
            work = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let own = work.get_mut(filler).map(std::mem::take);
        own.unwrap_or_default().new
    }
}

impl Member {
    /// Returns true while the working set of the task comes.
    pub(super) fn awaits_first(&self) -> bool {
        self.awaits_first.load(Ordering::Relaxed)
    }

    /// Says that the working set of the task has come.
    pub(super) fn first_came(&self) {
        self.awaits_first.store(false, Ordering::Relaxed);
    }

    /// Returns true once the space has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::SeqCst)
    }

    /// Kills the task, whose pages are lost.
    fn kill(&self, process: BorrowedFd<'_>) {
        self.count(&self.course.counters.killed);
        let _ = fd::signal(process, Signal::SIGKILL);
    }

    /// Counts what becomes of the task, once, and before it happens: whoever waits for the end of
    /// the task sees the count.
    fn count(&self, counter: &AtomicU64) {
        if !self.is_counted.swap(true, Ordering::SeqCst) {
            add(counter, 1);
        }
    }
}

/// The event that ends the threads. Spaces have larger numbers.
const BELL: u64 = 0;

/// The milliseconds without a fault after which nobody seems to wait for pages.
const CALM: u64 = 3;

/// The longest time for which a handler that ends treats its tasks, and the time between two tries.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_micros(100);
