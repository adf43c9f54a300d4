//! Bytes of an unpacked archive, from the first on.

use std::io::{self, Read};

use criu_images::source::Blob;

use super::header::BLOCK;

/// Bytes of an unpacked archive, from the first on.
pub(crate) trait Stream: Read {
    /// Number of bytes of the whole archive, as far as it is known: a stream that is being unpacked
    /// ends where it ends.
    fn total(&self) -> Option<u64>;

    /// Passes over bytes and returns how many these were: fewer at the end of the archive.
    fn pass(&mut self, bytes: u64) -> io::Result<u64>;
}

/// A stream over bytes that can be read at any place.
#[derive(Debug)]
pub(crate) struct Seeking<'b> {
    bytes: &'b Blob,
    at: u64,
    /// Bytes before `at` that have been read ahead: a header has 512 bytes.
    buffer: Vec<u8>,
    used: usize,
    ahead: usize,
}

impl<'b> Seeking<'b> {
    pub(crate) fn new(bytes: &'b Blob) -> Self {
        Self { bytes, at: 0, buffer: Vec::new(), used: 0, ahead: AHEAD }
    }

    /// Makes a stream that reads single blocks: what follows headers is not touched.
    pub(crate) fn by_block(bytes: &'b Blob) -> Self {
        Self { ahead: BLOCK, ..Self::new(bytes) }
    }
}

impl Read for Seeking<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.used == self.buffer.len() {
            let left = self.bytes.len().saturating_sub(self.at);
            let len = usize::try_from(left).unwrap_or(usize::MAX).min(self.ahead);
            self.buffer.resize(len, 0);
            self.used = 0;
            self.bytes.read_at(self.at, &mut self.buffer)?;
            self.at += len as u64;
        }
        let ready = self.buffer.get(self.used..).unwrap_or_default();
        let len = ready.len().min(buf.len());
        buf.iter_mut().zip(ready).for_each(|(to, from)| *to = *from);
        self.used += len;
        Ok(len)
    }
}

impl Stream for Seeking<'_> {
    fn total(&self) -> Option<u64> {
        Some(self.bytes.len())
    }

    fn pass(&mut self, bytes: u64) -> io::Result<u64> {
        let ahead = self.buffer.len() - self.used;
        match usize::try_from(bytes) {
            Ok(few) if few <= ahead => {
                self.used += few;
                Ok(bytes)
            }
            _ => {
                let here = self.at - ahead as u64;
                self.at = here.saturating_add(bytes).min(self.bytes.len());
                self.buffer.clear();
                self.used = 0;
                Ok(self.at - here)
            }
        }
    }
}

/// Bytes that are read ahead.
const AHEAD: usize = 8 << 10;
