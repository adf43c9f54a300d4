//! The pipe that long runs go through without a copy.

use std::io::{self, Write};
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice};

use super::error::PagesError;
use super::socket::Socket;
use super::store::Placed;

/// A pipe between a socket and a file, which some file systems cannot read from.
#[derive(Debug, Default)]
pub(super) enum Pipe {
    #[default]
    NotYet,
    Open(OwnedFd, OwnedFd),
    Useless,
}

impl Pipe {
    /// A pipe for a socket. It is made when first needed.
    pub(super) fn new(socket: &Socket) -> Self {
        if socket.is_plain() { Self::NotYet } else { Self::Useless }
    }

    /// Returns `true` if bytes can be moved. Makes the pipe first.
    pub(super) fn is_open(&mut self) -> bool {
        if matches!(self, Self::NotYet) {
            *self = match nix::unistd::pipe2(OFlag::O_CLOEXEC) {
                Ok((from, to)) => {
                    // A smaller pipe works too.
                    let _ = fcntl(&to, FcntlArg::F_SETPIPE_SZ(SIZE));
                    Self::Open(from, to)
                }
                Err(_) => Self::Useless,
            };
        }
        matches!(self, Self::Open(..))
    }

    /// Receives at most so many bytes into the pipe, which has to be open and empty. Returns 0 at
    /// the end.
    pub(super) fn receive(&self, socket: &mut Socket, most: usize) -> io::Result<usize> {
        match self {
            Self::Open(_, to) => socket.splice_into(to, most),
            _ => Ok(0),
        }
    }

    /// Moves so many received bytes into a file. The buffer is for file systems that cannot read
    /// from a pipe: the pipe is useless then.
    pub(super) fn empty(
        &mut self,
        file: &Placed,
        mut bytes: usize,
        buffer: &mut [u8],
    ) -> Result<(), PagesError> {
        let Self::Open(from, _) = self else { return Ok(()) };
        let mut useless = false;
        // Only the disk is waited for: the bytes are in the pipe.
        while bytes > 0 {
            match splice(&*from, None, &file.file, None, bytes, SpliceFFlags::SPLICE_F_MOVE) {
                Ok(now) => bytes = bytes.saturating_sub(now),
                Err(Errno::EINTR) => {}
                Err(Errno::EINVAL) => {
                    let most = bytes.min(buffer.len());
                    let room = buffer.get_mut(..most).unwrap_or_default();
                    let read = nix::unistd::read(&*from, room);
                    let read = read.map_err(|error| PagesError::socket("receive")(error.into()))?;
                    let copied = room.get(..read).unwrap_or_default();
                    (&file.file).write_all(copied).map_err(PagesError::file(&file.path))?;
                    bytes = bytes.saturating_sub(read);
                    useless = true;
                }
                Err(error) => return Err(PagesError::file(&file.path)(error.into())),
            }
        }
        if useless {
            *self = Self::Useless;
        }
        Ok(())
    }
}

/// The bytes of the pipe.
const SIZE: i32 = 1 << 20;
