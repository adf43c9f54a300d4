//! The rounds of a series, and the holders between them.

use std::ffi::CString;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::readlinkat;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::base::{Kept, SeriesBase, Stamp};
use super::budget::{Budget, SeriesEnd};
use super::delta::Delta;
use super::error::InstantError;
use super::frames::Frames;
use super::headroom::Free;
use super::held::{Held, Holders};
use super::holder::Holder;
use super::read::held_runs;
use super::series::Place;
use crate::error::{Error, Result};
use crate::pages::page_size;
use crate::undo::PARENT;
use crate::value::{InvalidValue, Pid};

/// The rounds of a series. Dropped, they leave no holder.
#[derive(Debug)]
pub(super) struct Rounds(Arc<Shared>);

/// The state that the rounds, their reading threads and the watch of the budget share.
#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// The state of a series.
#[derive(Debug, Default)]
pub(super) struct State {
    /// The last round that is complete, whose holders live.
    pub(super) base: Option<Base>,
    /// The reason why the holders have ended since the last round.
    pub(super) ended: Option<SeriesEnd>,
    /// Tells that a round is being made or read.
    is_busy: bool,
    /// Tells that holders are being ended for their budget.
    is_ending: bool,
    /// Tells that there is no series any more.
    is_over: bool,
    /// The number of bases so far.
    count: u64,
}

/// A round that is complete: what the next one builds on.
#[derive(Debug)]
pub(super) struct Base {
    holders: Kept,
    pub(super) path: std::path::PathBuf,
    place: Place,
    /// Directories that the images need, this one included.
    chain: Vec<(u64, u64)>,
    number: u64,
}

impl Base {
    /// Describes the base to another process. `None` if the holders are not those of this one.
    pub(super) fn described(&self, root: Pid) -> Option<SeriesBase> {
        let Kept::Own(holders) = &self.holders else { return None };
        let (place, tasks) = (self.place.identity, holders.tasks());
        let inventory = Stamp::of(&self.place.directory)?;
        SeriesBase::of(root, place, inventory, &self.chain, tasks)
    }
}

impl Rounds {
    /// Begins a series, whose holders are watched.
    ///
    /// # Errors
    /// The system has no thread left.
    pub(super) fn start(budget: Budget) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let watched = Arc::clone(&shared);
        let watch = thread::Builder::new().name("series".into()).spawn(move || {
            watched.watch(&budget);
        });
        watch.map_err(|source| Error::system("start a thread", source))?;
        Ok(Self(shared))
    }

    /// Waits until no round is being made or read.
    pub(super) fn settled(&self) -> MutexGuard<'_, State> {
        let state = self.0.lock();
        self.0.wait_while(state, |state| state.is_busy || state.is_ending)
    }

    /// Takes the last round of another process as the base.
    pub(super) fn adopt(&self, place: Place, tasks: Vec<Held>, chain: Vec<(u64, u64)>) {
        let mut state = self.settled();
        state.count += 1;
        let (path, number) = (place.path.clone(), state.count);
        let base = Base { holders: Kept::Others(tasks), path, place, chain, number };
        let old = state.base.replace(base);
        drop(state);
        drop(old);
    }

    /// Begins a round.
    ///
    /// # Errors
    /// The directory is one that the round would build on; no path leads from it to the base.
    pub(super) fn begin(&self, place: Place, keeps: bool) -> Result<Round> {
        let mut state = self.settled();
        let link = match &state.base {
            Some(base) if base.chain.contains(&place.identity) => {
                let wanted = "one that the round does not build on";
                let found = place.path.display();
                return Err(InvalidValue::new("the directory of a round", found, wanted).into());
            }
            Some(base) => Some(place.link_to(&base.place)?),
            None => None,
        };
        state.is_busy = true;
        let chain = state.base.as_ref().map(|base| base.chain.clone()).unwrap_or_default();
        let shared = Arc::clone(&self.0);
        Ok(Round { shared, place, link, chain, keeps, inherits: false, is_complete: false })
    }
}

