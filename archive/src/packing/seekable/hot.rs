//! The working set: pages that a restore wants first, once more and side by side.
//!
//! The pages lie behind an index, in the order in which they are wanted, in frames of 64 KiB. A
//! single read brings all of them.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use criu_images::source::Blob;
use prost::Message;
use sha2::{Digest, Sha256};
use zstd::bulk::Decompressor;

use super::contents::{self, damaged};
use super::cut::FRAME;
use super::frames::{Packer, unpack};
use super::skippable;
use super::wire::{self, HotIndex};
use crate::bounds;
use crate::error::{ErrorKind, Fault};
use crate::packing::{HotPages, spool};

/// The working set of an archive.
pub(in crate::packing) struct Hot {
    packed: Blob,
    wire: wire::Hot,
    loaded: OnceLock<Loaded>,
}

/// A working set in memory, packed.
struct Loaded {
    bytes: Vec<u8>,
    /// Ends of the frames in the bytes, behind that of the index.
    ends: Vec<usize>,
    /// Runs by place in the tar stream.
    runs: Vec<Run>,
    unpacked: u64,
    /// Frames that were read last, with their numbers.
    last: Mutex<VecDeque<(usize, Arc<[u8]>)>>,
}

/// Bytes of the tar stream that are in the working set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) start: u64,
    pub(super) len: u64,
    /// Offset in the unpacked working set.
    pub(super) at: u64,
}

impl Hot {
    /// Makes the working set of an archive. Its place has been checked against the other tables.
    ///
    /// # Errors
    /// [`ErrorKind::TooLarge`] above [`HOT`](crate::bounds::HOT).
    pub(super) fn new(packed: Blob, wire: wire::Hot) -> Result<Self, Fault> {
        let (size, limit) = (wire.unpacked, bounds::HOT.get());
        if size > limit {
            return Err(ErrorKind::TooLarge { size, limit }.into());
        }
        let is_whole = wire.packed.len() as u64 == wire.unpacked.div_ceil(FRAME as u64);
        let hot = Self { packed, wire, loaded: OnceLock::new() };
        let place = hot.place();
        let index = u64::from(hot.wire.index_unpacked);
        if !is_whole || index > contents::most(place.end.saturating_sub(place.start)) {
            return Err(damaged());
        }
        Ok(hot)
    }

    /// Range in the packed archive.
    pub(in crate::packing) fn place(&self) -> Range<u64> {
        let frames = self.wire.packed.iter().map(|len| u64::from(*len)).sum::<u64>();
        let len = frames.saturating_add(self.wire.index.into());
        self.wire.start..self.wire.start.saturating_add(len)
    }

    /// Bytes of all pages.
    pub(in crate::packing) fn unpacked(&self) -> u64 {
        self.wire.unpacked
    }

    /// Brings all pages by one read. From then on they are served from memory.
    ///
    /// # Errors
    /// `InvalidData` if the working set is damaged; the errors of reading.
    pub(in crate::packing) fn load(&self) -> io::Result<()> {
        if self.loaded.get().is_some() {
            return Ok(());
        }
        let place = self.place();
        let len = place.end.saturating_sub(place.start);
        let limit = bounds::HOT.get().saturating_mul(2);
        let len = usize::try_from(len).ok().filter(|_| len <= limit).ok_or_else(broken)?;
        let mut bytes = vec![0; len];
        self.packed.read_at(place.start, &mut bytes)?;
        let loaded = self.parse(bytes).ok_or_else(broken)?;
        // A thread that came at the same time has read the same.
        let _ = self.loaded.set(loaded);
        Ok(())
    }

