//! Bytes that can be read at any place, as a reader of the standard library.

use std::io::{self, Read, Seek, SeekFrom};

use criu_images::source::Blob;

/// A reader of bytes from the first on, which can also go to another place.
#[derive(Debug)]
pub(crate) struct InOrder {
    bytes: Blob,
    at: u64,
}

impl InOrder {
    pub(crate) fn new(bytes: &Blob) -> Self {
        Self { bytes: bytes.clone(), at: 0 }
    }
}

impl Read for InOrder {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let left = self.bytes.len().saturating_sub(self.at);
        let len = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
        let (buf, _) = buf.split_at_mut(len);
        self.bytes.read_at(self.at, buf)?;
        self.at += len as u64;
        Ok(len)
    }
}

impl Seek for InOrder {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(distance) => self.at.checked_add_signed(distance),
            SeekFrom::End(distance) => self.bytes.len().checked_add_signed(distance),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}
