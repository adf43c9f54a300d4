//! A page server that keeps nothing, and dumps to it: the time that CRIU takes by itself.

use std::io::{Read, Write};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use criu_rs::pages::{PageReceiver, PageSession, PagesError, drive};
use criu_rs::{Criu, Dump, Dumped};
use nix::sys::socket::{setsockopt, sockopt};

use crate::Result;

/// Runs a dump whose pages go over a socket to a receiver that throws them away.
///
/// # Errors
/// The dump fails, or the receiver does.
pub fn discarded(dump: Dump<'_>, criu: &Criu) -> Result<Dumped> {
    let (theirs, ours) = UnixStream::pair()?;
    for socket in [&theirs, &ours] {
        setsockopt(socket, sockopt::SndBufForce, &(8 << 20))?;
    }
    let thrown = std::thread::spawn(move || Discard::run(ours).is_ok());
    let theirs = OwnedFd::from(theirs);
    let dumped = dump.page_server_socket(&theirs).run(criu)?;
    drop(theirs);
    if thrown.join().unwrap_or(false) { Ok(dumped) } else { Err("the receiver failed".into()) }
}

/// The receiver.
struct Discard {
    socket: UnixStream,
    buffer: Vec<u8>,
    /// The unread part of the buffer.
    window: Range<usize>,
}

impl Discard {
    /// Receives until the end.
    fn run(socket: UnixStream) -> Result<()> {
        let mut discard = Self { socket, buffer: vec![0; 4 << 20], window: 0..0 };
        if drive(&mut PageSession::new(None), &mut discard)? { Ok(()) } else { Err("gone".into()) }
    }
}

impl PageReceiver for Discard {
    fn unread(&self, _: &PageSession) -> &[u8] {
        self.buffer.get(self.window.clone()).unwrap_or_default()
    }

    fn take(&mut self, bytes: usize) -> std::result::Result<(), PagesError> {
        self.window.start += bytes;
        Ok(())
    }

    fn receive(&mut self, _: &mut PageSession, _: usize) -> std::result::Result<bool, PagesError> {
        self.buffer.copy_within(self.window.clone(), 0);
        self.window = 0..self.window.len();
        let room = self.buffer.get_mut(self.window.end..).unwrap_or_default();
        let failed = |source| PagesError::Socket { what: "receive", source };
        let size = self.socket.read(room).map_err(failed)?;
        self.window.end += size;
        Ok(size > 0)
    }

    fn answer(&mut self, bytes: &[u8]) -> std::result::Result<(), PagesError> {
        let failed = |source| PagesError::Socket { what: "answer", source };
        self.socket.write_all(bytes).map_err(failed)
    }
}
