//! The handler: threads that fill missing pages.

use std::sync::Arc;
use std::thread::JoinHandle;

use super::error::LazyError;
use super::fault::Faults;
use super::fill::Filler;
use super::first::First;
use super::guard::{self, Guard};
use super::missing::PAGE;
use super::options::{Guarding, LazyOptions};
use super::restoration::Restoration;
use super::shared::Shared;
use super::supply::Supply;
use super::watcher::Watcher;
use crate::pages::page_size;

/// Threads that fill the missing pages of restored tasks.
///
/// Dropping a handler ends its threads. A restore that is not complete by then is given up.
#[derive(Debug)]
pub struct Handler {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
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
        let machine = page_size().bytes();
        if machine != PAGE {
            return Err(LazyError::MachinePages { machine, served: PAGE });
        }
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let faults = match options.fault_threads {
            0 => processors.div_ceil(2).min(4),
            number => number.min(MOST_THREADS),
        };
        let firsts = processors.min(FIRSTS);
        // Others have a processor of their own to spare.
        let spare = if supply.is_near() { SPARE.min(processors - 1) } else { 0 };
        let (threads, background) = (faults + firsts + 1 + spare, 1 + spare);
        let shared = Arc::new(Shared::new(supply, options, watcher, threads, background)?);
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
        self.shared.stop();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        // Those that came meanwhile.
        self.shared.settle();
        let watcher = self.shared.take_watcher();
        let left = self.shared.members();
        if !left.is_empty() {
            // Nobody can treat these tasks: each stays blocked where a page is missing, and the
            // watcher acts when this process ends.
            std::mem::forget((left, watcher));
        }
    }
}

/// The most threads that serve faults: each costs a lock for each space.
const MOST_THREADS: usize = 64;

/// The most threads that bring pages of near sources beside the first.
const SPARE: usize = 1;

/// The most threads that bring working sets. They sleep otherwise.
const FIRSTS: usize = 2;

#[cfg(test)]
mod tests {
    use criu_lab::lazy::{PAGE, Region, userfaultfd};
    use std::os::fd::OwnedFd;
    use std::sync::Mutex;
    use std::time::Duration;

    use super::*;
    use crate::lazy::supply::{Pages, Reader, Urgency, Wanted};
    use crate::lazy::watcher::{Begun, Change};

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
    fn a_watcher_hears_of_each_change() {
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
        // The process goes on as soon as its message is read.
        let hears = |what: String| assert!(criu_lab::soon(|| last() == what), "{heard:?}");
        assert_eq!(last(), format!("begins 1 [{:x}..{:x}] false", at(0), at(64)));
        region.part(8, 8).discard();
        hears(format!("changes 1 {:x?}", Change::Gone(at(8)..at(16))));
        region.part(16, 4).move_to(target);
        let (from, to, bytes) = (at(16), target.start as u64, 4 * PAGE as u64);
        let moved = format!("changes 1 {:x?}", Change::Moved { from, to, bytes });
        assert!(criu_lab::soon(|| heard.0.lock().unwrap().contains(&moved)), "{heard:?}");
        region.part(32, 8).unmap();
        hears(format!("changes 1 {:x?}", Change::Gone(at(32)..at(40))));
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
