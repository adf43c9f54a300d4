//! Long work on an archive: progress on a terminal, and signals that stop the work.

use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use criu_archive::{Error, ErrorKind};

use crate::fault::Fault;
use crate::progress::Progress;
use crate::signals::{STOP, Signals};

/// Work that takes long. A signal that asks to stop is noticed at the next step, so that nothing
/// half done stays.
pub(super) struct Work {
    signals: Signals,
    progress: Progress,
    began: Instant,
    /// Name of the signal that stopped the work.
    stopped: Mutex<Option<&'static str>>,
}

impl Work {
    /// Begins work on so many bytes.
    pub(super) fn new(bytes: u64) -> Result<Self, Fault> {
        let signals = Signals::hold(STOP)?;
        let progress = Progress::of_bytes(bytes);
        Ok(Self { signals, progress, began: Instant::now(), stopped: Mutex::default() })
    }

    /// Notes a step, after which so many bytes are done.
    pub(super) fn step(&self, bytes: u64) -> ControlFlow<()> {
        if self.progress.pause().is_some_and(|pause| self.began.elapsed() > pause) {
            self.progress.show_bytes(bytes);
        }
        let mut stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(received) = self.signals.next() {
            *stopped = Some(received.signal.as_str());
        }
        if stopped.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// Returns the reason why the work ended early.
    pub(super) fn fault(&self, error: &Error) -> Fault {
        let stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        match (error.kind(), *stopped) {
            (ErrorKind::Stopped, Some(signal)) => Fault::Interrupted(signal),
            _ => Fault::Failed(error.to_string()),
        }
    }
}
