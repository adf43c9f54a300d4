//! A restore that hands over to the process that has started it.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use criu_images::working_set::WorkingSet;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::daemon::LazyPages;
use super::error::LazyError;
use super::handover::HandoverError;
use super::reception;
use super::restoration::Restoration;
use super::socket::LazySocket;
use super::statistics::{LazyProgress, LazyStatistics};
use super::working_set::Recorder;
use crate::value::Cancel;

/// The memory of a lazily restored tree, which comes while this handle lives.
///
/// A handle that is dropped while pages are missing gives the restore up: the tasks are treated as
/// [`OnLoss`](super::OnLoss) says.
#[derive(Debug)]
#[must_use = "the tasks lose their missing pages when the handle is dropped"]
pub struct LazyHandle {
    restoration: Restoration,
    recorder: Mutex<Option<Recorder>>,
    /// The threads that fill the pages.
    _pages: LazyPages,
}

/// A thread that waits for one restore at a socket of its own, and takes the tasks.
#[derive(Debug)]
pub(crate) struct Reception {
    stop: Cancel,
    restoration: Restoration,
    recorder: Option<Recorder>,
    pages: Option<LazyPages>,
    thread: Option<JoinHandle<()>>,
    outcome: Outcome,
}

/// The result of a reception, once there is one. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome(Arc<OnceLock<Result<(), Arc<LazyError>>>>);

impl LazyHandle {
    /// Returns the progress.
    pub fn progress(&self) -> LazyProgress {
        self.restoration.progress()
    }

    /// Returns the numbers so far.
    pub fn statistics(&self) -> LazyStatistics {
        self.restoration.statistics()
    }

    /// Waits until no page is missing or no task is left, at most for a time. Returns false if the
    /// time has passed. [`LazyProgress::unused`] is 0 if all pages have come. With
    /// [`Fill::Nothing`](super::Fill::Nothing) this is the end of the tasks, unless they touch
    /// every page.
    ///
    /// # Errors
    /// The error for which pages are lost.
    pub fn wait(&self, at_most: Option<Duration>) -> Result<bool, LazyError> {
        self.restoration.wait(at_most)
    }

    /// Ends the recording of the working set, which [`LazyPages::record`] asks for, and returns its
    /// result. Other pages come from now on. Returns `None` if nothing is recorded.
    pub fn end_recording(&self) -> Option<WorkingSet> {
        self.recorder().map(Recorder::end)
    }

    /// Waits until the time of the recording has passed or no task is left, and ends the recording
    /// as [`end_recording`](Self::end_recording) does.
    pub fn recorded(&self) -> Option<WorkingSet> {
        self.recorder().map(Recorder::run)
    }

    fn recorder(&self) -> Option<Recorder> {
        self.recorder.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Gives up the pages that are missing: the tasks are treated as [`OnLoss`](super::OnLoss)
    /// says.
    pub fn stop(self) {}
}

impl Drop for LazyHandle {
    fn drop(&mut self) {
        if self.progress().missing > 0 {
            self.restoration.give_up(LazyError::Stopped);
        }
    }
}

impl LazyPages {
    /// Waits for one restore in a directory, on a thread of its own.
    pub(crate) fn receive_one(
        &self,
        directory: OwnedFd,
        shown: &Path,
    ) -> Result<Reception, LazyError> {
        let socket = LazySocket::bind_in(directory, shown)?;
        let (restoration, recorder, snapshot) = self.begin();
        let (stop, outcome) = (Cancel::new()?, Outcome::default());
        let run = {
            let (snapshot, restoration) = (Arc::clone(snapshot), restoration.clone());
            let (stop, outcome) = (stop.clone(), outcome.clone());
            move || {
                let stream = accept(socket, &stop);
                let received = stream.and_then(|stream| {
                    // The caller knows how long its restore may take, and stops it.
                    reception::receive(&stream, &snapshot, &restoration, None, &stop)
                });
                let _ = outcome.0.set(received.map_err(Arc::new));
            }
        };
        let builder = thread::Builder::new().name("lazy restore".to_owned()).stack_size(STACK);
        let thread = builder.spawn(run).map_err(LazyError::system("start a thread"))?;
        let (pages, thread) = (Some(self.clone()), Some(thread));
        Ok(Reception { stop, restoration, recorder, pages, thread, outcome })
    }
}

impl Reception {
    /// Returns the place where the result will be.
    pub(crate) fn outcome(&self) -> Outcome {
        self.outcome.clone()
    }

    /// Takes the memory of a restore that has succeeded.
    ///
    /// # Errors
    /// The error for which the tasks were not taken. They are killed.
    pub(crate) fn finish(mut self) -> Result<LazyHandle, Arc<LazyError>> {
        // The last word has come before criu's answer, unless criu has never connected.
        let end = Instant::now() + LAST_WORD;
        let is_running = |thread: &JoinHandle<()>| !thread.is_finished();
        while self.thread.as_ref().is_some_and(is_running) {
            if Instant::now() > end {
                self.stop.cancel();
                break;
            }
            thread::sleep(LOOK);
        }
        self.join();
        if let Some(Err(error)) = self.outcome.0.get() {
            return Err(Arc::clone(error));
        }
        let (Some(pages), restoration) = (self.pages.take(), self.restoration.clone()) else {
            return Err(Arc::new(LazyError::Stopped));
        };
        let recorder = Mutex::new(self.recorder.take());
        Ok(LazyHandle { restoration, recorder, _pages: pages })
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Reception {
    fn drop(&mut self) {
        if self.pages.is_some() {
            self.stop.cancel();
            self.join();
            self.restoration.give_up(LazyError::Stopped);
            if let Some(recorder) = self.recorder.take() {
                recorder.pass_on();
            }
        }
    }
}

impl Outcome {
    /// Returns the error of a handler that has made a restore fail. `None` if the restore itself
    /// has failed.
    pub(crate) fn own_error(&self) -> Option<Arc<LazyError>> {
        let error = self.0.get()?.as_ref().err()?;
        let is_of_restore = matches!(
            **error,
            LazyError::Stopped
                | LazyError::Handover(HandoverError::Failed(_) | HandoverError::Incomplete)
        );
        (!is_of_restore).then(|| Arc::clone(error))
    }
}

/// Waits for a connection. The socket is closed then: no second restore waits for an answer.
fn accept(socket: LazySocket, stop: &Cancel) -> Result<std::os::unix::net::UnixStream, LazyError> {
    loop {
        let mut fds = [socket.as_fd(), stop.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) if stop.is_cancelled() => return Err(LazyError::Stopped),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(source) => return Err(LazyError::system("wait for a restore")(source.into())),
        }
        match socket.accept() {
            Ok(Some(stream)) => return Ok(stream),
            Ok(None) | Err(LazyError::Stranger { .. }) => {}
            Err(error) => return Err(error),
        }
    }
}

/// The time between criu's answer and the end of the reception of its tasks.
const LAST_WORD: Duration = Duration::from_secs(10);

/// The time between two looks at the reception.
const LOOK: Duration = Duration::from_micros(200);

/// The stack of the thread.
const STACK: usize = 256 << 10;
