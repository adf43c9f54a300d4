//! The parent of a restored tree.

use std::os::fd::AsFd;
use std::process::ExitCode;

use criu_rs::Restored;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getsid};
use procfs::process::Process;

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

    /// Hands signals on to the root, `earlier` before those that wait, until every child of this
    /// program has ended: as the first process of a pid namespace it has all orphans of the tree as
    /// children, and the kernel kills those that it leaves behind. Returns the root's end as an
    /// exit code, as a shell does.
    ///
    /// When the root has ended, signals go to the children that are left.
    pub(crate) fn stay(
        &self,
        restored: &Restored,
        earlier: Option<Received>,
    ) -> Result<ExitCode, Fault> {
        let root = Pid::from_raw(restored.pid.as_raw());
        if let Some(received) = earlier {
            hand_on(restored, received);
        }
        let mut end = None;
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) => {}
                Ok(status) => {
                    if status.pid() == Some(root) {
                        end = code_of(status);
                    }
                    continue;
                }
                Err(Errno::EINTR) => continue,
                Err(Errno::ECHILD) => return Ok(end.unwrap_or(ExitCode::FAILURE)),
                Err(source) => return Err(Fault::system("wait for the restored tree", source)),
            }
            let mut fds = [PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(source) => return Err(Fault::system("wait for signals", source)),
            }
            while let Some(received) = self.signals.next() {
                match end {
                    None => hand_on(restored, received),
                    Some(_) => hand_on_to_children(received),
                }
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

/// Hands a signal on to the children that the root has left.
fn hand_on_to_children(Received { signal, by_kernel }: Received) {
    if signal == Signal::SIGCHLD || by_kernel {
        return;
    }
    let own = Process::myself().and_then(|own| own.task_main_thread());
    for child in own.and_then(|own| own.children()).unwrap_or_default() {
        // No other child can have the number, because only this loop's thread waits for children.
        let _ = i32::try_from(child).map(|pid| kill(Pid::from_raw(pid), signal));
    }
}

/// Tells if the tree has received by itself what a terminal sends, because it is a shell's job in
/// this program's session and process group.
fn shares_terminal(restored: &Restored) -> bool {
    getsid(Some(Pid::from_raw(restored.pid.as_raw()))).ok() == getsid(None).ok()
}

fn code_of(status: WaitStatus) -> Option<ExitCode> {
    let code = match status {
        WaitStatus::Exited(_, code) => code,
        WaitStatus::Signaled(_, signal, _) => 128 + signal as i32,
        _ => return None,
    };
    Some(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)))
}

/// Signals that are handed on, beside those that ask to stop.
const FORWARDED: &[Signal] =
    &[Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGALRM, Signal::SIGCONT, Signal::SIGWINCH];
