//! A thread that does work when it is due.

use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// A thread that sleeps until work is due. It ends with this value.
#[derive(Debug)]
pub(super) struct Keeper {
    /// Wakes the thread; ends it when it is dropped.
    wakes: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    /// Starts the thread. `work` does what is due now, and returns the time until there is more to
    /// do, if there is more.
    ///
    /// # Errors
    /// If there can be no thread more.
    pub(super) fn start(
        work: impl FnMut() -> Option<Duration> + Send + 'static,
    ) -> io::Result<Self> {
        let (wakes, woken) = mpsc::channel();
        let thread = thread::Builder::new().spawn(move || keep(work, &woken))?;
        Ok(Self { wakes: Some(wakes), thread: Some(thread) })
    }

    /// Lets the thread look for work.
    pub(super) fn wake(&self) {
        // The thread lives as long as this value.
        let _ = self.wakes.as_ref().map(|wakes| wakes.send(()));
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.wakes.take();
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn keep(mut work: impl FnMut() -> Option<Duration>, woken: &Receiver<()>) {
    let mut time = None;
    loop {
        let waited = match time {
            Some(time) => woken.recv_timeout(time),
            None => woken.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        if waited == Err(RecvTimeoutError::Disconnected) {
            return;
        }
        time = work();
    }
}