    fn parse(&self, bytes: Vec<u8>) -> Option<Loaded> {
        if Sha256::digest(&bytes)[..] != self.wire.digest[..] {
            return None;
        }
        let mut end = usize::try_from(self.wire.index).ok()?;
        let mut index = vec![0; usize::try_from(self.wire.index_unpacked).ok()?];
        unpack(&mut Decompressor::new().ok()?, bytes.get(..end)?, &mut index).ok()?;
        let HotIndex { starts, lens } = HotIndex::decode(&*index).ok()?;
        let most = usize::try_from(self.wire.unpacked / UNIT.unsigned_abs()).ok()?;
        if starts.len() != lens.len() || starts.len() > most {
            return None;
        }
        let mut ends = vec![end];
        for len in &self.wire.packed {
            end = end.checked_add(usize::try_from(*len).ok()?)?;
            ends.push(end);
        }
        let mut runs = Vec::new();
        let (mut start, mut at) = (0u64, 0u64);
        for (distance, len) in starts.iter().zip(&lens) {
            start = start.checked_add_signed(distance.checked_mul(UNIT)?)?;
            let len = u64::from(*len) * UNIT.unsigned_abs();
            runs.push(Run { start, len, at });
            start = start.checked_add(len)?;
            at = at.checked_add(len)?;
        }
        runs.sort_unstable_by_key(|run| run.start);
        let overlaps = |pair: &[Run]| matches!(pair, [a, b] if a.start + a.len > b.start);
        if at != self.wire.unpacked || runs.windows(2).any(overlaps) {
            return None;
        }
        Some(Loaded { bytes, ends, runs, unpacked: at, last: Mutex::default() })
    }

    /// Returns the start and the end of each run in the tar stream, once it has been loaded.
    pub(super) fn runs(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let runs = self.loaded.get().map_or(&[][..], |loaded| &loaded.runs);
        runs.iter().map(|run| (run.start, run.start + run.len))
    }

    /// Reads from `offset` of the tar stream on, as far as the working set has the bytes and has
    /// been loaded. Returns the number of bytes, which may be 0.
    ///
    /// # Errors
    /// `InvalidData` if the working set is damaged.
    pub(super) fn read(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let Some(loaded) = self.loaded.get() else { return Ok(0) };
        let next = loaded.runs.partition_point(|run| run.start <= offset);
        let run = next.checked_sub(1).and_then(|last| loaded.runs.get(last));
        let Some(run) = run.filter(|run| offset < run.start + run.len) else { return Ok(0) };
        let at = run.at + (offset - run.start);
        let left = usize::try_from(run.start + run.len - offset).unwrap_or(usize::MAX);
        let number = usize::try_from(at / FRAME as u64).unwrap_or(usize::MAX);
        let within = usize::try_from(at % FRAME as u64).unwrap_or(usize::MAX);
        let frame = loaded.frame(number).ok_or_else(broken)?;
        let found = frame.get(within..).unwrap_or_default();
        let len = found.len().min(left).min(buf.len());
        buf.iter_mut().zip(found).take(len).for_each(|(to, from)| *to = *from);
        if len == 0 && !buf.is_empty() { Err(broken()) } else { Ok(len) }
    }
}

impl Loaded {
    /// Unpacks a frame.
    fn frame(&self, number: usize) -> Option<Arc<[u8]>> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, bytes)) = last.iter().find(|(kept, _)| *kept == number) {
            return Some(Arc::clone(bytes));
        }
        let packed = self.bytes.get(*self.ends.get(number)?..*self.ends.get(number + 1)?)?;
        let start = (number as u64).checked_mul(FRAME as u64)?;
        let len = self.unpacked.checked_sub(start)?.min(FRAME as u64);
        let mut bytes = vec![0; usize::try_from(len).ok()?];
        unpack(&mut Decompressor::new().ok()?, packed, &mut bytes).ok()?;
        let bytes: Arc<[u8]> = bytes.into();
        last.push_back((number, Arc::clone(&bytes)));
        if last.len() > KEPT {
            last.pop_front();
        }
        Some(bytes)
    }
}

