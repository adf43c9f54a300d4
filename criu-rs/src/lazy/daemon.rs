//! A handler at `lazy-pages.socket`, for one restore after another and for several at once.

use std::num::NonZeroU64;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

use criu_images::source::Source;
use criu_images::working_set::WorkingSet;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::error::LazyError;
use super::handler::Handler;
use super::images::Images;
use super::options::LazyOptions;
use super::reception;
use super::restoration::Restoration;
use super::snapshot::Snapshot;
use super::socket::LazySocket;
use super::statistics::{LazyProgress, LazyStatistics};
use super::supply::Supply;
use super::working_set::{Prefetch, Recorder, Uses};
use crate::value::{Cancel, Dir};

/// A handler with the snapshot that it serves, for any number of restores, one after another and
/// at once. Cheap to clone: a clone is the same handler.
///
/// [`Restore::lazy`](crate::Restore::lazy) takes the pages from it within this process. A daemon
/// [listens](Self::listen) at the socket at which `criu restore --lazy-pages` looks for `criu
/// lazy-pages`:
///
/// ```no_run
/// use std::sync::Arc;
///
/// use criu_rs::lazy::{Images, LazyOptions, LazyPages};
///
/// let images = Arc::new(Images::open("/ckpt")?);
/// let snapshot = Arc::clone(images.snapshot());
/// let pages = LazyPages::new(snapshot, images, LazyOptions::default())?;
/// let daemon = pages.listen("/run/restore")?;
/// println!("criu restore --lazy-pages -D /ckpt -W /run/restore");
/// daemon.run(None, |event| println!("{event:?}"))?;
/// # Ok::<(), criu_rs::lazy::LazyError>(())
/// ```
#[derive(Clone, Debug)]
pub struct LazyPages {
    snapshot: Arc<Snapshot>,
    supply: Arc<dyn Supply>,
    handler: Arc<Handler>,
    patience: Duration,
    working_set: Uses,
}

/// A handler that listens at `lazy-pages.socket`. The socket's file is removed with the value.
#[derive(Debug)]
pub struct LazyDaemon {
    pages: LazyPages,
    socket: LazySocket,
    control: LazyControl,
}

/// A handle of a [`LazyDaemon`] for other threads. Cheap to clone.
#[derive(Clone, Debug)]
pub struct LazyControl {
    /// Ends the acceptance of restores.
    finish: Cancel,
    /// Ends all restores.
    stop: Cancel,
    active: Arc<Mutex<Vec<(u64, Restoration)>>>,
    working_set: Uses,
}

/// An event of a [`LazyDaemon`].
#[derive(Debug)]
#[non_exhaustive]
pub enum LazyEvent {
    /// A connection was refused, could not be accepted, or has said nothing at all.
    Refused(LazyError),
    /// All tasks of a restore are taken, and pages come from now on in the background, too. CRIU
    /// lets the tasks run right after this, unless a last step of its own fails.
    Restored {
        /// The number of the restore, from 1 on, in the order of the first messages.
        number: u64,
        /// The time since the restore has connected.
        time: Duration,
    },
    /// The working set of a restore is recorded. [`WorkingSet::save`] writes it beside the images.
    Recorded {
        /// The number of the restore.
        number: u64,
        /// The pages that its tasks touched.
        set: WorkingSet,
    },
    /// A restore is over.
    Ended(LazyReport),
}

/// The end of a restore that a [`LazyDaemon`] has served.
#[derive(Debug)]
#[non_exhaustive]
pub struct LazyReport {
    /// The number of the restore, from 1 on, in the order of the first messages.
    pub number: u64,
    /// The reason why pages are lost, if some are.
    pub result: Result<(), LazyError>,
    /// The pages that came.
    pub progress: LazyProgress,
    /// The numbers of the restore.
    pub statistics: LazyStatistics,
    /// The time from the connection to the end.
    pub time: Duration,
}

