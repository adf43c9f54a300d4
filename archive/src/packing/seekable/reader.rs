//! Reads the tar stream of a seekable archive at any place.

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use criu_images::source::{Blob, ReadAt};
use zstd::bulk::Decompressor;

use super::cut::FRAME;
use super::digests::Table;
use super::frames::{Frame, Frames, unpack};
use super::hot::Hot;

/// The frames of an archive. Unpacked frames are kept, up to a bound. Several threads may read: of
/// those that want one frame, one unpacks it.
pub(super) struct Seekable {
    packed: Blob,
    frames: Frames,
    digests: Option<Table>,
    /// Set if each frame is compared with its digest.
    is_checked: AtomicBool,
    hot: Option<Hot>,
    cache: Mutex<Cache>,
    ahead: Mutex<Ahead>,
    /// Decoders that are not in use.
    decoders: Mutex<Vec<Decompressor<'static>>>,
}

/// Frames that are kept, the one that was wanted last at the end.
#[derive(Default)]
struct Cache {
    /// Number of each frame, bytes that it counts for, and its bytes.
    slots: Vec<(usize, usize, Arc<Slot>)>,
    bytes: usize,
}

/// An unpacked frame; `None` until a thread has unpacked it.
#[derive(Default)]
struct Slot(Mutex<Option<Arc<[u8]>>>);

/// Packed bytes that have been read before somebody asked for them.
#[derive(Default)]
struct Ahead {
    start: u64,
    bytes: Vec<u8>,
    /// End of the bytes that were wanted last.
    end: u64,
    /// Bytes to read at once; 0 if frames are wanted out of order.
    len: usize,
}

impl Seekable {
    pub(super) fn new(
        packed: Blob,
        frames: Frames,
        digests: Table,
        is_checked: bool,
        hot: Option<Hot>,
    ) -> Self {
        let digests = Some(digests);
        let is_checked = is_checked.into();
        Self { digests, is_checked, hot, ..Self::without_tables(packed, frames) }
    }

    pub(super) fn without_tables(packed: Blob, frames: Frames) -> Self {
        Self {
            packed,
            frames,
            digests: None,
            is_checked: AtomicBool::new(false),
            hot: None,
            cache: Mutex::default(),
            ahead: Mutex::default(),
            decoders: Mutex::default(),
        }
    }

    /// Keeps packed bytes that have been read already.
    pub(super) fn put_ahead(&self, start: u64, bytes: Vec<u8>) {
        let mut ahead = lock(&self.ahead);
        (ahead.start, ahead.bytes) = (start, bytes);
    }

    fn read(&self, mut offset: u64, mut buf: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(buf.len() as u64);
        if end.is_none_or(|end| end > self.frames.unpacked()) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        while !buf.is_empty() {
            let hot = self.hot.as_ref().map_or(Ok(0), |hot| hot.read(offset, buf));
            let len = match hot? {
                0 => self.read_frames(offset, buf)?,
                len => len,
            };
            offset += len as u64;
            buf = buf.get_mut(len..).unwrap_or_default();
        }
        Ok(())
    }