impl Drop for Rounds {
    fn drop(&mut self) {
        let mut state = self.0.wait_while(self.0.lock(), |state| state.is_ending);
        state.is_over = true;
        // A round that is being read needs the base, and ends it.
        let base = if state.is_busy { None } else { state.base.take() };
        drop(state);
        self.0.changed.notify_all();
        drop(base);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_while<'s>(
        &self,
        state: MutexGuard<'s, State>,
        waits: impl FnMut(&mut State) -> bool,
    ) -> MutexGuard<'s, State> {
        self.changed.wait_while(state, waits).unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the holders when they take too much memory, until the series is over.
    fn watch(&self, budget: &Budget) {
        let mut subject: Option<Subject> = None;
        loop {
            let state = self.lock();
            let waited = self.changed.wait_timeout(state, TICK);
            let state = waited.unwrap_or_else(PoisonError::into_inner).0;
            if state.is_over && state.base.is_none() && !state.is_busy {
                return;
            }
            let base = state.base.as_ref();
            let is_new = base.map(|base| base.number) != subject.as_ref().map(|it| it.number);
            let made = is_new.then(|| base.map(Subject::of));
            drop(state);
            subject = made.unwrap_or(subject);
            let Some(looked) = &mut subject else { continue };
            if let Some(end) = looked.look(budget) {
                self.end(looked.number, end);
            }
        }
    }

    /// Ends the holders of a base, if there is no later one.
    fn end(&self, number: u64, end: SeriesEnd) {
        let mut state = self.lock();
        let Some(base) = state.base.take_if(|base| base.number == number) else { return };
        state.ended = Some(end);
        state.is_ending = true;
        drop(state);
        drop(base);
        self.lock().is_ending = false;
        self.changed.notify_all();
    }
}

/// The holders that are watched.
#[derive(Debug)]
struct Subject {
    number: u64,
    holders: Vec<Pid>,
    /// Bytes that the holders had at first.
    held: u64,
    free: Option<Free>,
    tasks: Vec<Pid>,
    /// The time of the next look at the holders themselves.
    next: Instant,
}

impl Subject {
    fn of(base: &Base) -> Self {
        // Others watch the holders that are theirs.
        let tasks = base.holders.own();
        let pages: u64 = tasks.iter().map(|task| task.pages).sum();
        Self {
            number: base.number,
            holders: tasks.iter().map(|task| task.holder.pid()).collect(),
            held: pages.saturating_mul(page_size().bytes()),
            free: None,
            tasks: tasks.iter().map(|task| task.pid).collect(),
            next: Instant::now() + LOOK,
        }
    }

    /// Looks at free memory, and now and then at the holders: that takes at most a tenth of the
    /// time of a CPU.
    fn look(&mut self, budget: &Budget) -> Option<SeriesEnd> {
        if self.holders.is_empty() {
            return None;
        }
        let free = self.free.get_or_insert_with(|| Free::of(&self.tasks));
        if let Some(end) = budget.look_at_free(free, self.held) {
            return Some(end);
        }
        let begun = Instant::now();
        if begun < self.next {
            return None;
        }
        let end = budget.look_at_holders(&self.holders, self.held);
        self.next = Instant::now() + LOOK.max(begun.elapsed() * 10);
        end
    }
}

/// A round that is being made or read.
#[derive(Debug)]
pub(super) struct Round {
    shared: Arc<Shared>,
    place: Place,
    /// Text of the link to the base.
    link: Option<CString>,
    /// Directories that the base needs.
    chain: Vec<(u64, u64)>,
    /// Tells that another round may follow.
    keeps: bool,
    /// Tells that pages are left to the base.
    inherits: bool,
    is_complete: bool,
}

impl Delta for Round {
    fn own(&self) -> Vec<(Pid, u64)> {
        // Holders that are being ended are not the last round's any more, and still there.
        let state = self.shared.wait_while(self.shared.lock(), |state| state.is_ending);
        let tasks = state.base.iter().flat_map(|base| base.holders.tasks());
        tasks.map(|task| (task.holder.pid(), task.holder.start())).collect()
    }

    fn parent(&self) -> Option<CString> {
        self.link.clone().filter(|_| self.inherits)
    }