impl LazyPages {
    /// Starts a handler for a snapshot, whose pages the source holds.
    ///
    /// # Errors
    /// The errors of [`Handler::new`].
    pub fn new(
        snapshot: Arc<Snapshot>,
        supply: Arc<dyn Supply>,
        options: LazyOptions,
    ) -> Result<Self, LazyError> {
        let handler = Arc::new(Handler::new(Arc::clone(&supply), options)?);
        let working_set = Uses::default();
        Ok(Self { snapshot, supply, handler, patience: PATIENCE, working_set })
    }

    /// Starts a handler for images in a directory, with the pages in them and in their parent sets.
    ///
    /// # Errors
    /// The errors of [`Images::open`] and of [`Handler::new`].
    pub fn open(images: impl Into<PathBuf>, options: LazyOptions) -> Result<Self, LazyError> {
        let images = Arc::new(Images::open(images)?);
        Self::new(Arc::clone(images.snapshot()), images, options)
    }

    /// Sets the longest silence of a restore between its connection and the moment when all its
    /// tasks are restored: 30 minutes by default. A task says nothing while CRIU reads memory that
    /// does not come later. A restore that says nothing for longer is given
    /// up, and its tasks are killed.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Lets restores bring the pages of a working set before all others.
    #[must_use]
    pub fn prefetch(mut self, prefetch: Prefetch) -> Self {
        self.working_set.prefetch = Some(prefetch);
        self
    }

    /// Records the working set of the next restore, for at most a time, or until no task is left.
    /// `images` are those of the snapshot. Until the recording ends, a page comes only when a task
    /// touches it, and no working set is used. If the restore fails, the one after it is recorded.
    ///
    /// A daemon tells the result with [`LazyEvent::Recorded`]. The handle of a restore by
    /// [`Restore::lazy`](crate::Restore::lazy)
    /// [returns the result](super::LazyHandle::recorded).
    ///
    /// # Errors
    /// The errors of reading the inventory and the pagemaps of the images.
    pub fn record(
        self,
        images: &dyn Source,
        at_most: Option<Duration>,
    ) -> criu_images::Result<Self> {
        self.working_set.record(images, at_most)?;
        Ok(self)
    }

    /// Listens at `lazy-pages.socket` in a directory, the work directory of the restores.
    ///
    /// # Errors
    /// The errors of [`LazySocket::bind`] and of [`serve`](Self::serve).
    pub fn listen<'d>(&self, directory: impl Into<Dir<'d>>) -> Result<LazyDaemon, LazyError> {
        self.serve(LazySocket::bind(directory)?)
    }

    /// Serves the restores that connect to a socket.
    ///
    /// # Errors
    /// [`LazyError::Call`] if no descriptor is available.
    pub fn serve(&self, socket: LazySocket) -> Result<LazyDaemon, LazyError> {
        let (finish, stop) = (Cancel::new()?, Cancel::new()?);
        let (active, working_set) = (Arc::default(), self.working_set.clone());
        let control = LazyControl { finish, stop, active, working_set };
        Ok(LazyDaemon { pages: self.clone(), socket, control })
    }

    /// Tells a distant source that all pages of all restores have come. No restore may come later.
    /// Without this call `criu dump --lazy-pages` fails when the connection ends, and lets the
    /// dumped tasks run on. Images on a disk need no such call.
    ///
    /// # Errors
    /// [`LazyError::Source`] if the source does not answer.
    pub fn close(&self) -> Result<(), LazyError> {
        self.supply.close()
    }

    /// Begins a restore. Returns its part of the handler, the recording of its working set if there
    /// is to be one, and the tasks that hand over.
    pub(crate) fn begin(&self) -> (Restoration, Option<Recorder>, &Arc<Snapshot>) {
        let restoration = self.handler.restoration();
        let recorder = self.working_set.begin(&restoration);
        (restoration, recorder, &self.snapshot)
    }
}

impl LazyDaemon {
    /// Returns a handle for other threads.
    pub fn control(&self) -> LazyControl {
        self.control.clone()
    }

