//! Signals as a descriptor to wait for.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, pthread_sigmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use procfs::process::Process;

use crate::fault::Fault;

/// Signals that are held back and read from a descriptor. Dropping it lets them through again.
#[derive(Debug)]
pub(crate) struct Signals {
    fd: SignalFd,
    before: SigSet,
}

/// A signal that has come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Received {
    pub(crate) signal: Signal,
    /// Tells if the kernel sent it, as for Ctrl-C, to the whole foreground group of a terminal.
    pub(crate) by_kernel: bool,
}

impl Signals {
    /// Holds back the signals of `wanted` that this process was not started to ignore.
    pub(crate) fn hold(wanted: &[Signal]) -> Result<Self, Fault> {
        let failed = |source: nix::Error| Fault::system("wait for signals", source);
        let ignored = Process::myself().and_then(|own| own.status()).map_or(0, |own| own.sigign);
        let is_ignored = |signal: Signal| ignored & (1 << (signal as i32 - 1)) != 0;
        let set: SigSet = wanted.iter().copied().filter(|&signal| !is_ignored(signal)).collect();
        let mut before = SigSet::empty();
        pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&set), Some(&mut before)).map_err(failed)?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let fd = SignalFd::with_flags(&set, flags).map_err(failed)?;
        Ok(Self { fd, before })
    }

    /// Waits for a signal.
    pub(crate) fn wait(&self) -> Received {
        loop {
            let _ = poll(&mut [PollFd::new(self.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE);
            if let Some(received) = self.next() {
                return received;
            }
        }
    }

    /// Returns the next signal that has come.
    pub(crate) fn next(&self) -> Option<Received> {
        let info = self.fd.read_signal().ok()??;
        let signal = Signal::try_from(i32::try_from(info.ssi_signo).ok()?).ok()?;
        // A signal from a process has SI_USER, which is 0, or less.
        Some(Received { signal, by_kernel: info.ssi_code > 0 })
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        let _ = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&self.before), None);
    }
}

/// A wait that a signal which asks to stop ends.
#[derive(Debug)]
pub struct Pause(Signals);

impl Pause {
    /// Makes one. From then on such a signal is noticed at the next pause.
    ///
    /// # Errors
    /// Fails if the system has no descriptor left.
    pub fn new() -> Result<Self, Fault> {
        Signals::hold(STOP).map(Self)
    }

    /// Waits for a time.
    ///
    /// # Errors
    /// [`Fault::Interrupted`] when such a signal has come.
    pub fn sleep(&self, time: Duration) -> Result<(), Fault> {
        let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut fds, PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX));
        match self.0.next() {
            Some(received) => Err(Fault::Interrupted(received.signal.as_str())),
            None => Ok(()),
        }
    }
}

/// Signals that ask a program to stop.
pub(crate) const STOP: &[Signal] =
    &[Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM];
