//! Places of frames, and the way from a frame to its bytes and back.

use std::io::{self, Cursor};

use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe::{CParameter, find_frame_compressed_size};

/// Places of all frames, packed and unpacked.
#[derive(Debug)]
pub(super) struct Frames {
    /// Start of each frame, and the end of the last one.
    ends: Vec<(u64, u64)>,
    /// Bytes of the largest frame with content, packed, and of the largest, unpacked.
    largest: (u32, u32),
}

/// A frame: its place in the packed archive, and that of its bytes in the tar stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) packed: u64,
    pub(super) packed_len: usize,
    pub(super) start: u64,
    pub(super) len: usize,
}

impl Default for Frames {
    fn default() -> Self {
        Self { ends: vec![(0, 0)], largest: (0, 0) }
    }
}

impl Frames {
    /// Adds a frame behind the others by its packed and its unpacked size.
    pub(super) fn push(&mut self, packed: u32, unpacked: u32) {
        let (a, b) = self.end();
        let end = (a.saturating_add(packed.into()), b.saturating_add(unpacked.into()));
        if unpacked > 0 {
            self.largest = (self.largest.0.max(packed), self.largest.1.max(unpacked));
        }
        self.ends.push(end);
    }

    /// Bytes of all frames, packed.
    pub(super) fn packed(&self) -> u64 {
        self.end().0
    }

    /// Bytes of all frames, unpacked.
    pub(super) fn unpacked(&self) -> u64 {
        self.end().1
    }

    /// Bytes of the largest frame with content, packed, and of the largest, unpacked.
    pub(super) fn largest(&self) -> (u32, u32) {
        self.largest
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len() - 1
    }

    /// Returns a frame by its number.
    pub(super) fn get(&self, number: usize) -> Option<Frame> {
        let (packed, start) = *self.ends.get(number)?;
        let (packed_end, end) = *self.ends.get(number.checked_add(1)?)?;
        // Sizes have 32 bits.
        let packed_len = usize::try_from(packed_end - packed).ok()?;
        let len = usize::try_from(end - start).ok()?;
        Some(Frame { packed, packed_len, start, len })
    }

    /// Returns the frames without content.
    pub(super) fn empty(&self) -> impl Iterator<Item = Frame> + '_ {
        (0..self.len()).filter_map(|number| self.get(number)).filter(|frame| frame.len == 0)
    }

    /// Returns the number of the frame that has the byte at an offset of the tar stream.
    pub(super) fn find(&self, offset: u64) -> usize {
        // Behind all frames that end at the offset or before.
        self.ends.partition_point(|(_, end)| *end <= offset).saturating_sub(1)
    }

    fn end(&self) -> (u64, u64) {
        self.ends.last().copied().unwrap_or_default()
    }
}

/// A maker of frames.
pub(super) struct Packer(Compressor<'static>);

impl Packer {
    /// Makes a maker of frames of a level.
    ///
    /// # Errors
    /// Fails if there is no memory.
    pub(super) fn new(level: i32) -> io::Result<Self> {
        let mut compressor = Compressor::new(level)?;
        compressor.set_parameter(CParameter::ChecksumFlag(true))?;
        if level == 1 {
            // As zstd has it for larger inputs. Its 6 for small ones takes longer, and makes
            // frames of memory no smaller.
            compressor.set_parameter(CParameter::MinMatch(7))?;
        }
        Ok(Self(compressor))
    }

    /// Appends a frame with the given bytes, and returns its size.
    ///
    /// # Errors
    /// Fails if there is no memory.
    pub(super) fn pack(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> io::Result<u32> {
        // Room behind what is there, which zstd fills without a zero before.
        out.reserve(zstd::zstd_safe::compress_bound(bytes.len()));
        let start = out.len() as u64;
        let mut end = Cursor::new(out);
        end.set_position(start);
        let len = self.0.compress_to_buffer(bytes, &mut end)?;
        u32::try_from(len).map_err(io::Error::other)
    }
}

/// Unpacks exactly one frame, which fills `out`, and compares its checksum.
pub(super) fn unpack(
    decoder: &mut Decompressor<'static>,
    packed: &[u8],
    out: &mut [u8],
) -> Result<(), &'static str> {
    // Several frames would also be unpacked.
    if find_frame_compressed_size(packed).ok() != Some(packed.len()) {
        return Err("is not one zstd frame");
    }
    match decoder.decompress_to_buffer(packed, out) {
        Ok(len) if len == out.len() => Ok(()),
        Ok(_) => Err("has fewer bytes than the table says"),
        Err(_) => Err("is damaged, or has more bytes than the table says"),
    }
}
