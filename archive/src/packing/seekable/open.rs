//! Opens a seekable archive: finds and checks its tables.

use std::ops::Range;

use criu_images::source::Blob;
use sha2::{Digest, Sha256};
use zstd::bulk::Decompressor;

use super::contents::{self, End};
use super::digests::Table;
use super::frames::{Frames, unpack};
use super::hot::Hot;
use super::reader::{Seekable, Shared};
use super::seek_table::{FOOTER, Footer};
use super::wire::Contents;
use super::{SKIPPABLE, skippable};
use crate::bounds;
use crate::error::{ErrorKind, Fault};
use crate::packing::{Layer, Packing, Toc};

/// Opens a seekable archive; `None` if the bytes have no seek table, or have frames that are too
/// large to be unpacked for one page. With `expected` the table of contents must have this SHA-256,
/// and each frame is compared with its digest.
///
/// # Errors
/// [`ErrorKind::Malformed`], [`ErrorKind::Value`] and [`ErrorKind::TooLarge`] for tables that are
/// damaged or lie.
pub(in crate::packing) fn open(
    packed: &Blob,
    expected: Option<[u8; 32]>,
) -> Result<Option<Layer>, Fault> {
    let tail = Tail::read(packed)?;
    let Some(footer) = Footer::find(&tail.bytes) else { return Ok(None) };
    let Some(start) = packed.len().checked_sub(footer.size()) else { return Ok(None) };
    if !footer.fits(&tail.get(start..start.saturating_add(8))?) {
        return Ok(None);
    }
    let end = tail.get(start.saturating_sub(contents::END as u64)..start)?;
    let of_contents = |fault: Fault| fault.of(CONTENTS);
    match End::find(&end, packed.len()).map_err(of_contents)? {
        Some(end) => ours(tail, end, footer, expected).map(Some).map_err(of_contents),
        None => foreign(tail, footer, start),
    }
}

/// Opens an archive with a table of contents, which stands before the seek table.
///
/// Readers that do not know the tables read all frames from the first on. They see the same members
/// only if the frames of the table of contents are all that is not skippable: this is checked.
fn ours(
    mut tail: Tail<'_>,
    end: End,
    footer: Footer,
    expected: Option<[u8; 32]>,
) -> Result<Layer, Fault> {
    // A frame takes 6 bytes in the table of contents, and 8 in the seek table.
    footer.check_size(bounds::TOC.get().saturating_mul(2))?;
    let table_end = tail.packed.len().saturating_sub(footer.size());
    let start = table_end.checked_sub(end.payload()).and_then(|start| start.checked_sub(8));
    let start = start.ok_or_else(contents::damaged)?;
    tail = tail.from(start)?;
    let bytes = tail.get(start..table_end)?;
    let digest: [u8; 32] = Sha256::digest(bytes.get(8..).unwrap_or_default()).into();
    if expected.is_some_and(|expected| expected != digest) {
        return Err(ErrorKind::Malformed("is not the one that the image names").into());
    }
    let contents = end.contents(&bytes)?;
    contents::check_count(&contents, tail.packed.len())?;
    let frames = contents::frames(&contents)?;
    let Contents { diff_id, members, digests, hot, .. } = contents;
    let diff_id = match &*diff_id {
        [] => None,
        diff_id => Some(diff_id.try_into().map_err(|_| contents::damaged())?),
    };
    if !is_small(&frames) {
        return Err(too_large(&frames));
    }
    let (members, members_end) = contents::members(members)?;
    contents::check_places(&frames, &members, &digests, hot.as_ref(), start)?;
    let seek_table = tail.get(table_end..tail.packed.len())?;
    let hot_place = hot.as_ref().map(|hot| hot.start..start);
    if let Some(place) = &hot_place {
        check_head(&tail.get(place.start.saturating_sub(8)..place.start)?, place)?;
    }
    // The last frame and the head behind it come at once.
    let last = frames.len().checked_sub(1).and_then(|last| frames.get(last));
    let last = last.map_or(0, |frame| frame.packed);
    let digests_place = digests.start..digests.start.saturating_add(digests.len);
    let packed = tail.packed.clone();
    let ahead = tail.before(digests_place.start, last)?;
    check_head(&ahead.1, &digests_place)?;
    let mut others = vec![digests_place];
    others.extend(hot_place);
    others.push(start.saturating_add(8)..table_end);
    if !footer.describes(&seek_table, &frames, &others) {
        return Err(ErrorKind::Malformed("has other frames than the seek table").into());
    }
    let zeros = frames.unpacked().checked_sub(members_end);
    let zeros = zeros.filter(|zeros| (LEAST_ZEROS..=MOST_ZEROS).contains(zeros));
    let zeros = zeros.ok_or(ErrorKind::Malformed("does not describe all bytes of the archive"))?;
    let hot = hot.map(|hot| Hot::new(packed.clone(), hot)).transpose()?;
    let has_digests = digests.has_members;
    let digests = Table::new(packed.clone(), digests);
    let is_checked = expected.is_some();
    let seekable = Shared::new(Seekable::new(packed, frames, digests, is_checked, hot));
    seekable.0.put_ahead(ahead.0, ahead.1);
    let mut rest = vec![0; usize::try_from(zeros).unwrap_or(0)];
    criu_images::source::ReadAt::read_at(&seekable, members_end, &mut rest)?;
    if rest.iter().any(|byte| *byte != 0) {
        return Err(ErrorKind::Malformed("does not list all members").into());
    }
    let place = start.saturating_add(8)..table_end;
    let bytes = Blob::new(seekable.clone());
    let toc = Toc { members, diff_id, has_digests, digest, place, reader: seekable };
    Ok(Layer::Anywhere { packing: Packing::Seekable, bytes, toc: Some(toc) })
}

