//! Signals while `inspect` writes a file: the file in the making goes, and the program ends.

use std::os::fd::AsFd;
use std::process::exit;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::exit::Codes;
use crate::fault::Fault;
use crate::new_file::{NewFile, Unfinished};
use crate::output::Output;
use crate::signals::{STOP, Signals};
use crate::tool::Fallible;

/// A watch for signals that ask to stop. A search can be in the middle of a large image then, and
/// asks nobody, so the program ends from another thread.
pub(super) struct Watch(Arc<Mutex<()>>);

impl Watch {
    /// Begins a file with `begin`, and watches for signals from before it is there.
    pub(super) fn begin(
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
    pub(super) fn end(&self) -> MutexGuard<'_, ()> {
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