    /// Serves so many restores, or restores without end, each on a thread of its own. Calls `tell`
    /// for each event, in this thread. Returns when the last restore is over.
    ///
    /// A connection counts as a restore when it says something, or ends. A connection that is
    /// refused, or says nothing, does not count.
    ///
    /// # Errors
    /// If the system denies what the daemon needs. The failure of a restore is in its report.
    pub fn run(
        self,
        restores: Option<NonZeroU64>,
        mut tell: impl FnMut(LazyEvent),
    ) -> Result<(), LazyError> {
        let Self { pages, socket, control } = self;
        let mut socket = Some(socket);
        let (begun, full) = (AtomicU64::new(0), Cancel::new()?);
        let served = Served { pages, control, restores, begun, full };
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let wake = EventFd::from_flags(flags)
            .map_err(|source| LazyError::system("make an eventfd")(source.into()))?;
        let (sender, receiver) = channel();
        let back = Back { sender, wake: Arc::new(wake) };
        thread::scope(|scope| {
            let mut under_way = 0u64;
            loop {
                if served.full.is_cancelled() || served.control.finish.is_cancelled() {
                    // No restore waits for a handler that will not serve it.
                    socket = None;
                }
                if socket.is_none() && under_way == 0 {
                    return Ok(());
                }
                wait(socket.as_ref(), &served.control.finish, &back.wake)?;
                match socket.as_ref().map(LazySocket::accept) {
                    Some(Ok(Some(stream))) => {
                        under_way += 1;
                        let (served, back) = (&served, back.clone());
                        let serve = move || {
                            back.send(served.serve(&stream, &back));
                            back.end();
                        };
                        spawn(scope, serve)?;
                    }
                    Some(Err(error)) => {
                        tell(LazyEvent::Refused(error));
                        // A connection for which there is no descriptor stays.
                        thread::sleep(PAUSE);
                    }
                    Some(Ok(None)) | None => {}
                }
                for event in receiver.try_iter() {
                    match event {
                        Some(event) => tell(event),
                        None => under_way -= 1,
                    }
                }
            }
        })
    }
}

impl LazyControl {
    /// Takes no more restores. [`LazyDaemon::run`] returns when those under way are over.
    pub fn finish(&self) {
        self.finish.cancel();
    }

    /// Takes no more restores, and gives up those under way: their tasks are treated as
    /// [`OnLoss`](super::OnLoss) says.
    pub fn stop(&self) {
        self.stop.cancel();
        self.finish.cancel();
        for (_, restoration) in self.active().iter() {
            restoration.give_up(LazyError::Stopped);
        }
    }

    /// Ends a recording that goes on, as if its time had passed.
    pub fn end_recording(&self) {
        self.working_set.end_recording();
    }

    /// Returns the progress of the restores under way, by their numbers.
    pub fn progress(&self) -> Vec<(u64, LazyProgress)> {
        let active = self.active();
        active.iter().map(|(number, restoration)| (*number, restoration.progress())).collect()
    }

