//! Working sets: recorded at one restore, and brought first at the next.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use criu_images::source::Source;
use criu_images::working_set::{Fingerprint, Recording, Touched, WorkingSet};

use super::restoration::Restoration;
use super::supply::Wanted;
use crate::pages::page_size;

/// The pages of a working set, in the order in which a restore brings them before all others. Cheap
/// to clone, so that all restores of a snapshot share it.
///
/// Pages come in the order of their first touches. Pages that lie next to a page in memory come
/// together with it, because one copy of several pages costs less than one copy for each.
#[derive(Clone, Debug)]
pub struct Prefetch {
    runs: Arc<[Wanted]>,
    pages: u64,
}

/// A recording of the pages that the tasks of one restore touch.
///
/// Until the recording ends, a page comes only when a task touches it, and comes alone. The tasks
/// are slower for this time. A recorder that is dropped ends the recording.
#[derive(Debug)]
#[must_use = "the recording goes on until it ends"]
pub struct Recorder {
    restoration: Restoration,
    begun: Instant,
    wish: Wish,
    uses: Uses,
}

/// The wish that a restore be recorded.
#[derive(Clone, Copy, Debug)]
struct Wish {
    fingerprint: Fingerprint,
    at_most: Option<Duration>,
}

/// The use that the restores of a snapshot make of working sets. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Uses {
    pub(super) prefetch: Option<Prefetch>,
    /// The recording of the next restore.
    record: Arc<Mutex<Option<Wish>>>,
    /// Ends the recording.
    is_over: Arc<AtomicBool>,
}

impl Prefetch {
    /// Plans the order of a working set.
    pub fn new(set: &WorkingSet) -> Self {
        Self { runs: plan(set).into(), pages: set.pages() }
    }

    /// Reads the working set beside images. Returns `None` if there is none.
    ///
    /// A restore without the working set is as right as one with it. So report an error, and go on.
    ///
    /// # Errors
    /// The errors of [`WorkingSet::of`]: the file is damaged, of another version, or of other
    /// images.
    pub fn of(images: &dyn Source) -> criu_images::Result<Option<Self>> {
        Ok(WorkingSet::of(images)?.map(|set| Self::new(&set)))
    }

    /// Returns the number of pages.
    pub fn pages(&self) -> u64 {
        self.pages
    }

    /// Lets a restore bring these pages before all others. To be called before the first task is
    /// added.
    pub fn begin(&self, restoration: &Restoration) {
        restoration.prefetch(self.runs.iter().copied());
    }
}

impl Recorder {
    /// Begins a recording of a restore. To be called before the first task is added.
    ///
    /// # Errors
    /// The errors of reading the inventory and the pagemaps of the images.
    pub fn begin(restoration: &Restoration, images: &dyn Source) -> criu_images::Result<Self> {
        let wish = Wish { fingerprint: Fingerprint::of(images)?, at_most: None };
        Ok(Self::start(restoration, wish, Uses::default()))
    }

    fn start(restoration: &Restoration, wish: Wish, uses: Uses) -> Self {
        restoration.record();
        Self { restoration: restoration.clone(), begun: Instant::now(), wish, uses }
    }

    /// Ends the recording. Other pages come from now on, as the handler's options say.
    ///
    /// [`WorkingSet::save`] writes the result beside the images.
    pub fn end(self) -> WorkingSet {
        let mut recording = Recording::new(page_size());
        for touch in self.restoration.recorded() {
            recording.touch(touch.pid, touch.address, touch.time);
        }
        recording.finish(self.wish.fingerprint, self.begun.elapsed())
    }

    /// Waits until no task is left, the time of the recording has passed or it was asked to end,
    /// and ends the recording.
    pub(super) fn run(self) -> WorkingSet {
        let begun = Instant::now();
        loop {
            let left = self.wish.at_most.map(|most| most.saturating_sub(begun.elapsed()));
            if self.uses.is_over.load(Ordering::SeqCst) || left == Some(Duration::ZERO) {
                break;
            }
            // The touches of tasks that have lost their pages count, too.
            match self.restoration.wait(Some(left.unwrap_or(LOOK).min(LOOK))) {
                Ok(false) => {}
                Ok(true) | Err(_) => break,
            }
        }
        self.end()
    }

    /// Ends the recording of a restore that has failed. The next restore is recorded in its place.
    pub(super) fn pass_on(self) {
        self.uses.record.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(self.wish);
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        // Other pages come even if nobody wants the result.
        let _ = self.restoration.recorded();
    }
}

impl Uses {
    /// Records the next restore of these images.
    pub(super) fn record(
        &self,
        images: &dyn Source,
        at_most: Option<Duration>,
    ) -> criu_images::Result<()> {
        let wish = Wish { fingerprint: Fingerprint::of(images)?, at_most };
        self.is_over.store(false, Ordering::SeqCst);
        *self.record.lock().unwrap_or_else(PoisonError::into_inner) = Some(wish);
        Ok(())
    }

    /// Ends a recording that [waits](Recorder::run).
    pub(super) fn end_recording(&self) {
        self.is_over.store(true, Ordering::SeqCst);
    }

    /// Lets a restore bring the pages of the working set first, unless the next restore is to be
    /// recorded. Returns false in this case: [`begin`](Self::begin) decides then.
    pub(super) fn prepare(&self, restoration: &Restoration) -> bool {
        if self.record.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
            return false;
        }
        self.bring(restoration);
        true
    }

    /// Begins the recording of a restore that is to be recorded. Lets any other restore bring the
    /// pages of the working set first.
    pub(super) fn begin(&self, restoration: &Restoration) -> Option<Recorder> {
        let record = self.record.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(wish) = record {
            return Some(Recorder::start(restoration, wish, self.clone()));
        }
        self.bring(restoration);
        None
    }

    fn bring(&self, restoration: &Restoration) {
        if let Some(prefetch) = &self.prefetch {
            prefetch.begin(restoration);
        }
    }
}

