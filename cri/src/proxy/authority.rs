//! The header `:authority` of clients that put a path there.
//!
//! gRPC's C library, which Python, Ruby, PHP and C++ use, names a unix socket by its path in
//! percent encoding: `%2Frun%2Fcri.sock`. The HTTP/2 library here refuses a call with such a name.
//! So characters that no host name has become `-` on their way in. The length stays, and with it
//! the tables that both sides of HPACK (RFC 7541) keep. Nothing else of a connection is changed.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connection of a client, whose `:authority` headers are host names.
#[derive(Debug)]
pub(super) struct Named<S> {
    stream: S,
    frames: Frames,
}

impl<S> Named<S> {
    /// Wraps a connection that is at its beginning.
    pub(super) fn new(stream: S) -> Self {
        Self { stream, frames: Frames::default() }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Named<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        if let Some(new) = buf.filled_mut().get_mut(before..) {
            self.frames.clean(new);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Named<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// The frames of a connection, byte by byte.
#[derive(Debug)]
struct Frames {
    /// Bytes to skip, before the next frame or the next part of it.
    skip: u32,
    head: [u8; HEAD],
    head_has: usize,
    /// Bytes of the fragment of a header block.
    fragment: u32,
    /// Bytes behind the fragment.
    padding: u32,
    is_padding_next: bool,
    block: Block,
}

impl Default for Frames {
    fn default() -> Self {
        Self {
            skip: PREFACE,
            head: [0; HEAD],
            head_has: 0,
            fragment: 0,
            padding: 0,
            is_padding_next: false,
            block: Block::default(),
        }
    }
}

impl Frames {
    /// Cleans the next bytes of the connection.
    fn clean(&mut self, mut bytes: &mut [u8]) {
        while !bytes.is_empty() {
            let most = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            if self.skip > 0 {
                let count = most.min(self.skip);
                self.skip -= count;
                bytes = rest(bytes, count);
            } else if self.is_padding_next {
                self.is_padding_next = false;
                let padding = bytes.first().map_or(0, |byte| u32::from(*byte));
                let left = self.fragment.saturating_sub(1);
                let [.., flags, _, _, _, _] = self.head;
                let priority = if flags & PRIORITY == 0 { 0 } else { PRIORITY_BYTES.min(left) };
                self.padding = padding.min(left - priority);
                self.fragment = left - priority - self.padding;
                self.skip = priority;
                bytes = rest(bytes, 1);
            } else if self.fragment > 0 {
                let count = most.min(self.fragment);
                self.fragment -= count;
                let len = usize::try_from(count).unwrap_or(usize::MAX);
                bytes.iter_mut().take(len).for_each(|byte| self.block.clean(byte));
                bytes = rest(bytes, count);
            } else if self.padding > 0 {
                self.skip = std::mem::take(&mut self.padding);
            } else {
                if let (Some(place), Some(byte)) = (self.head.get_mut(self.head_has), bytes.first())
                {
                    *place = *byte;
                }
                self.head_has += 1;
                bytes = rest(bytes, 1);
                if self.head_has == HEAD {
                    self.head_has = 0;
                    self.begin_frame();
                }
            }
        }
    }

    fn begin_frame(&mut self) {
        let [a, b, c, kind, flags, ..] = self.head;
        let length = u32::from_be_bytes([0, a, b, c]);
        match kind {
            HEADERS => {
                self.block = Block::default();
                self.fragment = length;
                if flags & PADDED != 0 {
                    self.is_padding_next = length > 0;
                } else if flags & PRIORITY != 0 {
                    self.skip = PRIORITY_BYTES.min(length);
                    self.fragment = length.saturating_sub(PRIORITY_BYTES);
                }
            }
            CONTINUATION => self.fragment = length,
            _ => self.skip = length,
        }
    }
}

fn rest(bytes: &mut [u8], count: u32) -> &mut [u8] {
    bytes.get_mut(usize::try_from(count).unwrap_or(usize::MAX)..).unwrap_or_default()
}

/// The fields of a header block, byte by byte.
#[derive(Debug, Default)]
struct Block {
    part: Part,
    /// The integer that is being read, and the place of its next bits.
    number: u64,
    shift: u32,
    /// Bytes of the name that fit `:authority` so far. `None` if the name is another.
    name: Option<usize>,
}

/// A part of a field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Part {
    /// The first byte.
    #[default]
    First,
    /// More bytes of an index or a size that no string follows.
    Number,
    /// More bytes of the index of a name.
    NameIndex,
    /// The first byte of a name's length.
    NameLength,
    /// More bytes of a name's length.
    NameLengthMore,
    /// Bytes of a name that are left.
    Name(u64),
    /// The first byte of a value's length.
    ValueLength,
    /// More bytes of a value's length; set if it has Huffman's code.
    ValueLengthMore(bool),
    /// Bytes of a value that are left; set if they are cleaned.
    Value(u64, bool),
    /// A block that makes no sense. The HTTP/2 library ends the connection.
    Broken,
}

impl Block {
    /// Takes the next byte, and changes it where it stands in a host name and cannot.
    fn clean(&mut self, byte: &mut u8) {
        self.part = match self.part {
            Part::First => self.first(*byte),
            Part::Number => self.more(*byte, |_| Part::First, Part::Number),
            Part::NameIndex => self.more(*byte, |_| Part::ValueLength, Part::NameIndex),
            Part::NameLength => self.length(*byte, true),
            Part::NameLengthMore => self.more(*byte, name, Part::NameLengthMore),
            Part::Name(left) => {
                let fits = self.name.filter(|at| AUTHORITY.get(*at) == Some(byte));
                self.name = fits.map(|at| at + 1);
                name(left - 1)
            }
            Part::ValueLength => self.length(*byte, false),
            Part::ValueLengthMore(coded) => {
                let cleaned = self.is_authority() && !coded;
                self.more(*byte, |length| value(length, cleaned), Part::ValueLengthMore(coded))
            }
            Part::Value(left, cleaned) => {
                if cleaned && !is_of_host(*byte) {
                    *byte = b'-';
                }
                value(left - 1, cleaned)
            }
            Part::Broken => Part::Broken,
        };
    }

    /// The first byte of a field says which kind it is.
    fn first(&mut self, byte: u8) -> Part {
        let (bits, has_value) = match byte {
            0x80.. => (7, false),
            0x40..0x80 => (6, true),
            0x20..0x40 => (5, false),
            _ => (4, true),
        };
        self.name = None;
        match (self.begin(byte, bits), has_value) {
            (None, true) => Part::NameIndex,
            (None, false) => Part::Number,
            (Some(_), false) => Part::First,
            (Some(0), true) => {
                self.name = Some(0);
                Part::NameLength
            }
            (Some(index), true) => {
                self.name = (index == AUTHORITY_INDEX).then_some(AUTHORITY.len());
                Part::ValueLength
            }
        }
    }

    fn length(&mut self, byte: u8, is_name: bool) -> Part {
        let coded = byte & 0x80 != 0;
        if is_name && coded {
            self.name = None;
        }
        match (self.begin(byte, 7), is_name) {
            (None, true) => Part::NameLengthMore,
            (None, false) => Part::ValueLengthMore(coded),
            (Some(length), true) => name(length),
            (Some(length), false) => value(length, self.is_authority() && !coded),
        }
    }

    fn is_authority(&self) -> bool {
        self.name == Some(AUTHORITY.len())
    }

    /// Begins an integer with a prefix of some bits. Returns it if it has ended.
    fn begin(&mut self, byte: u8, bits: u32) -> Option<u64> {
        let most = (1 << bits) - 1;
        self.number = u64::from(byte) & most;
        self.shift = 0;
        (self.number < most).then_some(self.number)
    }

    /// Goes on with an integer.
    fn more(&mut self, byte: u8, end: impl Fn(u64) -> Part, more: Part) -> Part {
        if self.shift > MOST_SHIFT {
            return Part::Broken;
        }
        self.number += u64::from(byte & 0x7f) << self.shift;
        self.shift += 7;
        if byte & 0x80 == 0 { end(self.number) } else { more }
    }
}

fn name(left: u64) -> Part {
    if left == 0 { Part::ValueLength } else { Part::Name(left) }
}

fn value(left: u64, cleaned: bool) -> Part {
    if left == 0 { Part::First } else { Part::Value(left, cleaned) }
}

/// Returns true for a character that a host name, a port or a user may have.
fn is_of_host(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~:[]@!$&'()*+,;=".contains(&byte)
}

const AUTHORITY: &[u8] = b":authority";

/// The index of `:authority` in HPACK's table.
const AUTHORITY_INDEX: u64 = 1;

/// Bytes before the first frame.
const PREFACE: u32 = 24;

/// Bytes before the payload of a frame.
const HEAD: usize = 9;

/// Bits after which an integer is no length any more.
const MOST_SHIFT: u32 = 28;

// Types of frames, flags of HEADERS, and the bytes of a priority.
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const PADDED: u8 = 8;
const PRIORITY: u8 = 0x20;
const PRIORITY_BYTES: u32 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
    }