/// Collects the pages of a working set while the tar stream passes by. The pages wait in an
/// unlinked temporary file.
pub(super) struct Collector {
    kept: File,
    /// Wanted pages of each member: offset in the content, size, offset in the file.
    wanted: HashMap<Vec<u8>, Vec<(u64, u64, u64)>>,
    /// Wanted pages of the present member, by offset in the content, and the first that is not
    /// complete.
    here: Vec<(u64, u64, u64)>,
    next: usize,
    /// Offset of the present content in the tar stream.
    start: u64,
    /// Pages that have come.
    found: Vec<Run>,
}

impl Collector {
    /// Makes a collector of pages in the order in which they are wanted. Pages above
    /// [`HOT`](crate::bounds::HOT) are left out, and so are pieces that are no whole blocks.
    ///
    /// # Errors
    /// Fails if the directory of temporary files takes no file.
    pub(super) fn new(pages: Vec<HotPages>) -> io::Result<Self> {
        let mut wanted: HashMap<_, Vec<_>> = HashMap::new();
        let mut at = 0u64;
        for HotPages { path, offset, len } in pages {
            let unit = UNIT.unsigned_abs();
            let is_even = offset % unit == 0 && len % unit == 0 && len / unit <= u32::MAX.into();
            let end = at.saturating_add(len);
            if !is_even || len == 0 || end > bounds::HOT.get() {
                continue;
            }
            wanted.entry(path).or_default().push((offset, len, at));
            at = end;
        }
        let kept = spool::temporary_file()?;
        let (here, found) = (Vec::new(), Vec::new());
        Ok(Self { kept, wanted, here, next: 0, start: 0, found })
    }

    /// Says that the content of a member begins at an offset of the tar stream.
    pub(super) fn content(&mut self, path: &[u8], start: u64) {
        let mut here = self.wanted.remove(path).unwrap_or_default();
        here.sort_unstable();
        // A page that is wanted twice is kept once.
        let mut end = 0;
        here.retain(|(offset, len, _)| {
            let is_new = *offset >= end;
            if is_new {
                end = offset.saturating_add(*len);
            }
            is_new
        });
        (self.here, self.next, self.start) = (here, 0, start);
    }

    /// Takes bytes of the present content.
    ///
    /// # Errors
    /// The error of writing the temporary file.
    pub(super) fn take(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let end = offset.saturating_add(bytes.len() as u64);
        while let Some((start, len, at)) = self.here.get(self.next).copied() {
            let last = start.saturating_add(len);
            let (from, to) = (start.max(offset), last.min(end));
            if from < to {
                let place = |at: u64| usize::try_from(at - offset).unwrap_or(usize::MAX);
                let part = bytes.get(place(from)..place(to)).unwrap_or_default();
                self.kept.write_all_at(part, at + (from - start))?;
            }
            if last > end {
                break;
            }
            self.found.push(Run { start: self.start.saturating_add(start), len, at });
            self.next += 1;
        }
        Ok(())
    }