    /// Reads from the frame at `offset`, and from those behind it that are wanted as a whole.
    /// Returns the number of bytes.
    fn read_frames(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let first = self.frames.find(offset);
        let run = self.whole(first, offset, buf.len());
        if run.len() > 1 {
            return self.read_run(run, buf);
        }
        let bytes = self.frame(first)?;
        let start = self.frames.get(first).map_or(0, |frame| frame.start);
        let at = usize::try_from(offset - start).unwrap_or(usize::MAX);
        let found = bytes.get(at..).unwrap_or_default();
        let len = found.len().min(buf.len());
        buf.iter_mut().zip(found).for_each(|(to, from)| *to = *from);
        if len == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(len) }
    }

    /// Returns the frames that lie wholly in `len` bytes from `offset` on, and that are worth one
    /// read. Frames that are kept end the run.
    fn whole(&self, first: usize, offset: u64, len: usize) -> Range<usize> {
        let end = offset.saturating_add(len as u64);
        let cache = lock(&self.cache);
        let kept = cache.slots.iter().map(|(kept, ..)| *kept).filter(|kept| *kept >= first);
        let kept = kept.min();
        let mut packed = 0usize;
        let mut last = first;
        while let Some(frame) = self.frames.get(last) {
            packed = packed.saturating_add(frame.packed_len);
            let is_inside = frame.start >= offset && frame.start + frame.len as u64 <= end;
            if !is_inside || kept == Some(last) || packed > MOST_READ {
                break;
            }
            last += 1;
        }
        first..last
    }

    /// Unpacks frames straight into a buffer.
    fn read_run(&self, run: Range<usize>, buf: &mut [u8]) -> io::Result<usize> {
        let frames = run.clone().filter_map(|number| self.frames.get(number));
        let len = frames.map(|frame| frame.packed_len).sum();
        let start = self.frames.get(run.start).map_or(0, |frame| frame.packed);
        let packed = self.fetch(start, len)?;
        let (mut packed, mut rest, mut filled) = (packed.as_slice(), buf, 0);
        for number in run {
            let Some(frame) = self.frames.get(number) else { break };
            let Some((bytes, behind)) = packed.split_at_checked(frame.packed_len) else { break };
            let Some((to, more)) = std::mem::take(&mut rest).split_at_mut_checked(frame.len) else {
                break;
            };
            self.unpack(number, frame, bytes, to)?;
            filled += frame.len;
            (packed, rest) = (behind, more);
        }
        Ok(filled)
    }

    /// Returns the bytes of a frame, which is kept from then on.
    fn frame(&self, number: usize) -> io::Result<Arc<[u8]>> {
        let frame = self.frames.get(number).ok_or(io::ErrorKind::UnexpectedEof)?;
        let slot = lock(&self.cache).slot(number, frame.len);
        let mut kept = lock(&slot.0);
        if let Some(bytes) = &*kept {
            return Ok(Arc::clone(bytes));
        }
        let packed = self.fetch(frame.packed, frame.packed_len)?;
        let mut bytes = vec![0; frame.len];
        self.unpack(number, frame, &packed, &mut bytes)?;
        Ok(Arc::clone(kept.insert(bytes.into())))
    }

    fn unpack(&self, number: usize, frame: Frame, packed: &[u8], out: &mut [u8]) -> io::Result<()> {
        if self.is_checked.load(Ordering::SeqCst) {
            self.digests.as_ref().map_or(Ok(()), |table| table.check(number, packed))?;
        }
        let spare = lock(&self.decoders).pop();
        let mut decoder = spare.map_or_else(Decompressor::new, Ok)?;
        let result = unpack(&mut decoder, packed, out);
        let mut spares = lock(&self.decoders);
        if spares.len() < MOST_SPARES {
            spares.push(decoder);
        }
        result.map_err(|reason| {
            let end = frame.start + frame.len as u64;
            let text = format!("frame {number} (bytes {}..{end}) {reason}", frame.start);
            io::Error::new(io::ErrorKind::InvalidData, text)
        })
    }

    /// Reads packed bytes. Bytes that follow each other are read ahead, the more the longer this
    /// goes on.
    fn fetch(&self, start: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut ahead = lock(&self.ahead);
        let end = start.saturating_add(len as u64);
        let is_next = ahead.end == start;
        ahead.end = end;
        let at = start.checked_sub(ahead.start).and_then(|at| usize::try_from(at).ok());
        let found = at.and_then(|at| ahead.bytes.get(at..)).and_then(|rest| rest.get(..len));
        if let Some(found) = found {
            return Ok(found.to_vec());
        }
        if !is_next {
            ahead.len = 0;
            drop(ahead);
            let mut bytes = vec![0; len];
            self.packed.read_at(start, &mut bytes)?;
            return Ok(bytes);
        }
        ahead.len = ahead.len.saturating_mul(2).clamp(LEAST_AHEAD, MOST_READ);
        let left = self.frames.packed().saturating_sub(start);
        let more = ahead.len.max(len).min(usize::try_from(left).unwrap_or(usize::MAX));
        drop(ahead);
        let mut bytes = vec![0; more];
        self.packed.read_at(start, &mut bytes)?;
        let wanted = bytes.get(..len).unwrap_or_default().to_vec();
        self.put_ahead(start, bytes);
        Ok(wanted)
    }
}

impl Cache {
    /// Returns the slot of a frame, which may be a new one. Old ones go.
    fn slot(&mut self, number: usize, len: usize) -> Arc<Slot> {
        let found = self.slots.iter().position(|(kept, ..)| *kept == number);
        let row = found.map(|at| self.slots.remove(at));
        let row = row.unwrap_or_else(|| {
            let len = len.max(LEAST_KEPT);
            self.bytes = self.bytes.saturating_add(len);
            while self.bytes > KEPT && !self.slots.is_empty() {
                let (_, old, _) = self.slots.remove(0);
                self.bytes = self.bytes.saturating_sub(old);
            }
            (number, len, Arc::default())
        });
        let slot = Arc::clone(&row.2);
        self.slots.push(row);
        slot
    }
}

