//! The foreground of a round, whose process stays in the background.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitCode};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, dup2_stderr, setsid};

use crate::descriptors;
use crate::fault::Fault;
use crate::fd;
use crate::own;
use crate::settings;
use crate::signals::{STOP, Signals};
use crate::word::NAME;

/// Starts this program again, waits until its round is complete, and returns how that went. The
/// other process goes on then. Signals are handed on to it.
pub(crate) fn begin(word: &str, args: &[OsString]) -> Result<ExitCode, Fault> {
    settings::refuse_pipe(args)?;
    descriptors::hand_on(args)?;
    let (here, there) = UnixStream::pair().map_err(failed)?;
    let mut command = Command::new(own::PROGRAM);
    command.arg0(NAME).args([word, "--keeper"]).args(args);
    let mut child = command.stdin(OwnedFd::from(there)).spawn().map_err(failed)?;
    // The other end of the pair belongs to the child alone.
    drop(command);
    let signals = Signals::hold(STOP)?;
    wait(&here, &signals, &child)?;
    let mut code = [0];
    match (&here).read_exact(&mut code) {
        Ok(()) => Ok(code[0].into()),
        // It has ended, and has said why.
        Err(_) => {
            let status = child.wait().map_err(failed)?;
            let killed = status.signal().map(|signal| signal.saturating_add(128));
            let code = status.code().or(killed).and_then(|code| u8::try_from(code).ok());
            Ok(code.unwrap_or(1).into())
        }
    }
}

/// Waits for the news of the child, and hands signals on to it meanwhile.
fn wait(news: &UnixStream, signals: &Signals, child: &Child) -> Result<(), Fault> {
    loop {
        let mut fds = [
            PollFd::new(news.as_fd(), PollFlags::POLLIN),
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(source) => return Err(failed(source.into())),
        }
        if fds[0].any() == Some(true) {
            return Ok(());
        }
        while let Some(received) = signals.next() {
            // Ctrl-C reaches both processes.
            if let (false, Ok(pid)) = (received.by_kernel, i32::try_from(child.id())) {
                let _ = kill(Pid::from_raw(pid), received.signal);
            }
        }
    }
}

/// The process in the foreground, as the one that is to stay sees it.
#[derive(Debug)]
pub(crate) struct Foreground(File);

impl Foreground {
    /// Takes the socket from standard input. From now on the end of the foreground is a SIGTERM.
    pub(crate) fn new() -> Result<Self, Fault> {
        own::take_name();
        let told = io::stdin().as_fd().try_clone_to_owned().map_err(failed)?;
        fd::to_null(0)?;
        set_pdeathsig(Signal::SIGTERM).map_err(|errno| failed(errno.into()))?;
        let mut fds = [PollFd::new(told.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, PollTimeout::ZERO).map_err(|errno| failed(errno.into()))? > 0 {
            return Err(Fault::Interrupted("the end of the program in the foreground"));
        }
        Ok(Self(told.into()))
    }

    /// Parts from the terminal, writes errors to a log from now on, and lets the foreground end.
    pub(super) fn release(mut self, code: u8, log: File) -> Result<(), Fault> {
        set_pdeathsig(None).map_err(|errno| failed(errno.into()))?;
        setsid().map_err(|errno| failed(errno.into()))?;
        fd::to_null(1)?;
        dup2_stderr(log).map_err(|errno| failed(errno.into()))?;
        std::env::set_current_dir("/").map_err(failed)?;
        self.0.write_all(&[code]).map_err(failed)
    }
}

fn failed(source: io::Error) -> Fault {
    Fault::system("go on in the background", source)
}