/// Opens an archive that another program wrote.
fn foreign(tail: Tail<'_>, footer: Footer, table: u64) -> Result<Option<Layer>, Fault> {
    footer.check_size(bounds::TOC.get())?;
    let packed = tail.packed.clone();
    let entries = tail.get(table..packed.len().saturating_sub(FOOTER as u64))?;
    let frames = footer.frames(&entries, table)?;
    if !is_small(&frames) || !are_empty(&tail, &frames)? {
        return Ok(None);
    }
    let seekable = Shared::new(Seekable::without_tables(packed, frames));
    let bytes = Blob::new(seekable);
    Ok(Some(Layer::Anywhere { packing: Packing::Seekable, bytes, toc: None }))
}

/// Returns true if each frame is small enough to be unpacked for one page.
fn is_small(frames: &Frames) -> bool {
    let (packed, unpacked) = frames.largest();
    unpacked <= MOST_FRAME && packed <= 2 * MOST_FRAME
}

/// Returns true if the frames without content have none. A reader that passes over such frames
/// would not see their members, which other programs read.
fn are_empty(tail: &Tail<'_>, frames: &Frames) -> Result<bool, Fault> {
    for (count, frame) in frames.empty().enumerate() {
        if count >= MOST_EMPTY {
            return Ok(false);
        }
        let len = (frame.packed_len as u64).min(EMPTY_FRAME);
        let bytes = tail.get(frame.packed..frame.packed.saturating_add(len))?;
        let is_empty = match skippable_len(&bytes) {
            Some(len) => len == frame.packed_len as u64,
            // A frame of no bytes, which some writers put at the end.
            None => len == frame.packed_len as u64 && unpack_empty(&bytes)?,
        };
        if !is_empty {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Returns the size of the skippable frame that starts with these bytes.
fn skippable_len(bytes: &[u8]) -> Option<u64> {
    let (magic, rest) = bytes.split_first_chunk::<4>()?;
    let len = u32::from_le_bytes(*rest.first_chunk::<4>()?);
    let is_skippable = u32::from_le_bytes(*magic) & !0xf == SKIPPABLE & !0xf;
    is_skippable.then(|| u64::from(len) + 8)
}

/// Returns true if the bytes are one zstd frame without content.
fn unpack_empty(bytes: &[u8]) -> Result<bool, Fault> {
    Ok(unpack(&mut Decompressor::new()?, bytes, &mut []).is_ok())
}

/// Checks that bytes end with the head of the skippable frame with a table at this place.
fn check_head(bytes: &[u8], place: &Range<u64>) -> Result<(), Fault> {
    let len = usize::try_from(place.end.saturating_sub(place.start));
    let head = skippable(len.map_err(|_| contents::damaged())?)?;
    if bytes.ends_with(&head) { Ok(()) } else { Err(contents::damaged()) }
}

fn too_large(frames: &Frames) -> Fault {
    let (packed, unpacked) = frames.largest();
    ErrorKind::TooLarge { size: packed.max(unpacked).into(), limit: MOST_FRAME.into() }.into()
}

/// The last bytes of an archive, read at once.
struct Tail<'p> {
    packed: &'p Blob,
    start: u64,
    bytes: Vec<u8>,
}

impl<'p> Tail<'p> {
    fn read(packed: &'p Blob) -> Result<Self, Fault> {
        let len = packed.len().min(TAIL);
        Self { packed, start: packed.len(), bytes: Vec::new() }.from(packed.len() - len)
    }

    /// Reads what is missing from `start` on.
    fn from(mut self, start: u64) -> Result<Self, Fault> {
        if start < self.start {
            let missing = usize::try_from(self.start - start).map_err(|_| contents::damaged())?;
            let mut bytes = vec![0; missing];
            self.packed.read_at(start, &mut bytes)?;
            bytes.append(&mut self.bytes);
            (self.start, self.bytes) = (start, bytes);
        }
        Ok(self)
    }

    /// Returns the bytes that have been read and lie before `end`, with their place. They are read
    /// if those from `start` on are not there.
    fn before(mut self, end: u64, start: u64) -> Result<(u64, Vec<u8>), Fault> {
        if start < self.start {
            let bytes = self.get(start..end)?;
            return Ok((start, bytes));
        }
        let len = usize::try_from(end.saturating_sub(self.start)).unwrap_or(usize::MAX);
        self.bytes.truncate(len);
        self.bytes.shrink_to_fit();
        Ok((self.start, self.bytes))
    }

    /// Returns bytes of the archive, which are read if they lie before the tail.
    fn get(&self, range: Range<u64>) -> Result<Vec<u8>, Fault> {
        let len = range.end.saturating_sub(range.start);
        let len = usize::try_from(len).map_err(|_| contents::damaged())?;
        let here = range.start.checked_sub(self.start).and_then(|at| usize::try_from(at).ok());
        let found = here.and_then(|at| self.bytes.get(at..)).and_then(|rest| rest.get(..len));
        if let Some(found) = found {
            return Ok(found.to_vec());
        }
        let mut bytes = vec![0; len];
        self.packed.read_at(range.start, &mut bytes)?;
        Ok(bytes)
    }
}

/// Name of the table in errors.
const CONTENTS: &str = "table of contents";

/// Bytes at the end of an archive that are read first. The tables of a GiB of memory, and of a tree
/// of 2,000 processes, fit.
const TAIL: u64 = 256 << 10;

/// Largest frame that is unpacked for one page. A frame packed has at most twice as much: whoever
/// makes frames of many small blocks makes them larger.
const MOST_FRAME: u32 = 16 << 20;

/// Least zeros behind the last member: two blocks, at which each reader of tar ends.
const LEAST_ZEROS: u64 = 1 << 10;

/// Most zeros behind the last member: two blocks, filled up to tar's record of 10 KiB.
const MOST_ZEROS: u64 = 32 << 10;

/// Most frames without content in an archive of another program, each of which is looked at.
const MOST_EMPTY: usize = 64;

/// Most bytes of a zstd frame without content: magic, head of 14 bytes, one block and a checksum.
const EMPTY_FRAME: u64 = 4 + 14 + 3 + 4;