/// The frames of an archive as bytes of its tar stream. Cheap to clone.
#[derive(Clone)]
pub(in crate::packing) struct Shared(pub(super) Arc<Seekable>);

impl Shared {
    pub(super) fn new(seekable: Seekable) -> Self {
        Self(Arc::new(seekable))
    }

    /// The working set, if one was recorded.
    pub(in crate::packing) fn hot(&self) -> Option<&Hot> {
        self.0.hot.as_ref()
    }

    /// Compares each frame that is read from now on with its digest.
    pub(in crate::packing) fn check_frames(&self) {
        self.0.is_checked.store(true, Ordering::SeqCst);
        // Frames that were unpacked without a comparison are unpacked again.
        *lock(&self.0.cache) = Cache::default();
    }

    /// Compares the working set with the frames that have the same pages. Returns false if they
    /// differ.
    ///
    /// # Errors
    /// `InvalidData` if either is damaged; the errors of reading.
    pub(in crate::packing) fn compare_hot(&self) -> io::Result<bool> {
        let Some(hot) = self.hot() else { return Ok(true) };
        hot.load()?;
        let (mut kept, mut page) = (vec![0; FRAME], vec![0; FRAME]);
        for (mut offset, end) in hot.runs() {
            while offset < end {
                let left = usize::try_from(end - offset).unwrap_or(usize::MAX).min(FRAME);
                let len = hot.read(offset, kept.get_mut(..left).unwrap_or_default())?;
                let len = self.0.read_frames(offset, page.get_mut(..len).unwrap_or_default())?;
                if kept.get(..len) != page.get(..len) {
                    return Ok(false);
                }
                offset += len as u64;
            }
        }
        Ok(true)
    }

    /// Returns the digest of a file's content. `row` is the number of files with content before.
    pub(in crate::packing) fn digest(&self, row: u64) -> io::Result<[u8; 32]> {
        let table = self.0.digests.as_ref().ok_or(io::ErrorKind::NotFound)?;
        table.member(self.0.frames.len(), row)
    }
}

impl ReadAt for Shared {
    fn size(&self) -> u64 {
        self.0.frames.unpacked()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, buf)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let frames = self.0.frames.len();
        f.debug_struct("Seekable").field("frames", &frames).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bytes of unpacked frames that are kept. One frame is kept even if it has more.
const KEPT: usize = 8 << 20;

/// Least bytes that a frame counts for: at most 512 frames are kept, and a search among them is
/// short.
const LEAST_KEPT: usize = KEPT / 512;

/// Most packed bytes that are read at once.
const MOST_READ: usize = 1 << 20;

/// Least packed bytes that are read where frames are wanted in order.
const LEAST_AHEAD: usize = 64 << 10;

/// Most decoders that are kept for later.
const MOST_SPARES: usize = 8;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::packing::tests::made::{files, seekable};
    use crate::packing::{Layer, layer};

    #[test]
    fn opening_keeps_no_bytes_of_the_tables() {
        let packed = Blob::from(seekable(&files()));
        let Layer::Anywhere { toc: Some(toc), .. } = layer(&packed).unwrap() else { panic!() };
        let ahead = lock(&toc.reader.0.ahead);
        let end = ahead.start + ahead.bytes.len() as u64;
        let frames = toc.reader.0.frames.packed();
        assert!(!ahead.bytes.is_empty() && end <= frames + 8, "{end} {frames}");
        assert!(ahead.bytes.capacity() as u64 <= frames + 8);
    }

    #[test]
    fn few_frames_are_kept_even_if_they_are_tiny() {
        let mut cache = Cache::default();
        (0..10_000).for_each(|number| drop(cache.slot(number, 1)));
        assert_eq!(cache.slots.len(), 512);
        // The frame that was wanted last is kept, the oldest is not.
        let last = cache.slot(9999, 1);
        assert!(Arc::ptr_eq(&last, &cache.slot(9999, 1)));
        drop(cache.slot(0, 1));
        assert!(cache.slots.len() == 512 && cache.bytes == KEPT);
        // A large frame takes the room of many.
        drop(cache.slot(10_001, KEPT));
        assert_eq!(cache.slots.len(), 1);
    }
}