/// Orders the pages of a working set, and joins neighbours.
fn plan(set: &WorkingSet) -> Vec<Wanted> {
    let bytes = set.page_size().bytes();
    let mut neighbours: HashMap<u32, Neighbours> =
        set.tasks().iter().map(|task| (task.pid(), Neighbours::new(task.runs(), bytes))).collect();
    let mut plan = Vec::new();
    for (pid, run) in set.in_order() {
        let joined = neighbours.get_mut(&pid).and_then(|neighbours| neighbours.take(&run));
        let wanted = |(address, pages)| Wanted { pid, address, pages };
        plan.extend(joined.map(wanted));
    }
    plan
}

/// The runs of a task that are not in the plan yet.
struct Neighbours {
    bytes: u64,
    /// The numbers of pages of short runs, by their first address.
    starts: HashMap<u64, u64>,
    /// The numbers of pages of short runs, by the address after the last page.
    ends: HashMap<u64, u64>,
}

impl Neighbours {
    fn new(runs: &[Touched], bytes: u64) -> Self {
        let short = || runs.iter().filter(|run| run.pages < JOINED);
        Self {
            bytes,
            starts: short().map(|run| (run.start, run.pages)).collect(),
            ends: short().map(|run| (run.start + run.pages * bytes, run.pages)).collect(),
        }
    }

    /// Takes a run together with its neighbours: the first address, and the number of pages. `None`
    /// if the run was taken with another one.
    fn take(&mut self, run: &Touched) -> Option<(u64, u64)> {
        let (mut start, mut pages) = (run.start, run.pages);
        if pages >= JOINED {
            return Some((start, pages));
        }
        self.remove(start, pages)?;
        // Forward first: programs go up more often than down.
        while let Some(&more) = self.starts.get(&(start + pages * self.bytes)) {
            if pages + more > JOINED {
                break;
            }
            self.remove(start + pages * self.bytes, more);
            pages += more;
        }
        while let Some(&more) = self.ends.get(&start) {
            if pages + more > JOINED {
                break;
            }
            start -= more * self.bytes;
            self.remove(start, more);
            pages += more;
        }
        Some((start, pages))
    }

    fn remove(&mut self, start: u64, pages: u64) -> Option<()> {
        self.starts.remove(&start)?;
        self.ends.remove(&(start + pages * self.bytes));
        Some(())
    }
}

/// The time between two looks of a recording that waits for its end.
const LOOK: Duration = Duration::from_millis(100);

/// The most pages that are joined. One copy of more pages costs no less for each page, and the
/// pages that were touched before would wait longer.
const JOINED: u64 = 16;

#[cfg(test)]
mod tests {
    use criu_images::memory::PageSize;
    use criu_images::source::InMemory;

    use super::*;

    const PAGE: u64 = 4096;

    /// Plans touches of pages in this order.
    fn planned(touches: &[(u32, u64)]) -> Vec<(u32, u64, u64)> {
        let mut recording = Recording::new(PageSize::K4);
        for (after, (pid, page)) in (0..).zip(touches) {
            recording.touch(*pid, page * PAGE, Duration::from_micros(after));
        }
        let fingerprint = Fingerprint::of(&InMemory::default()).unwrap();
        let set = recording.finish(fingerprint, Duration::ZERO);
        let prefetch = Prefetch::new(&set);
        assert_eq!(prefetch.pages(), prefetch.runs.iter().map(|run| run.pages).sum::<u64>());
        plan(&set).iter().map(|run| (run.pid, run.address / PAGE, run.pages)).collect()
    }

    #[test]
    fn pages_come_in_the_order_of_first_touches_of_all_tasks() {
        let touches = [(7, 50), (9, 50), (7, 10), (9, 10), (7, 90)];
        let plan = planned(&touches);
        assert_eq!(plan, touches.map(|(pid, page)| (pid, page, 1)));
    }

    #[test]
    fn neighbours_come_with_the_page_that_is_touched_first() {
        assert_eq!(planned(&[(7, 5), (7, 80), (7, 6), (7, 4), (7, 3)]), [(7, 3, 4), (7, 80, 1)]);
        // Of this task alone.
        assert_eq!(planned(&[(7, 5), (9, 6), (7, 7)]), [(7, 5, 1), (9, 6, 1), (7, 7, 1)]);
    }

    #[test]
    fn a_long_run_is_not_joined_and_short_ones_are_up_to_a_limit() {
        let mut touches: Vec<_> = (100..140).map(|page| (7, page)).collect();
        touches.extend([(7, 140 + 1), (7, 140), (7, 98), (7, 99)]);
        assert_eq!(planned(&touches), [(7, 100, 40), (7, 140, 2), (7, 98, 2)]);
        let every_second = (0..30).map(|number| (7, 2 * number));
        let rest = (0..30).map(|number| (7, 2 * number + 1));
        let touches: Vec<_> = every_second.chain(rest).collect();
        let plan = planned(&touches);
        assert_eq!(plan.iter().map(|(_, _, pages)| pages).sum::<u64>(), 60);
        assert!(plan.iter().all(|(_, _, pages)| *pages <= JOINED), "{plan:?}");
        assert_eq!(plan.len(), 4, "{plan:?}");
    }
}
