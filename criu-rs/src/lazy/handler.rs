//! The handler: threads that fill missing pages, and what they share.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::Signal;

use super::error::LazyError;
use super::fault::Faults;
use super::fill::Filler;
use super::first::{First, Queue};
use super::guard::{self, Guard};
use super::missing::{Missing, PAGE};
use super::options::{Guarding, LazyOptions, OnLoss};
use super::restoration::{Course, Restoration};
use super::seat::Seat;
use super::space::{OTHER, Space, Step};
use super::statistics::add;
use super::supply::Supply;
use super::watcher::{Begun, Change, Watcher};
use crate::host::held::Held;
use crate::host::tree;
use crate::pages::page_size;
use crate::sys::fd;
use crate::sys::uffd::Uffd;
use crate::value::Pid;

/// Threads that fill the missing pages of restored tasks.
///
/// Dropping a handler ends its threads. A restore that is not complete by then is given up.
#[derive(Debug)]
pub struct Handler {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

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
    /// The milliseconds from `begun` to the last fault.
    last_fault: AtomicU64,
    begun: Instant,
    /// For each thread in the background the tasks that are new to it, and its bell.
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
}

impl Handler {
    /// Starts the threads of a handler, and its guard.
    ///
    /// # Errors
    /// If a thread cannot be started. [`LazyError::Guard`] if the guard cannot.
    pub fn new(supply: Arc<dyn Supply>, options: LazyOptions) -> Result<Self, LazyError> {
        let log = match &options.guard {
            Guarding::Off => return Self::start(supply, options, None),
            Guarding::Stderr => guard::standard_error(),
            Guarding::Log(log) => {
                Some(log.try_clone().map_err(LazyError::system("duplicating a log"))?)
            }
        };
        let guard = Guard::start(options.on_loss, log)?;
        Self::watched(supply, options, Arc::new(guard))
    }

    /// Starts the threads of a handler whose spaces are watched.
    ///
    /// # Errors
    /// If a thread cannot be started.
    pub(super) fn watched(
        supply: Arc<dyn Supply>,
        options: LazyOptions,
        watcher: Arc<dyn Watcher>,
    ) -> Result<Self, LazyError> {
        Self::start(supply, options, Some(watcher))
    }

    /// Begins a restore.
    pub fn restoration(&self) -> Restoration {
        Restoration::new(Arc::clone(&self.shared))
    }

    fn start(
        supply: Arc<dyn Supply>,
        options: LazyOptions,
        watcher: Option<Arc<dyn Watcher>>,
    ) -> Result<Self, LazyError> {
        let system = LazyError::system;
        let machine = page_size().bytes();
        if machine != PAGE {
            return Err(LazyError::MachinePages { machine, served: PAGE });
        }
        let faults = match options.fault_threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from).div_ceil(2).min(4),
            number => number.min(MOST_THREADS),
        };
        let firsts = std::thread::available_parallelism().map_or(1, usize::from).min(FIRSTS);
        // Others have a processor of their own to spare.
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let spare = if supply.is_near() { SPARE.min(processors - 1) } else { 0 };
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC);
        let bell = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK);
        let shared = Arc::new(Shared {
            supply,
            options,
            watcher: RwLock::new(watcher),
            epoll: epoll.map_err(|e| system("making an epoll")(e.into()))?,
            bell: bell.map_err(|e| system("making an eventfd")(e.into()))?,
            stops: AtomicBool::new(false),
            threads: faults + firsts + 1 + spare,
            members: RwLock::default(),
            last_id: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            last_fault: AtomicU64::new(0),
            begun: Instant::now(),
            work: Mutex::new((0..=spare).map(|_| Work::default()).collect()),
            rung: Condvar::new(),
            first: Queue::default(),
        });
        let event = EpollEvent::new(EpollFlags::EPOLLIN, BELL);
        let added = shared.epoll.add(&shared.bell, event);
        added.map_err(|e| system("watching an eventfd")(e.into()))?;
        let mut handler = Self { shared: Arc::clone(&shared), threads: Vec::new() };
        for number in 0..faults {
            let shared = Arc::clone(&shared);
            handler.spawn("lazy-fault", move || Faults::new(&shared, number).run())?;
        }
        for number in 0..firsts {
            let shared = Arc::clone(&shared);
            handler.spawn("lazy-first", move || First::new(&shared, faults + number).run())?;
        }
        for number in 0..=spare {
            let shared = Arc::clone(&shared);
            let thread = faults + firsts + number;
            handler.spawn("lazy-fill", move || Filler::new(&shared, thread, number).run())?;
        }
        Ok(handler)
    }

    fn spawn(&mut self, name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), LazyError> {
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(run);
        self.threads.push(thread.map_err(LazyError::system("starting a thread"))?);
        Ok(())
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        // Tasks that touch a missing page wait until all are treated, and read no zeros.
        self.shared.settle();
        self.shared.stops.store(true, Ordering::SeqCst);
        let _ = self.shared.bell.write(1);
        self.shared.ring();
        self.shared.first.stop();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        // Those that came meanwhile.
        self.shared.settle();
        let mut watcher = self.shared.watcher.write().unwrap_or_else(PoisonError::into_inner);
        let watcher = watcher.take();
        let left = self.shared.members();
        if !left.is_empty() {
            // Nobody can treat these tasks: each stays blocked where a page is missing, and the
            // watcher acts when this process ends.
            std::mem::forget((left, watcher));
        }
    }
}

impl Shared {
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

