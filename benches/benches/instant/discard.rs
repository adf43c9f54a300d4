//! A page server that keeps nothing: what CRIU takes by itself to send its pages.

use std::io::{Read, Write};
use std::ops::Range;
use std::os::unix::net::UnixStream;

use criu_benches::Result;
use criu_rs::pages::{PageReceiver, PageSession, PagesError, drive};

/// The receiver.
pub(crate) struct Discard {
    socket: UnixStream,
    buffer: Vec<u8>,
    /// The unread part of the buffer.
    window: Range<usize>,
}

impl Discard {
    /// Receives until the end.
    pub(crate) fn run(socket: UnixStream) -> Result<()> {
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
