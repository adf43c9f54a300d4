//! Runs an operation to its end: answers CRIU, listens to signals, shows the progress.

use std::cell::Cell;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::Duration;

use criu_rs::{Cancel, Hooks, Session};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::fault::Fault;
use crate::progress::Progress;
use crate::signals::{Received, STOP, Signals};

/// The signals and the cancellation of an operation. It is made before the operation.
#[derive(Debug)]
pub(crate) struct Drive {
    signals: Signals,
    cancel: Cancel,
    received: Cell<Option<Received>>,
}

impl Drive {
    /// Makes one. From then on a signal that asks to stop cancels the operation instead of ending
    /// the program.
    pub(crate) fn new() -> Result<Self, Fault> {
        let signals = Signals::hold(STOP)?;
        Ok(Self { signals, cancel: Cancel::new()?, received: Cell::default() })
    }

    /// Returns the cancellation that the operation has to be given.
    pub(crate) fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    /// Tells if a signal that asks to stop has come.
    pub(crate) fn is_stopped(&self) -> bool {
        self.received.get().is_some()
    }

    /// Runs a session to its end. `log` is the path of CRIU's log.
    pub(crate) fn run<T>(
        &self,
        started: criu_rs::Result<Session<T>>,
        hooks: &mut dyn Hooks,
        progress: &Progress,
        log: &Path,
    ) -> Result<T, Fault> {
        let failed = |error| Fault::logged(error, log);
        let mut session = started.map_err(|error| refused(error, log))?;
        let pause = progress.pause().and_then(|pause| PollTimeout::try_from(pause).ok());
        loop {
            if let Some(outcome) = session.advance(hooks).map_err(failed)? {
                return Ok(outcome);
            }
            let mut fds = [
                PollFd::new(session.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut fds, pause.unwrap_or(PollTimeout::NONE)) {
                Ok(0) => progress.show(),
                Ok(_) | Err(Errno::EINTR) => {}
                Err(source) => return Err(Fault::system("wait for criu", source)),
            }
            if let Some(received) = self.signals.next() {
                self.received.set(Some(received));
                self.cancel.cancel();
            }
        }
    }

    /// Runs an operation that returns only at its end. A thread listens to signals meanwhile. The
    /// operation has to be given the [cancellation](Self::cancel).
    pub(crate) fn watch<T>(&self, operation: impl FnOnce() -> T) -> Result<T, Fault> {
        let pair = UnixStream::pair();
        let (end, ended) = pair.map_err(|source| Fault::system("wait for signals", source))?;
        let (signals, cancel) = (&self.signals, &self.cancel);
        let (outcome, received) = thread::scope(move |scope| {
            let listener = scope.spawn(move || listen(signals, cancel, &ended));
            let outcome = operation();
            drop(end);
            (outcome, listener.join().unwrap_or_default())
        });
        // A signal that came before this operation is still to be heeded.
        self.received.set(received.or(self.received.get()));
        Ok(outcome)
    }

    /// Waits for a time. Returns a signal that comes meanwhile, or that came before and was too
    /// late.
    pub(crate) fn pause(&self, time: Duration) -> Option<Received> {
        if self.received.get().is_none() {
            let mut fds = [PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
            let _ = poll(&mut fds, PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX));
            self.received.set(self.signals.next());
        }
        self.received.get()
    }

    /// Returns a signal that asked to stop, even if it came too late because the operation
    /// succeeded.
    pub(crate) fn received(&self) -> Option<Received> {
        self.received.get()
    }
}

/// Makes the fault of an operation that failed. If there is no log, because criu was not asked,
/// the reason is written into one: scripts read the log of a failed dump, which criu always leaves.
pub(crate) fn refused(error: criu_rs::Error, log: &Path) -> Fault {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(log);
    let _ = file.and_then(|mut file| writeln!(file, "Error (criu-rs): {error}"));
    Fault::logged(error, log)
}

/// Cancels an operation at each signal that comes, until the peer of `ended` is closed. Returns the
/// last signal.
fn listen(signals: &Signals, cancel: &Cancel, ended: &UnixStream) -> Option<Received> {
    let mut received = None;
    loop {
        let mut fds = [
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(ended.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return received,
        }
        let has_ended = fds[1].any() == Some(true);
        match signals.next() {
            Some(signal) => {
                received = Some(signal);
                cancel.cancel();
            }
            None if has_ended => return received,
            None => {}
        }
    }
}
