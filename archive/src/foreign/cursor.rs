//! A place in a file from which numbers and texts are read.

use criu_images::source::Blob;

use crate::error::{ErrorKind, Fault};

/// A place in a file. What is read moves it.
pub(super) struct Cursor<'a> {
    file: &'a Blob,
    offset: u64,
}

impl<'a> Cursor<'a> {
    /// The beginning of a file.
    pub(super) fn new(file: &'a Blob) -> Self {
        Self { file, offset: 0 }
    }

    /// Reads bytes.
    pub(super) fn bytes<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    /// Reads `length` bytes, if there are not more than `limit`.
    pub(super) fn block(&mut self, length: u64, limit: u64) -> Result<Vec<u8>, Fault> {
        if length > limit {
            return Err(Fault::from(ErrorKind::TooLarge { size: length, limit }).at(self.offset));
        }
        self.has(length)?;
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    /// Reads a number of eight bytes, the first of which counts most.
    pub(super) fn be64(&mut self) -> Result<u64, Fault> {
        Ok(u64::from_be_bytes(self.bytes()?))
    }

    /// Reads a number of four bytes, the first of which counts most.
    pub(super) fn be32(&mut self) -> Result<u32, Fault> {
        Ok(u32::from_be_bytes(self.bytes()?))
    }

    /// Reads a number of eight bytes, the first of which counts least.
    pub(super) fn le64(&mut self) -> Result<u64, Fault> {
        Ok(u64::from_le_bytes(self.bytes()?))
    }

    /// Reads a number of two bytes, the first of which counts least.
    pub(super) fn le16(&mut self) -> Result<u16, Fault> {
        Ok(u16::from_le_bytes(self.bytes()?))
    }

    /// Reads a byte.
    pub(super) fn byte(&mut self) -> Result<u8, Fault> {
        let [byte] = self.bytes()?;
        Ok(byte)
    }

    /// Reads a text after its length of one byte.
    pub(super) fn short_text(&mut self) -> Result<String, Fault> {
        let length = u64::from(self.byte()?);
        let at = self.offset;
        text(self.block(length, u8::MAX.into())?).map_err(|fault| fault.at(at))
    }

    /// Says whether the file goes on with these bytes, and moves behind them if it does.
    pub(super) fn goes_on_with(&mut self, bytes: &[u8]) -> Result<bool, Fault> {
        if self.has(bytes.len() as u64).is_err() {
            return Ok(false);
        }
        let mut found = vec![0; bytes.len()];
        self.file.read_at(self.offset, &mut found)?;
        if found != bytes {
            return Ok(false);
        }
        self.offset += bytes.len() as u64;
        Ok(true)
    }

    /// The number of bytes before this place.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), Fault> {
        let length = bytes.len() as u64;
        self.has(length)?;
        self.file.read_at(self.offset, bytes)?;
        self.offset += length;
        Ok(())
    }

    fn has(&self, need: u64) -> Result<(), Fault> {
        let left = self.file.len().saturating_sub(self.offset);
        if need > left {
            return Err(Fault::from(ErrorKind::Truncated { need, left }).at(self.offset));
        }
        Ok(())
    }
}

/// Returns a text of these bytes.
pub(super) fn text(bytes: Vec<u8>) -> Result<String, Fault> {
    String::from_utf8(bytes).map_err(|_| ErrorKind::Malformed("a name is no UTF-8").into())
}