    /// Writes the working set as a skippable frame, which starts at an offset of the file. Returns
    /// `None` if no page has come.
    ///
    /// # Errors
    /// The errors of writing, and of reading the temporary file.
    pub(super) fn write(
        mut self,
        level: i32,
        file_at: u64,
        out: &mut impl Write,
    ) -> io::Result<Option<(wire::Hot, u64)>> {
        if self.found.is_empty() {
            return Ok(None);
        }
        self.found.sort_unstable_by_key(|run| run.at);
        let mut index = HotIndex::default();
        let mut end = 0u64;
        let unit = UNIT.unsigned_abs();
        for run in &self.found {
            let distance = wire::signed((run.start / unit).wrapping_sub(end / unit));
            index.starts.push(distance);
            index.lens.push(u32::try_from(run.len / unit).map_err(io::Error::other)?);
            end = run.start + run.len;
        }
        let index = index.encode_to_vec();
        let mut packer = Packer::new(level)?;
        let mut done = Kept::new()?;
        let index_packed = done.add(&mut packer, &index)?;
        let mut packed = Vec::new();
        let mut frame = Vec::with_capacity(FRAME);
        for run in &self.found {
            let mut read = 0;
            while read < run.len {
                let room = FRAME - frame.len();
                let part = room.min(usize::try_from(run.len - read).unwrap_or(usize::MAX));
                let old = frame.len();
                frame.resize(old + part, 0);
                let to = frame.get_mut(old..).unwrap_or_default();
                self.kept.read_exact_at(to, run.at + read)?;
                read += part as u64;
                if frame.len() == FRAME {
                    packed.push(done.add(&mut packer, &frame)?);
                    frame.clear();
                }
            }
        }
        if !frame.is_empty() {
            packed.push(done.add(&mut packer, &frame)?);
        }
        let head = skippable(usize::try_from(done.len).unwrap_or(usize::MAX))?;
        out.write_all(&head)?;
        let len = done.len;
        let digest = done.write(out)?;
        let wire = wire::Hot {
            start: file_at.saturating_add(head.len() as u64),
            index: index_packed,
            index_unpacked: u32::try_from(index.len()).map_err(io::Error::other)?,
            packed,
            unpacked: self.found.iter().map(|run| run.len).sum(),
            digest,
        };
        Ok(Some((wire, head.len() as u64 + len)))
    }
}

/// Frames that wait in an unlinked temporary file, because their size stands before them.
struct Kept {
    file: File,
    len: u64,
    digest: Sha256,
    frame: Vec<u8>,
}

impl Kept {
    fn new() -> io::Result<Self> {
        let file = spool::temporary_file()?;
        Ok(Self { file, len: 0, digest: Sha256::new(), frame: Vec::new() })
    }

    /// Packs a frame, and returns its size.
    fn add(&mut self, packer: &mut Packer, bytes: &[u8]) -> io::Result<u32> {
        self.frame.clear();
        let len = packer.pack(bytes, &mut self.frame)?;
        self.file.write_all_at(&self.frame, self.len)?;
        self.digest.update(&self.frame);
        self.len += u64::from(len);
        Ok(len)
    }

    /// Writes all frames, and returns their digest.
    fn write(self, out: &mut impl Write) -> io::Result<Vec<u8>> {
        let mut piece = vec![0; PIECE];
        let mut at = 0;
        while at < self.len {
            let left = usize::try_from(self.len - at).unwrap_or(usize::MAX).min(PIECE);
            let piece = piece.get_mut(..left).unwrap_or_default();
            self.file.read_exact_at(piece, at)?;
            out.write_all(piece)?;
            at += left as u64;
        }
        Ok(self.digest.finalize().to_vec())
    }
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the working set in the archive is damaged")
}

/// Unit of places and sizes in the index.
const UNIT: i64 = 512;

/// Bytes that are copied at once.
const PIECE: usize = 256 << 10;

/// Unpacked frames that are kept.
const KEPT: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_working_set_above_its_bound_is_refused() {
        let open = |unpacked: u64, frames: u64, index_unpacked: u32| {
            let packed = vec![9; usize::try_from(frames).unwrap_or(0)];
            let wire = wire::Hot { unpacked, packed, index_unpacked, ..Default::default() };
            Hot::new(Blob::from(Vec::new()), wire)
        };
        let limit = bounds::HOT.get();
        assert!(open(limit, limit / FRAME as u64, 1 << 20).is_ok());
        let refused = format!("{:?}", open(limit + 1, 0, 0).err());
        assert!(refused.contains("TooLarge"), "{refused}");
        // Too few frames, and an index that would grow out of nothing.
        for refused in [open(limit, 3, 0), open(limit, limit / FRAME as u64, 1 << 30)] {
            let refused = format!("{:?}", refused.err());
            assert!(refused.contains("Malformed"), "{refused}");
        }
    }
}
