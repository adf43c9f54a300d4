//! The socket through which a container's terminal is handed over.

use std::io::IoSlice;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

use super::error::{Error, Result};

/// A console socket, such as runtimes take by `--console-socket`: a unix socket whose listener
/// waits for the master of the container's terminal.
///
/// ```no_run
/// use criu_rs::oci::ConsoleSocket;
///
/// let console = ConsoleSocket::new("/run/conmon/console.sock");
/// # let _ = console;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsoleSocket {
    path: PathBuf,
}

impl ConsoleSocket {
    /// The socket at a path.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Connects, and sends the master of a terminal.
    ///
    /// # Errors
    /// When no process listens on the socket.
    pub fn send(&self, master: &OwnedFd) -> Result<()> {
        let failed = |doing| move |source| Error::path(doing, &self.path, source);
        let socket = UnixStream::connect(&self.path).map_err(failed("reach the console socket"))?;
        let fds = [master.as_raw_fd()];
        // Receivers take this text for the terminal's name.
        let text = [IoSlice::new(b"/dev/ptmx")];
        let message = [ControlMessage::ScmRights(&fds)];
        sendmsg::<()>(socket.as_raw_fd(), &text, &message, MsgFlags::MSG_NOSIGNAL, None)
            .map_err(|error| failed("send a terminal to the console socket")(error.into()))?;
        Ok(())
    }
}
