//! A page server as a source of pages.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::buffer::Buffer;
use super::error::LazyError;
use super::fetcher::Fetcher;
use super::link::Link;
use super::snapshot::{LazyTask, Snapshot};
use super::supply::{Reader, Supply, Urgency, Wanted};
use crate::pages::{Dial, Layout, PagesError, Socket};
#[cfg(feature = "tls")]
use crate::value::Tls;

/// The address of a page server that has the pages of a snapshot, and how to use it: a
/// [`Provider`](crate::pages::Provider), `criu page-server --lazy-pages` or
/// `criu dump --lazy-pages`.
///
/// CRIU's servers accept exactly one connection. Requests of all threads share it then: a request
/// for a page that a task waits for is sent at once, and the requests in the background are small
/// as long as tasks wait. A server that accepts several connections gets one for each thread. A
/// failed connection to such a server is made again; one to CRIU never is, because another dump
/// might listen there by now.
///
/// ```no_run
/// use std::sync::Arc;
///
/// use criu_rs::lazy::{Remote, Snapshot};
///
/// let snapshot = Arc::new(Snapshot::open("/ckpt")?);
/// let source = Remote::tcp("198.51.100.7:27000").open(snapshot)?;
/// # drop(source);
/// # Ok::<(), criu_rs::lazy::LazyError>(())
/// ```
#[derive(Debug)]
#[must_use = "nothing connects until open is called"]
pub struct Remote {
    way: Way,
    layout: Option<Layout>,
    one_connection: Option<bool>,
    timeout: Duration,
    retry_for: Duration,
}

#[derive(Debug)]
enum Way {
    Dial(Dial),
    /// A connected socket.
    Socket(Mutex<Option<Socket>>),
}

/// A page server as a source of pages: a [`Remote`] that is connected.
///
/// Call [`close`](Supply::close) when all pages have come. A source that is dropped without it
/// breaks the session off: `criu dump --lazy-pages` then fails and lets the dumped tasks run on.
#[derive(Debug)]
pub struct RemotePages {
    remote: Remote,
    snapshot: Arc<Snapshot>,
    layout: Layout,
    /// The connection that all readers share.
    shared: Option<Arc<Link>>,
    /// Connections that no reader uses yet.
    spare: Mutex<Vec<Arc<Link>>>,
    /// All connections to a server that accepts several.
    links: Mutex<Vec<Arc<Link>>>,
    retries: AtomicU64,
    /// The time of the last request for which a thread of a task waits, in microseconds since the
    /// source was opened.
    urgent: AtomicU64,
    opened: Instant,
    closed: AtomicBool,
}

impl Remote {
    /// Names a page server by its host and port.
    pub fn tcp(address: impl Into<String>) -> Self {
        Self::new(Way::Dial(Dial::Tcp(address.into())))
    }

    /// Names a page server by the path of its unix socket.
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        Self::new(Way::Dial(Dial::Unix(path.into())))
    }

    /// Names a page server that speaks TLS. Its certificate has to be for the host, unless
    /// [any name](crate::Tls::any_name) is accepted.
    #[cfg(feature = "tls")]
    pub fn tls(host: impl Into<String>, port: u16, tls: &Tls) -> Self {
        Self::new(Way::Dial(Dial::Tls(host.into(), port, tls.clone())))
    }

    /// Takes a connected socket, which is the only connection.
    pub fn socket(socket: Socket) -> Self {
        Self::new(Way::Socket(Mutex::new(Some(socket)))).one_connection(true)
    }

    fn new(way: Way) -> Self {
        let (timeout, retry_for) = (Duration::from_secs(10), Duration::from_secs(10));
        Self { way, layout: None, one_connection: None, timeout, retry_for }
    }

    /// Sets the layout of the server's headers. By default it is that of the CRIU which wrote the
    /// images ([`Snapshot::layout`]). A [`Provider`](crate::pages::Provider) takes both. A server
    /// of CRIU fails when it gets the other one.
    pub fn layout(mut self, layout: Layout) -> Self {
        self.layout = Some(layout);
        self
    }

    /// Says whether the server accepts exactly one connection. By default
    /// [`open`](Self::open) tries a second one.
    pub fn one_connection(mut self, one: bool) -> Self {
        self.one_connection = Some(one);
        self
    }

    /// Sets the time that connecting and an answer may take. 10 seconds by default.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets the time in which a failed connection to a server that accepts several is made again.
    /// 10 seconds by default.
    pub fn retry_for(mut self, time: Duration) -> Self {
        self.retry_for = time;
        self
    }

    /// Connects, and fetches a page to see that the server has the snapshot's pages. Only pages
    /// that the snapshot lists are ever asked for: a server of CRIU ends if it lacks one.
    ///
    /// # Errors
    /// [`LazyError::Source`] if the server cannot be reached or does not answer.
    pub fn open(self, snapshot: Arc<Snapshot>) -> Result<RemotePages, LazyError> {
        let layout = self.layout.unwrap_or(snapshot.layout());
        let mut pages = RemotePages {
            remote: self,
            snapshot,
            layout,
            shared: None,
            spare: Mutex::default(),
            links: Mutex::default(),
            retries: AtomicU64::new(0),
            urgent: AtomicU64::new(0),
            opened: Instant::now(),
            closed: AtomicBool::new(false),
        };
        let first = Arc::new(pages.connect()?);
        pages.try_out(&first, pages.remote.timeout)?;
        let second = match pages.remote.one_connection {
            Some(true) => None,
            Some(false) => Some(Arc::new(pages.connect()?)),
            // CRIU refuses the second connection. Others may leave it without an answer.
            None => pages.connect().ok().map(Arc::new),
        };
        let second = second.filter(|second| {
            pages.remote.one_connection.is_some() || pages.try_out(second, PROBE).is_ok()
        });
        match second {
            Some(second) => {
                for link in [second, first] {
                    pages.keep(&link);
                    pages.spare().push(link);
                }
            }
            None => pages.shared = Some(first),
        }
        Ok(pages)
    }
}

