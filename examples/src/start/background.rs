//! A `start` that goes on without a terminal.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use crate::descriptors;
use crate::exit::Exit;
use crate::fault::Fault;
use crate::fd;
use crate::own;
use crate::word::NAME;

/// Starts this program again, waits until the copies run, and returns how that went. If this
/// program is ended meanwhile, nothing is left.
pub(super) fn begin(args: &[OsString]) -> Result<ExitCode, Fault> {
    let failed = |source: io::Error| Fault::system("go on in the background", source);
    descriptors::hand_on(args)?;
    let (mut here, there) = UnixStream::pair().map_err(failed)?;
    let mut command = Command::new(own::PROGRAM);
    command.arg0(NAME).args(["start", "--background"]).args(args);
    let mut child = command.stdin(std::os::fd::OwnedFd::from(there)).spawn().map_err(failed)?;
    // The other end of the pair belongs to the child alone.
    drop(command);
    let mut code = [0];
    match here.read_exact(&mut code) {
        Ok(()) => Ok(code[0].into()),
        // It has ended, and has said why.
        Err(_) => {
            let status = child.wait().map_err(failed)?;
            Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1).into())
        }
    }
}

/// The background of a process, and the way to tell the one in the foreground.
pub(super) struct Background(File);

impl Background {
    /// Parts from the terminal.
    pub(super) fn new() -> Result<Self, Fault> {
        let failed = |source: io::Error| Fault::system("go on in the background", source);
        own::take_name();
        nix::unistd::setsid().map_err(|error| failed(error.into()))?;
        let told = io::stdin().as_fd().try_clone_to_owned().map_err(failed)?;
        fd::to_null(0)?;
        Ok(Self(told.into()))
    }

    /// Returns the socket, which can be read when the process in the foreground is gone.
    pub(super) fn foreground(&self) -> impl AsFd + '_ {
        self.0.as_fd()
    }

    /// Tells the process in the foreground to end, and uses its streams no more.
    pub(super) fn release(mut self, exit: Exit) -> Result<(), Fault> {
        fd::to_null(1)?;
        fd::to_null(2)?;
        let told = self.0.write_all(&[exit as u8]);
        told.map_err(|source| Fault::system("go on in the background", source))
    }
}
