//! The parent of a restored tree.

use std::os::fd::AsFd;
use std::process::ExitCode;

use criu_rs::Restored;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getsid};

use crate::fault::Fault;
use crate::signals::{Received, STOP, Signals};

/// This program as the parent of a tree that is being restored.
pub(crate) struct Parent {
    signals: Signals,
}

impl Parent {
    /// Makes one. From then on signals wait until there is a tree to hand them on to.
    pub(crate) fn new() -> Result<Self, Fault> {
        let signals = Signals::hold(&[STOP, FORWARDED, &[Signal::SIGCHLD]].concat())?;
        Ok(Self { signals })
    }

    /// Hands signals on to the root until the root ends, `earlier` before those that wait. Returns
    /// the root's end as an exit code, as a shell does.
    pub(crate) fn stay(
        &self,
        restored: &Restored,
        earlier: Option<Received>,
    ) -> Result<ExitCode, Fault> {
        let root = Pid::from_raw(restored.pid.as_raw());
        if let Some(received) = earlier {
            hand_on(restored, received);
        }
        loop {
            match waitpid(root, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(_, code)) => return Ok(code_of(code)),
                Ok(WaitStatus::Signaled(_, signal, _)) => return Ok(code_of(128 + signal as i32)),
                Ok(_) | Err(Errno::EINTR) => {}
                Err(source) => return Err(Fault::system("wait for the restored tree", source)),
            }
            let mut fds = [PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(source) => return Err(Fault::system("wait for signals", source)),
            }
            while let Some(received) = self.signals.next() {
                hand_on(restored, received);
            }
        }
    }
}

fn hand_on(restored: &Restored, Received { signal, by_kernel }: Received) {
    if signal == Signal::SIGCHLD || by_kernel && shares_terminal(restored) {
        return;
    }
    // A failure means that the root is ending, and then its status counts.
    let _ = restored.signal(signal as i32);
}

/// Tells if the tree has received by itself what a terminal sends, because it is a shell's job in
/// this program's session and process group.
fn shares_terminal(restored: &Restored) -> bool {
    getsid(Some(Pid::from_raw(restored.pid.as_raw()))).ok() == getsid(None).ok()
}

fn code_of(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}

/// Signals that are handed on, beside those that ask to stop.
const FORWARDED: &[Signal] =
    &[Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGALRM, Signal::SIGCONT, Signal::SIGWINCH];