impl RemotePages {
    /// Returns the tasks of the snapshot, and their missing pages.
    pub fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    /// Tells that all threads share one connection.
    pub fn is_shared(&self) -> bool {
        self.shared.is_some()
    }

    /// Notes that a thread of a task waits for pages.
    pub(super) fn hurry(&self) {
        self.urgent.store(self.now(), Ordering::Relaxed);
    }

    /// Tells that threads of tasks have waited for pages a moment ago, and that more will.
    pub(super) fn is_busy(&self) -> bool {
        let last = self.urgent.load(Ordering::Relaxed);
        last > 0 && self.now().saturating_sub(last) < QUIET
    }

    fn now(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Makes a connection anew in place of one that has failed. Waits longer from time to time.
    ///
    /// # Errors
    /// The `error` of the failed connection if the time is over, or if there is one connection
    /// only.
    pub(super) fn again(
        &self,
        failed: &Arc<Link>,
        error: PagesError,
        until: Instant,
    ) -> Result<Arc<Link>, PagesError> {
        self.links().retain(|link| !Arc::ptr_eq(link, failed));
        if self.is_shared() || !may_be_repeated(&error) {
            return Err(error);
        }
        let mut pause = Duration::from_millis(5);
        loop {
            match self.connect() {
                Ok(link) => {
                    self.retries.fetch_add(1, Ordering::Relaxed);
                    let link = Arc::new(link);
                    self.keep(&link);
                    return Ok(link);
                }
                Err(refused) if Instant::now() + pause >= until => return Err(refused),
                Err(_) => thread::sleep(pause),
            }
            pause = (pause * 2).min(Duration::from_millis(500));
        }
    }

    /// Takes back a connection that a reader does not need any more. Another one may use it if no
    /// answer is on its way.
    pub(super) fn give_back(&self, link: &Arc<Link>, is_idle: bool) {
        if self.is_shared() {
            return;
        }
        if is_idle && link.works() {
            self.spare().push(Arc::clone(link));
        } else {
            self.links().retain(|kept| !Arc::ptr_eq(kept, link));
        }
    }

    /// Returns the moment at which repeating ends.
    pub(super) fn repeats_until(&self) -> Instant {
        Instant::now() + self.remote.retry_for
    }

    fn connect(&self) -> Result<Link, PagesError> {
        let timeout = self.remote.timeout;
        let socket = match &self.remote.way {
            Way::Dial(dial) => dial.connect(timeout)?,
            Way::Socket(socket) => {
                let taken = socket.lock().unwrap_or_else(PoisonError::into_inner).take();
                taken.ok_or(PagesError::NoAnswer)?
            }
        };
        Link::new(socket, self.layout, timeout)
    }

    /// Fetches the first page of the snapshot, if it has any.
    fn try_out(&self, link: &Link, within: Duration) -> Result<(), PagesError> {
        let first = |task: &LazyTask| {
            let address = task.missing().first()?.start;
            Some(Wanted { pid: task.pid(), address, pages: 1 })
        };
        let Some(wanted) = self.snapshot.tasks().iter().find_map(first) else {
            return Ok(());
        };
        link.within(within, || link.answer(link.ask(wanted, Buffer::default())?, None))?;
        Ok(())
    }

    fn keep(&self, link: &Arc<Link>) {
        self.links().push(Arc::clone(link));
    }

    fn links(&self) -> MutexGuard<'_, Vec<Arc<Link>>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spare(&self) -> MutexGuard<'_, Vec<Arc<Link>>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Supply for RemotePages {
    fn reader(&self, urgency: Urgency) -> Result<Box<dyn Reader + '_>, LazyError> {
        let link = match &self.shared {
            Some(link) => Arc::clone(link),
            None => {
                let spare = self.spare().pop();
                match spare {
                    Some(link) => link,
                    None => {
                        let link = Arc::new(self.connect()?);
                        self.keep(&link);
                        link
                    }
                }
            }
        };
        Ok(Box::new(Fetcher::new(self, link, urgency)))
    }

    fn close(&self) -> Result<(), LazyError> {
        // A server that accepts several connections does not mind how one ends.
        for link in self.links().drain(..) {
            let _ = link.within(PROBE, || link.close());
        }
        if let Some(link) = &self.shared {
            link.close()?;
        }
        self.closed.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn retries(&self) -> u64 {
        self.retries.load(Ordering::Relaxed)
    }
}

impl Drop for RemotePages {
    fn drop(&mut self) {
        if !self.closed.load(Ordering::Relaxed) {
            if let Some(link) = &self.shared {
                link.break_off();
            }
        }
    }
}

/// Tells that a request may be sent again over another connection. A connection on which nothing
/// comes any more may have been lost on its way, and the server may be well.
fn may_be_repeated(error: &PagesError) -> bool {
    matches!(error, PagesError::NoAnswer | PagesError::Socket { .. } | PagesError::TimedOut(_))
}

/// The microseconds without a fault after which the background has the server for itself.
const QUIET: u64 = 20_000;
/// The time in which a server answers over its second connection.
const PROBE: Duration = Duration::from_secs(1);