    /// Reads the messages of a space, and deals with all that are no faults. Returns false if none
    /// waited.
    pub(super) fn read(
        &self,
        thread: usize,
        member: &Member,
        steps: &mut Vec<Step>,
        mut fault: impl FnMut(u64),
    ) -> bool {
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
            false
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
                let _ = fd::signal(process, Signal::SIGKILL);
                return;
            }
        }
        let is_registered = member.course.is_complete();
        match (member.space.poison(thread, is_registered), member.space.process()) {
            (Ok(()), _) => self.end(member),
            (Err(Errno::EINVAL), Some(process)) => {
                let _ = fd::signal(process, Signal::SIGKILL);
            }
            // The task stays blocked where a page is missing: no wrong byte is read. A thread tries
            // again.
            (Err(_), _) => {}
        }
    }

    /// Gives all restores up, and treats their tasks until each has ended, at most for
    /// [`PATIENCE`].
    fn settle(&self) {
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
                while self.read(OTHER, &member, &mut steps, |_| {}) {}
                self.treat(&member, OTHER);
            }
            std::thread::sleep(PAUSE);
        }
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
}

/// The event that ends the threads. Spaces have larger numbers.
const BELL: u64 = 0;

/// The milliseconds without a fault after which nobody seems to wait for pages.
const CALM: u64 = 3;

/// The most threads that serve faults: each costs a lock for each space.
const MOST_THREADS: usize = 64;

/// The longest time for which a handler that ends treats its tasks, and the time between two tries.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_micros(100);

/// The most threads that bring pages of near sources beside the first.
const SPARE: usize = 1;

/// The most threads that bring working sets. They sleep otherwise.
const FIRSTS: usize = 2;

#[cfg(test)]
mod tests {
    use criu_lab::lazy::{PAGE, Region, userfaultfd};
    use std::os::fd::OwnedFd;

    use super::*;
    use crate::lazy::supply::{Pages, Reader, Urgency, Wanted};

    /// A source of pages that are full of one byte.
    #[derive(Debug)]
    struct Sevens(Vec<u8>);

    impl Supply for Sevens {
        fn reader(&self, _: Urgency) -> Result<Box<dyn Reader + '_>, LazyError> {
            Ok(Box::new(self))
        }
    }

    impl Reader for &Sevens {
        fn read(&mut self, wanted: Wanted) -> Result<Pages<'_>, LazyError> {
            let size = usize::try_from(wanted.pages).unwrap() * PAGE;
            Ok(Pages::new(&self.0[..size]))
        }
    }

    #[derive(Debug, Default)]
    struct Heard(Mutex<Vec<String>>, Mutex<Vec<OwnedFd>>);

    impl Heard {
        fn note(&self, text: String) {
            self.0.lock().unwrap().push(text);
        }
    }

    impl Watcher for Heard {
        fn begins(&self, begun: Begun<'_>) -> Result<(), LazyError> {
            self.note(format!(
                "begins {} {:x?} {}",
                begun.space,
                begun.missing,
                begun.process.is_some()
            ));
            // A guard holds a copy as long as the space lives.
            self.1.lock().unwrap().push(begun.uffd.try_clone_to_owned().unwrap());
            Ok(())
        }

        fn changes(&self, space: u64, change: &Change) {
            self.note(format!("changes {space} {change:x?}"));
        }

        fn ends(&self, space: u64) {
            self.1.lock().unwrap().clear();
            self.note(format!("ends {space}"));
        }
    }

    #[test]
    fn a_watcher_hears_of_each_change_before_the_process_goes_on() {
        let heard = Arc::new(Heard::default());
        let supply = Arc::new(Sevens(vec![7; 64 * PAGE]));
        let watcher = Arc::clone(&heard) as Arc<dyn Watcher>;
        let handler = Handler::watched(supply, LazyOptions::default(), watcher).unwrap();
        let (region, target, uffd) = (Region::new(64), Region::new(4), userfaultfd());
        region.register(&uffd);
        let restoration = handler.restoration();
        let at = |page: usize| region.start as u64 + (page * PAGE) as u64;
        let missing = at(0)..at(64);
        restoration.add(1, uffd, std::slice::from_ref(&missing), None).unwrap();
        let last = || heard.0.lock().unwrap().last().cloned().unwrap_or_default();
        assert_eq!(last(), format!("begins 1 [{:x}..{:x}] false", at(0), at(64)));
        region.part(8, 8).discard();
        assert_eq!(last(), format!("changes 1 {:x?}", Change::Gone(at(8)..at(16))));
        region.part(16, 4).move_to(target);
        let (from, to, bytes) = (at(16), target.start as u64, 4 * PAGE as u64);
        let moved = format!("changes 1 {:x?}", Change::Moved { from, to, bytes });
        assert!(heard.0.lock().unwrap().contains(&moved), "{heard:?}");
        region.part(32, 8).unmap();
        assert_eq!(last(), format!("changes 1 {:x?}", Change::Gone(at(32)..at(40))));
        restoration.complete();
        assert!(restoration.wait(Some(Duration::from_secs(10))).unwrap());
        assert_eq!(last(), "ends 1");
        // The copy is closed: nobody waits for a page.
        let sevens = u64::from_ne_bytes([7; 8]);
        assert_eq!([0, 8, 24, 63].map(|page| region.word(page, 9)), [sevens, 0, sevens, sevens]);
        assert_eq!(target.word(3, 0), sevens);
    }

    #[test]
    fn what_is_no_userfaultfd_is_refused() {
        let supply = Arc::new(Sevens(Vec::new()));
        let handler = Handler::new(supply, LazyOptions::default()).unwrap();
        let restoration = handler.restoration();
        let other = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        let error = restoration.add(1, other, &[], None).unwrap_err();
        assert!(error.to_string().contains("no userfaultfd"), "{error}");
    }
}
