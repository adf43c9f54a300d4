//! Digests of frames and of members, in a table of their own: they are as large as the rest of the
//! tables together, and only some readers want them.

use std::io;
use std::sync::{Mutex, PoisonError};

use criu_images::source::Blob;
use sha2::{Digest, Sha256};

use super::wire;

/// The first half of the SHA-256 of a packed frame.
pub(super) type FrameDigest = [u8; 16];

pub(super) fn frame_digest(packed: &[u8]) -> FrameDigest {
    let whole: [u8; 32] = Sha256::digest(packed).into();
    whole.first_chunk().copied().unwrap_or_default()
}

/// Returns the digests of the blocks of a table of digests.
pub(super) fn blocks(table: &[u8]) -> Vec<u8> {
    table.chunks(BLOCK).flat_map(Sha256::digest).collect()
}

/// The digests of an archive, read block by block and checked.
#[derive(Debug)]
pub(super) struct Table {
    packed: Blob,
    place: wire::Digests,
    /// The block that was read last, with its number.
    last: Mutex<(u64, Vec<u8>)>,
}

impl Table {
    /// Makes a table. `place` has been checked against the size of the archive.
    pub(super) fn new(packed: Blob, place: wire::Digests) -> Self {
        Self { packed, place, last: Mutex::new((u64::MAX, Vec::new())) }
    }

    /// Checks the bytes of a packed frame.
    ///
    /// # Errors
    /// `InvalidData` if the digest differs, or the table of digests is damaged.
    pub(super) fn check(&self, frame: usize, packed: &[u8]) -> io::Result<()> {
        let mut want = FrameDigest::default();
        self.read(frame as u64 * want.len() as u64, &mut want)?;
        if frame_digest(packed) == want {
            return Ok(());
        }
        let text = format!("frame {frame} of the archive is not the one that was written");
        Err(io::Error::new(io::ErrorKind::InvalidData, text))
    }

    /// Reads the digest of a member's content. `frames` is the number of all frames, `file` that of
    /// the files with content before.
    ///
    /// # Errors
    /// `InvalidData` if the table is damaged; the errors of reading.
    pub(super) fn member(&self, frames: usize, file: u64) -> io::Result<[u8; 32]> {
        let mut digest = [0; 32];
        self.read(frames as u64 * FRAME_DIGEST + file.saturating_mul(32), &mut digest)?;
        Ok(digest)
    }

    /// Reads bytes of the table. No digest is in two blocks.
    fn read(&self, at: u64, buf: &mut [u8]) -> io::Result<()> {
        let damaged =
            || io::Error::new(io::ErrorKind::InvalidData, "the digests in the archive are damaged");
        let number = at / BLOCK as u64;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.0 != number {
            let start = number * BLOCK as u64;
            let len = self.place.len.checked_sub(start).ok_or_else(damaged)?.min(BLOCK as u64);
            let mut block = vec![0; usize::try_from(len).unwrap_or(0)];
            self.packed.read_at(self.place.start.saturating_add(start), &mut block)?;
            let index = usize::try_from(number).ok();
            let want = index.and_then(|index| self.place.blocks.chunks_exact(32).nth(index));
            if want != Some(&Sha256::digest(&block)[..]) {
                return Err(damaged());
            }
            *last = (number, block);
        }
        let within = usize::try_from(at % BLOCK as u64).unwrap_or(0);
        let found = last.1.get(within..).and_then(|rest| rest.get(..buf.len()));
        buf.copy_from_slice(found.ok_or_else(damaged)?);
        Ok(())
    }
}

/// Bytes of the digest of a frame in the table.
pub(super) const FRAME_DIGEST: u64 = 16;

/// Bytes that are checked together. The ToC has a digest of each block.
const BLOCK: usize = 16 << 10;
