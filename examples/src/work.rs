//! Long work: progress on a terminal, and signals that stop the work. A watch ends a program that
//! does not ask for signals.

use std::error::Error as StdError;
use std::fs::File;
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::process::exit;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::exit::Codes;
use crate::fault::Fault;
use crate::new_file::{NewFile, Unfinished};
use crate::output::Output;
use crate::progress::Progress;
use crate::signals::{STOP, Signals};
use crate::tool::Fallible;

/// Work that takes long. A signal that asks to stop is noticed at the next step, so that nothing
/// half done stays.
pub(crate) struct Work {
    signals: Signals,
    progress: Progress,
    began: Instant,
    /// Name of the signal that stopped the work.
    stopped: Mutex<Option<&'static str>>,
}

impl Work {
    /// Begins work on so many bytes.
    pub(crate) fn new(bytes: u64) -> Result<Self, Fault> {
        let signals = Signals::hold(STOP)?;
        let progress = Progress::of_bytes(bytes);
        Ok(Self { signals, progress, began: Instant::now(), stopped: Mutex::default() })
    }

    /// Notes a step, after which so many bytes are done.
    pub(crate) fn step(&self, bytes: u64) -> ControlFlow<()> {
        if self.progress.pause().is_some_and(|pause| self.began.elapsed() > pause) {
            self.progress.show_bytes(bytes);
        }
        let mut stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(received) = self.signals.next() {
            *stopped = Some(received.signal.as_str());
        }
        if stopped.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// Returns the reason why the work ended early: a signal, or else this one.
    pub(crate) fn fault(&self, error: impl Into<Box<dyn StdError>>) -> Box<dyn StdError> {
        let stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        stopped.map_or_else(|| error.into(), |signal| Fault::Interrupted(signal).into())
    }
}

/// A file that is read as part of the work. A pipe is waited for until a signal comes.
pub(crate) struct Input<'w> {
    file: File,
    work: &'w Work,
    read: u64,
}

impl<'w> Input<'w> {
    pub(crate) fn new(file: File, work: &'w Work) -> Self {
        Self { file, work, read: 0 }
    }
}

impl Read for Input<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let mut wanted = [
            PollFd::new(self.file.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.work.signals.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut wanted, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        if self.work.step(self.read).is_break() {
            // Other than `Interrupted`, after which a reader would try again.
            return Err(io::Error::other("the work was stopped"));
        }
        let len = self.file.read(bytes)?;
        self.read += len as u64;
        Ok(len)
    }
}

/// A watch for signals that ask to stop. A search can be in the middle of a large image then, and
/// asks nobody, so the program ends from another thread.
pub(crate) struct Watch(Arc<Mutex<()>>);

impl Watch {
    /// Begins a file with `begin`, and watches for signals from before it is there.
    pub(crate) fn begin(
        output: Output,
        begin: impl FnOnce() -> Result<NewFile, String>,
    ) -> Fallible<(Self, NewFile)> {
        let signals = Signals::hold(STOP)?;
        let file = begin()?;
        let this = Self(Arc::default());
        let Some(unfinished) = file.unfinished()? else {
            // Nothing stays of standard output: signals end the program as they do.
            return Ok((this, file));
        };
        let is_ending = Arc::clone(&this.0);
        thread::Builder::new().spawn(move || wait(&signals, &unfinished, &is_ending, &output))?;
        Ok((this, file))
    }

    /// Ends the watch: a signal from now on is too late.
    pub(crate) fn end(&self) -> MutexGuard<'_, ()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for a signal, and ends the program.
fn wait(signals: &Signals, unfinished: &Unfinished, is_ending: &Mutex<()>, output: &Output) {
    loop {
        let mut wanted = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        match poll(&mut wanted, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return,
        }
        let Some(received) = signals.next() else { continue };
        let _ending = is_ending.lock().unwrap_or_else(PoisonError::into_inner);
        unfinished.remove();
        let fault = Fault::Interrupted(received.signal.as_str());
        let _ = output.fault(&fault);
        exit(Codes::Own.number(fault.exit()).into());
    }
}
