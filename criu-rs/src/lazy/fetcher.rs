//! A reader of pages that a page server has.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::awake::Awake;
use super::error::LazyError;
use super::link::{Answer, Link};
use super::remote::RemotePages;
use super::supply::{Pages, Reader, Urgency, Wanted};
use crate::pages::{PagesError, page_size};

/// A reader of [`RemotePages`].
pub(super) struct Fetcher<'r> {
    pages: &'r RemotePages,
    link: Arc<Link>,
    urgency: Urgency,
    /// The requests without an answer, with their numbers on the connection.
    announced: VecDeque<(u64, Wanted)>,
    /// Buffers of answers that are not needed any more.
    spare: Vec<Answer>,
    /// The answer that was read last.
    answer: Answer,
    /// The task and the address behind the pages that were read last.
    behind: (u32, u64),
    /// The time that the last answer took, and the moment at which it came.
    last: (Duration, Instant),
    /// The way to wait, if a thread of a task waits, too.
    awake: Option<Awake>,
}

impl<'r> Fetcher<'r> {
    pub(super) fn new(pages: &'r RemotePages, link: Arc<Link>, urgency: Urgency) -> Self {
        let (announced, spare) = (VecDeque::new(), Vec::new());
        let (answer, behind) = (Answer::default(), (0, 0));
        let last = (Duration::ZERO, Instant::now());
        let awake = (urgency == Urgency::Fault).then(Awake::default);
        Self { pages, link, urgency, announced, spare, answer, behind, last, awake }
    }

    /// Returns the part of a request that one answer can bring.
    fn part(&self, wanted: Wanted) -> Result<Wanted, LazyError> {
        let Wanted { pid, address, pages } = wanted;
        let end = self.pages.snapshot().task(pid).and_then(|task| task.end_of(address));
        let page = page_size().bytes();
        let Some(end) = end.filter(|_| address % page == 0) else {
            let why = "it is not a page that the restore leaves out".to_owned();
            return Err(LazyError::NoPage { pid, address, why });
        };
        let pages = pages.max(1).min((end - address) / page).min(self.most());
        Ok(Wanted { pid, address, pages })
    }

    /// Tells that a page comes without its neighbours. Each costs time on its way, which a task
    /// that touches pages in no order has no use for.
    fn goes_alone(&self, wanted: Wanted) -> bool {
        let is_next = (wanted.pid, wanted.address) == self.behind;
        self.urgency == Urgency::Fault && !self.link.is_near() && !is_next
    }

    /// Tells that requests are small and rare, because threads of tasks wait for pages.
    fn gives_way(&self) -> bool {
        self.urgency == Urgency::Background && self.pages.is_busy()
    }

    /// Sends a request, over another connection if this one has failed.
    fn ask(&mut self, wanted: Wanted) -> Result<(), PagesError> {
        if self.gives_way() {
            // A fault may wait for the answer to this request: few of them shall.
            let (took, came) = self.last;
            let gap = (took * GAPS).clamp(GAP, LONGEST_GAP);
            thread::sleep(gap.saturating_sub(came.elapsed()));
        }
        let buffer = self.spare.pop().unwrap_or_default().into_buffer();
        match self.link.ask(wanted, buffer) {
            Ok(number) => self.announced.push_back((number, wanted)),
            Err(error) => {
                // The number is that of no request: the next answer is awaited in vain, and the
                // request is repeated then.
                self.announced.push_back((0, wanted));
                if self.pages.is_shared() {
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Waits for the answer to the first request.
    fn next(&mut self) -> Result<Answer, PagesError> {
        let Some((number, _)) = self.announced.front() else {
            return Err(PagesError::NoAnswer);
        };
        let begun = Instant::now();
        let mut result = self.link.answer(*number, self.awake.as_mut());
        let mut until = None;
        let mut attempts = 0;
        while let Err(error) = result {
            attempts += 1;
            // A server that has none of the pages ends each connection.
            if attempts > ATTEMPTS {
                return Err(error);
            }
            let until = *until.get_or_insert_with(|| self.pages.repeats_until());
            self.link = self.pages.again(&self.link, error, until)?;
            let wanted: Vec<_> = self.announced.drain(..).map(|(_, wanted)| wanted).collect();
            for wanted in wanted {
                self.ask(wanted)?;
            }
            let number = self.announced.front().map_or(0, |(number, _)| *number);
            result = self.link.answer(number, self.awake.as_mut());
        }
        self.announced.pop_front();
        self.last = (begun.elapsed(), Instant::now());
        result
    }
}

impl Drop for Fetcher<'_> {
    fn drop(&mut self) {
        for (number, _) in &self.announced {
            self.link.forget(*number);
        }
        self.pages.give_back(&self.link, self.announced.is_empty());
    }
}

impl Reader for Fetcher<'_> {
    fn read(&mut self, wanted: Wanted) -> Result<Pages<'_>, LazyError> {
        if self.urgency == Urgency::Fault {
            self.pages.hurry();
        }
        // Answers that were announced and are not wanted any more are passed over.
        let is_wanted = |next: &Wanted| (next.pid, next.address) == (wanted.pid, wanted.address);
        while self.announced.front().is_some_and(|(_, next)| !is_wanted(next)) {
            let answer = self.next()?;
            self.spare.push(answer);
        }
        if self.announced.is_empty() {
            let mut wanted = self.part(wanted)?;
            if self.goes_alone(wanted) {
                wanted.pages = 1;
            }
            self.ask(wanted)?;
        }
        let answer = self.next()?;
        let before = std::mem::replace(&mut self.answer, answer);
        self.spare.push(before);
        self.spare.truncate(DEPTH + 1);
        let bytes = self.answer.bytes();
        let most = wanted.pages.max(1).saturating_mul(page_size().bytes());
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(bytes.len());
        self.behind = (wanted.pid, wanted.address.saturating_add(most as u64));
        Ok(Pages::new(bytes.get(..most).unwrap_or_default()))
    }

    fn announce(&mut self, wanted: Wanted) -> Result<(), LazyError> {
        let wanted = self.part(wanted)?;
        self.ask(wanted)?;
        Ok(())
    }

    fn depth(&self) -> usize {
        match (self.urgency, self.pages.is_shared()) {
            (Urgency::Fault, _) => 0,
            (Urgency::Background, _) if self.gives_way() => 1,
            (Urgency::Background, true) => SHARED,
            (Urgency::Background, false) => DEPTH,
        }
    }

    fn most(&self) -> u64 {
        let bytes: u64 = match self.urgency {
            Urgency::Fault => MOST,
            Urgency::Background if self.gives_way() => SMALL,
            Urgency::Background => MOST,
        };
        (bytes / page_size().bytes()).max(1)
    }
}

/// The requests that are on their way at once, on a connection of their own.
const DEPTH: usize = 4;
/// The requests that are on their way at once, where a fault waits for the answers before its own.
const SHARED: usize = 2;
/// The bytes of a request while threads of tasks wait for pages.
const SMALL: u64 = 64 << 10;
/// The most bytes of a request.
const MOST: u64 = 1 << 20;
/// The time between two requests in the background while threads of tasks wait for pages, as a
/// multiple of the time that an answer takes, and its bounds.
const GAPS: u32 = 4;
const GAP: Duration = Duration::from_micros(300);
const LONGEST_GAP: Duration = Duration::from_millis(5);
/// The connections on which a request is sent before it is given up.
const ATTEMPTS: u32 = 3;