    fn active(&self) -> MutexGuard<'_, Vec<(u64, Restoration)>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The parts that the threads of all restores share.
struct Served {
    pages: LazyPages,
    control: LazyControl,
    /// The number of restores to serve; `None` is no limit.
    restores: Option<NonZeroU64>,
    /// The number of restores that have begun.
    begun: AtomicU64,
    /// Ends connections that have said nothing, once no more restores are served.
    full: Cancel,
}

impl Served {
    /// Serves a connection. Returns the last event of it.
    fn serve(&self, stream: &UnixStream, back: &Back) -> LazyEvent {
        let begun = Instant::now();
        let LazyPages { handler, snapshot, working_set, .. } = &self.pages;
        let restoration = handler.restoration();
        let is_prepared = working_set.prepare(&restoration);
        let (patience, stop) = (Some(self.pages.patience), &self.control.stop);
        // A peer that says nothing holds neither the place of a restore nor its recording.
        let number = match reception::wait(stream, patience, &[stop, &self.full]) {
            Err(_) if self.full.is_cancelled() => return LazyEvent::Refused(LazyError::Full),
            Err(error) => return LazyEvent::Refused(error),
            Ok(()) => self.begin(),
        };
        let Some(number) = number else { return LazyEvent::Refused(LazyError::Full) };
        back.ring();
        let recorder = (!is_prepared).then(|| working_set.begin(&restoration)).flatten();
        self.control.active().push((number, restoration.clone()));
        let received = reception::receive(stream, snapshot, &restoration, patience, stop);
        if received.is_ok() {
            back.send(LazyEvent::Restored { number, time: begun.elapsed() });
            // A stop that has come after the last look at it.
            if stop.is_cancelled() {
                restoration.give_up(LazyError::Stopped);
            }
            if let Some(recorder) = recorder {
                back.send(LazyEvent::Recorded { number, set: recorder.run() });
            }
        } else if let Some(recorder) = recorder {
            recorder.pass_on();
        }
        let result = received.and_then(|()| restoration.wait(None).map(drop));
        self.control.active().retain(|(other, _)| *other != number);
        LazyEvent::Ended(LazyReport {
            number,
            result,
            progress: restoration.progress(),
            statistics: restoration.statistics(),
            time: begun.elapsed(),
        })
    }

    /// Takes the place of a restore. Returns its number; `None` if no more restores are served.
    fn begin(&self) -> Option<u64> {
        let most = self.restores.map_or(u64::MAX, NonZeroU64::get);
        let next = |begun| (begun < most).then_some(begun + 1);
        let before = self.begun.fetch_update(Ordering::SeqCst, Ordering::SeqCst, next).ok()?;
        if before + 1 == most {
            self.full.cancel();
        }
        Some(before + 1)
    }
}

/// The way from the threads of restores to the thread that tells of these.
#[derive(Clone)]
struct Back {
    /// `None` is the end of a connection.
    sender: Sender<Option<LazyEvent>>,
    wake: Arc<EventFd>,
}

impl Back {
    fn send(&self, event: LazyEvent) {
        // The receiver lives as long as a restore is under way.
        let _ = self.sender.send(Some(event));
        self.ring();
    }

    fn end(&self) {
        let _ = self.sender.send(None);
        self.ring();
    }

    /// Lets the thread look at what is new.
    fn ring(&self) {
        // Fails only if the counter would pass 2^64 - 2; the descriptor stays readable then.
        let _ = self.wake.write(1);
    }
}

fn spawn<'scope>(
    scope: &'scope Scope<'scope, '_>,
    work: impl FnOnce() + Send + 'scope,
) -> Result<(), LazyError> {
    let builder = thread::Builder::new().name("lazy restore".to_owned()).stack_size(STACK);
    builder.spawn_scoped(scope, work).map_err(LazyError::system("start a thread"))?;
    Ok(())
}

/// Waits until a restore connects, a restore has something to say, or the daemon is to finish.
fn wait(socket: Option<&LazySocket>, finish: &Cancel, wake: &EventFd) -> Result<(), LazyError> {
    // A daemon that finishes has no socket any more.
    let more = socket.map(|socket| [socket.as_fd(), finish.as_fd()]);
    let fds = [wake.as_fd()].into_iter().chain(more.into_iter().flatten());
    let mut fds: Vec<_> = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
    match poll(&mut fds, PollTimeout::NONE) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(source) => return Err(LazyError::system("wait for a restore")(source.into())),
    }
    let _ = wake.read();
    Ok(())
}

/// The longest silence of a restore, unless told.
const PATIENCE: Duration = Duration::from_secs(30 * 60);

/// The pause after a connection that cannot be accepted.
const PAUSE: Duration = Duration::from_millis(50);

/// The stack of a thread that waits for a restore.
const STACK: usize = 256 << 10;