    fn literal(name: &[u8], value: &[u8]) -> Vec<u8> {
        let byte = |length: usize| u8::try_from(length).unwrap();
        [&[0x40, byte(name.len())], name, &[byte(value.len())], value].concat()
    }

    /// Cleans a connection that comes in pieces of each length from 1.
    fn cleaned(frames: &[u8]) -> Vec<u8> {
        let sent = [&[b'P'; 24], frames].concat();
        let clean = |pieces: usize| {
            let (mut bytes, mut state) = (sent.clone(), Frames::default());
            bytes.chunks_mut(pieces).for_each(|piece| state.clean(piece));
            bytes.split_off(24)
        };
        let one = clean(1);
        for pieces in [2, 3, 7, 64, 4096] {
            assert_eq!(clean(pieces), one, "in pieces of {pieces}");
        }
        one
    }

    #[test]
    fn a_path_becomes_a_host_name_of_its_length() {
        let block = |authority: &[u8]| {
            let path = literal(b":path", b"/a/%2F");
            let indexed = [&[0x41, u8::try_from(authority.len()).unwrap()], authority].concat();
            let named = literal(b":authority", authority);
            // An index, a size, a name that is longer, and a value whose length has two bytes.
            let other = literal(b":authority-of", b"%2F");
            let long = [&[0x00, 1, b'x', 0x7f, 3], &[b'%'; 130][..]].concat();
            [&[0x83, 0x3f, 0xe1, 0x1f][..], &path, &indexed, &other, &long, &named].concat()
        };
        let (sent, wanted) = (block(b"%2Frun%2Fa.sock"), block(b"-2Frun-2Fa.sock"));
        let priority = [0, 0, 0, 0, 16];
        let padded = |block: &[u8]| [&[3][..], &priority, block, &[b'%'; 3]].concat();
        let frames = |block: &[u8]| {
            let (start, end) = block.split_at(40);
            [
                frame(4, 0, b"%settings"),
                frame(HEADERS, 4, block),
                frame(0, 0, b"\x40\x0a:authority\x01%"),
                frame(HEADERS, PADDED | PRIORITY, &padded(start)),
                frame(CONTINUATION, 4, end),
                frame(HEADERS, PRIORITY | 4, &[&priority, block].concat()),
            ]
            .concat()
        };
        assert_eq!(cleaned(&frames(&sent)), frames(&wanted));
    }

    #[test]
    fn values_in_huffman_s_code_and_broken_blocks_stay() {
        let coded = [0x41, 0x82, b'%', b'/', 0x82];
        let endless = [&[0x7f][..], &[0xff; 12], b"\x41\x01%"].concat();
        let short = frame(HEADERS, PADDED, &[200, 0x41, 1, b'%']);
        let empty = frame(HEADERS, PADDED | PRIORITY, b"");
        let frames = [frame(HEADERS, 4, &coded), frame(HEADERS, 4, &endless), short, empty];
        let sent = [&frames.concat()[..], &frame(HEADERS, 4, b"\x41\x01%")].concat();
        let mut wanted = sent.clone();
        *wanted.last_mut().unwrap() = b'-';
        assert_eq!(cleaned(&sent), wanted);
    }
}