    /// The images of the base have each page that its holder had, so only these are compared. The
    /// task of the old holder need not be the task of the new one: equal pages are equal whoever
    /// has them, and only the number that the images go by counts.
    fn unchanged(
        &mut self,
        inner: u32,
        new: &Holder,
        held: &[Range<u64>],
    ) -> Result<Vec<Range<u64>>, InstantError> {
        let state = self.shared.lock();
        let tasks = state.base.as_ref().map(|base| base.holders.tasks()).unwrap_or_default();
        let Some(old) = tasks.iter().find(|task| task.inner == inner) else {
            return Ok(Vec::new());
        };
        let found = held_runs(&old.holder, &old.mappings).and_then(|had| {
            let mut frames = Frames::open(old.holder.pid(), new.pid())?;
            // The files are those of the holders if neither number is free by now.
            if !old.holder.is_there() || !new.is_there() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            frames.equal(&both(held, &had))
        });
        match found {
            Ok(found) => {
                self.inherits |= !found.is_empty();
                Ok(found)
            }
            // The old holder has ended, and nothing is known. An end of the new one shows later.
            Err(error) if is_end(&error) => Ok(Vec::new()),
            Err(error) => Err(InstantError::system("compare the pages of holders")(error)),
        }
    }

    fn complete(&mut self, holders: Holders) {
        self.is_complete = true;
        let mut state = self.shared.lock();
        state.count += 1;
        let mut chain = if self.inherits { std::mem::take(&mut self.chain) } else { Vec::new() };
        chain.push(self.place.identity);
        let (path, place, number) = (self.place.path.clone(), self.place.clone(), state.count);
        let holders = Kept::Own(holders);
        let base = Base { holders, path, place, chain, number };
        let is_kept = self.keeps && !state.is_over;
        let (old, ended) = match is_kept {
            true => (state.base.replace(base), None),
            false => (state.base.take(), Some(base)),
        };
        state.ended = None;
        drop(state);
        drop((old, ended));
        self.settle();
    }
}

impl Round {
    /// Lets the next round begin.
    fn settle(&self) {
        let mut state = self.shared.lock();
        state.is_busy = false;
        let base = if state.is_over { state.base.take() } else { None };
        drop(state);
        drop(base);
        self.shared.changed.notify_all();
    }
}

impl Drop for Round {
    fn drop(&mut self) {
        if self.is_complete {
            return;
        }
        // The images of the round are gone, and the link has to go with them.
        let directory = &*self.place.directory;
        let text = self.link.as_ref().filter(|_| self.inherits);
        if let (Some(text), Ok(found)) = (text, readlinkat(directory, PARENT)) {
            if found.as_encoded_bytes() == text.as_bytes() {
                let _ = unlinkat(directory, PARENT, UnlinkatFlags::NoRemoveDir);
            }
        }
        self.settle();
    }
}

/// Tells the error of reading the files of a process that has ended.
fn is_end(error: &io::Error) -> bool {
    let is_gone = |number| [Errno::ESRCH as i32, Errno::ENOENT as i32].contains(&number);
    error.kind() == io::ErrorKind::UnexpectedEof || error.raw_os_error().is_some_and(is_gone)
}

/// Returns what is in both of two lists of ranges, which ascend.
fn both(one: &[Range<u64>], other: &[Range<u64>]) -> Vec<Range<u64>> {
    let (mut found, mut others) = (Vec::new(), other.iter().peekable());
    for range in one {
        while let Some(next) = others.peek() {
            let start = range.start.max(next.start);
            let end = range.end.min(next.end);
            if start < end {
                found.push(start..end);
            }
            if next.end > range.end {
                break;
            }
            others.next();
        }
    }
    found
}

/// The time between two looks at the free memory.
const TICK: Duration = Duration::from_millis(100);

/// The least time between two looks at the holders.
const LOOK: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_in_both_lists_are_found() {
        let found = both(&[0..4, 6..9, 12..20], &[1..2, 3..7, 8..13, 14..15, 18..30]);
        assert_eq!(found, [1..2, 3..4, 6..7, 8..9, 12..13, 14..15, 18..20]);
        assert!(both(&[0..2, 3..4], &[2..3, 4..8]).is_empty());
        assert!(both(&[], &[0..1, 4..8]).is_empty());
        assert_eq!(both(&[1..3, 4..8], &[0..5, 5..10]), [1..3, 4..5, 5..8]);
    }
}
