//! The seek table of zstd's seekable format, which other programs write and read, too.
//!
//! | bytes | contents |
//! | ---: | --- |
//! | 4 | magic of a skippable frame: `0x184d2a5e` |
//! | 4 | bytes that follow |
//! | 8 or 12 for each frame | packed size, unpacked size, and a checksum if the flags say so |
//! | 4 | number of frames |
//! | 1 | flags: the highest bit says that there are checksums |
//! | 4 | magic: `0x8f92eab1` |
//!
//! Numbers are little-endian. A skippable frame has the unpacked size 0.

use std::io;
use std::ops::Range;

use super::frames::Frames;
use crate::error::{ErrorKind, Fault};

/// Size and form of a seek table, as the last bytes of a file say them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Footer {
    count: u64,
    entry: u64,
}

impl Footer {
    /// Reads the last bytes of a file; `None` if the file has no seek table.
    pub(super) fn find(end: &[u8]) -> Option<Self> {
        let (_, footer) = end.split_last_chunk::<{ FOOTER }>()?;
        let [a, b, c, d, flags, magic @ ..] = *footer;
        if u32::from_le_bytes(magic) != MAGIC || flags & RESERVED != 0 {
            return None;
        }
        let count = u32::from_le_bytes([a, b, c, d]).into();
        Some(Self { count, entry: if flags & CHECKSUMS != 0 { 12 } else { 8 } })
    }

    /// Bytes of the whole table with the head of its skippable frame.
    pub(super) fn size(self) -> u64 {
        self.count * self.entry + (8 + FOOTER) as u64
    }

    /// Refuses a table that is too large to be read.
    ///
    /// # Errors
    /// [`ErrorKind::TooLarge`] above `limit` bytes.
    pub(super) fn check_size(self, limit: u64) -> Result<(), Fault> {
        let size = self.size();
        if size > limit { Err(ErrorKind::TooLarge { size, limit }.into()) } else { Ok(()) }
    }

    /// Checks the head of the skippable frame.
    pub(super) fn fits(self, head: &[u8]) -> bool {
        let Some((magic, len)) = head.split_first_chunk::<4>() else { return false };
        let Some(len) = len.first_chunk::<4>() else { return false };
        u32::from_le_bytes(*magic) == SKIPPABLE
            && u64::from(u32::from_le_bytes(*len)) == self.size() - 8
    }

    /// Reads the entries from the bytes of the whole table.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`] if the frames do not fill the file up to `start`, the place of the
    /// table.
    pub(super) fn frames(self, table: &[u8], start: u64) -> Result<Frames, Fault> {
        let malformed = |text| Fault::from(ErrorKind::Malformed(text));
        let mut frames = Frames::default();
        self.entries(table).for_each(|(packed, unpacked)| frames.push(packed, unpacked));
        match frames.packed() {
            end if end == start => Ok(frames),
            _ => Err(malformed("the seek table does not describe the frames of the file")),
        }
    }

    /// Returns true if the whole table has exactly these frames, and skippable frames with the
    /// other payloads behind them.
    pub(super) fn describes(self, table: &[u8], frames: &Frames, others: &[Range<u64>]) -> bool {
        let size = |len: u64| u32::try_from(len).ok();
        let wanted = (0..frames.len()).filter_map(|number| frames.get(number));
        let wanted = wanted.map(|frame| (size(frame.packed_len as u64), size(frame.len as u64)));
        let others = others.iter().map(|place| (size(place.end - place.start + 8), Some(0)));
        let found = self.entries(table).map(|(packed, unpacked)| (Some(packed), Some(unpacked)));
        found.eq(wanted.chain(others))
    }

    /// Returns the packed and the unpacked sizes in the bytes of the whole table.
    fn entries(self, table: &[u8]) -> impl Iterator<Item = (u32, u32)> + '_ {
        let entries = table.get(8..).unwrap_or_default();
        let entry = usize::try_from(self.entry).unwrap_or(usize::MAX);
        let count = usize::try_from(self.count).unwrap_or(usize::MAX);
        entries.chunks_exact(entry).take(count).map(|bytes| {
            let number = |at: usize| {
                let bytes = bytes.get(at..).and_then(|rest| rest.first_chunk::<4>());
                bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes))
            };
            (number(0), number(4))
        })
    }
}

/// Returns the bytes of a seek table. Each entry has the packed and the unpacked size.
///
/// # Errors
/// Fails above 512 Mi entries, which the format does not have.
pub(super) fn encode(entries: impl ExactSizeIterator<Item = (u32, u32)>) -> io::Result<Vec<u8>> {
    let too_many = |_| io::Error::other("the archive has more frames than a seek table holds");
    let count = u32::try_from(entries.len()).map_err(too_many)?;
    let payload = entries.len().saturating_mul(8).saturating_add(FOOTER);
    let payload = u32::try_from(payload).map_err(too_many)?;
    let mut bytes = SKIPPABLE.to_le_bytes().to_vec();
    bytes.extend(payload.to_le_bytes());
    for (packed, unpacked) in entries {
        bytes.extend(packed.to_le_bytes());
        bytes.extend(unpacked.to_le_bytes());
    }
    bytes.extend(count.to_le_bytes());
    bytes.push(0);
    bytes.extend(MAGIC.to_le_bytes());
    Ok(bytes)
}

/// Bytes behind the entries.
pub(super) const FOOTER: usize = 9;

const SKIPPABLE: u32 = 0x184d_2a5e;
const MAGIC: u32 = 0x8f92_eab1;
const CHECKSUMS: u8 = 0x80;
/// Bits that the format keeps for later.
const RESERVED: u8 = 0x7c;
