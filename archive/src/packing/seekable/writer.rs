//! Writes a seekable archive.

use std::io::{self, Write};
use std::mem;

use criu_images::kind::{Entries, Kind};
use sha2::{Digest, Sha256};

use super::contents::{self, Done};
use super::cut::{self, FRAME, Place};
use super::digests::{self, FrameDigest};
use super::hot::Collector;
use super::pool::{Packed, Piece, Pool};
use super::wire::{Contents, Digests};
use super::{seek_table, skippable};
use crate::packing::sink::{Entry, HotPages, Written};

/// A writer of a seekable archive. Memory holds at most 6 MiB for each thread, some 100 bytes for
/// each member and 40 for each frame. A working set waits in temporary files.
pub(in crate::packing) struct Writer<W> {
    out: W,
    level: i32,
    pool: Pool,
    piece: Piece,
    /// Bytes of the piece that are cut into frames.
    cut: usize,
    /// Bytes of the tar stream.
    at: u64,
    /// Bytes of the file.
    file_at: u64,
    place: Place,
    /// Packed size, unpacked size, and digest of each frame.
    frames: Vec<(u32, u32, FrameDigest)>,
    members: Vec<Done>,
    /// Set if the digests of members and of the tar stream are wanted.
    has_digests: bool,
    /// Digest of the present content, if it is wanted.
    digest: Option<Sha256>,
    /// Memory of pieces and frames that have been written.
    spare: Vec<Vec<u8>>,
    hot: Option<Collector>,
}

impl<W: Write> Writer<W> {
    pub(in crate::packing) fn new(
        out: W,
        level: i32,
        threads: usize,
        has_digests: bool,
    ) -> io::Result<Self> {
        Ok(Self {
            out,
            level,
            pool: Pool::new(level, threads, has_digests)?,
            piece: Piece::default(),
            cut: 0,
            at: 0,
            file_at: 0,
            place: Place::Any,
            frames: Vec::new(),
            members: Vec::new(),
            has_digests,
            digest: None,
            spare: Vec::new(),
            hot: None,
        })
    }

    pub(in crate::packing) fn hot(&mut self, pages: Vec<HotPages>) -> io::Result<()> {
        self.hot = Some(Collector::new(pages)?);
        Ok(())
    }

    /// Begins the content of a member.
    pub(in crate::packing) fn content(&mut self, entry: &Entry) -> io::Result<()> {
        self.digest = self.has_digests.then(Sha256::new);
        if let Some(hot) = &mut self.hot {
            hot.content(&entry.path, self.at);
        }
        if is_pages(&entry.path) {
            let ready = self.ready();
            if ready > 0 && cut::stands_alone(ready, entry.size) {
                self.cut(ready)?;
            }
            self.place = Place::Pages(self.at);
        }
        Ok(())
    }

    /// Takes bytes of the tar stream. `content` is the offset in the content of the present member,
    /// if the bytes belong to it.
    pub(in crate::packing) fn put(
        &mut self,
        mut bytes: &[u8],
        content: Option<u64>,
    ) -> io::Result<()> {
        if let Some((hot, offset)) = self.hot.as_mut().zip(content) {
            hot.take(offset, bytes)?;
        }
        if let Some((digest, _)) = self.digest.as_mut().zip(content) {
            digest.update(bytes);
        }
        while !bytes.is_empty() {
            // A frame is cut when a page more than it may have is known.
            let room = (FRAME + MARGIN).saturating_sub(self.ready());
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.piece.bytes.extend_from_slice(now);
            let start = self.at.saturating_sub(self.ready() as u64 - now.len() as u64);
            self.at = self.at.saturating_add(now.len() as u64);
            if let Some(len) = cut::full(start, self.ready(), self.place) {
                self.cut(len)?;
            }
            bytes = later;
        }
        Ok(())
    }

    /// Ends a member.
    pub(in crate::packing) fn done(&mut self, entry: Entry, headers: u32) {
        self.place = Place::Any;
        let digest = self.digest.take().map(|digest| digest.finalize().into());
        self.members.push(Done { entry, headers, digest });
    }

    /// Writes what waits, and the tables.
    pub(in crate::packing) fn finish(mut self) -> io::Result<Written<W>> {
        while self.ready() > 0 {
            let len = cut::full(self.at - self.ready() as u64, self.ready(), self.place);
            self.cut(len.unwrap_or(self.ready()))?;
        }
        self.send()?;
        while let Some(packed) = self.pool.next()? {
            self.write(packed)?;
        }
        let diff_id = self.pool.digest()?;
        let mut others = Vec::new();

        let mut table: Vec<u8> = self.frames.iter().flat_map(|(.., digest)| *digest).collect();
        let files = self.members.iter().filter(|member| member.has_content());
        table.extend(files.filter_map(|member| member.digest).flatten());
        let head = skippable(table.len())?;
        self.out.write_all(&head)?;
        self.out.write_all(&table)?;
        let digests = Digests {
            start: self.file_at.saturating_add(head.len() as u64),
            len: table.len() as u64,
            blocks: digests::blocks(&table),
            has_members: self.has_digests,
        };
        let mut file_at = digests.start.saturating_add(digests.len);
        others.push(file_at - self.file_at);

        let written = self.hot.map(|hot| hot.write(self.level, file_at, &mut self.out));
        let hot = written.transpose()?.flatten().map(|(hot, len)| {
            others.push(len);
            file_at = file_at.saturating_add(len);
            hot
        });
        let hot_pages = hot.as_ref().map_or(0, |hot| hot.unpacked);

        let contents = Contents {
            diff_id: diff_id.map_or_else(Vec::new, Vec::from),
            packed: self.frames.iter().map(|(packed, ..)| *packed).collect(),
            unpacked: self.frames.iter().map(|(_, unpacked, _)| *unpacked).collect(),
            members: contents::columns(&self.members),
            digests,
            hot,
        };
        let table = contents::encode(&contents)?;
        self.out.write_all(&table)?;
        others.push(table.len() as u64);

        let mut entries: Vec<_> = self.frames.iter().map(|(a, b, _)| (*a, *b)).collect();
        for len in others {
            entries.push((u32::try_from(len).map_err(io::Error::other)?, 0));
        }
        self.out.write_all(&seek_table::encode(entries.into_iter())?)?;
        self.out.flush()?;
        Ok(Written { out: self.out, diff_id, unpacked: self.at, hot_pages })
    }

    /// Bytes of the frame that is not complete.
    fn ready(&self) -> usize {
        self.piece.bytes.len() - self.cut
    }

    /// Ends a frame.
    fn cut(&mut self, len: usize) -> io::Result<()> {
        self.piece.cuts.push(len);
        self.cut += len;
        if self.cut < PIECE { Ok(()) } else { self.send() }
    }

    /// Hands the complete frames over to be packed.
    fn send(&mut self) -> io::Result<()> {
        if self.piece.cuts.is_empty() {
            return Ok(());
        }
        let mut next = Piece { bytes: self.room(), cuts: Vec::new() };
        next.bytes.extend_from_slice(self.piece.bytes.get(self.cut..).unwrap_or_default());
        self.piece.bytes.truncate(self.cut);
        self.cut = 0;
        let room = self.room();
        if let Some(packed) = self.pool.put(mem::replace(&mut self.piece, next), room)? {
            self.write(packed)?;
        }
        Ok(())
    }

    fn write(&mut self, packed: Packed) -> io::Result<()> {
        self.out.write_all(&packed.bytes)?;
        self.file_at = self.file_at.saturating_add(packed.bytes.len() as u64);
        self.frames.extend(packed.frames);
        self.spare.extend([packed.bytes, packed.spent]);
        Ok(())
    }

    /// Returns memory for a piece or its frames.
    fn room(&mut self) -> Vec<u8> {
        let mut room = self.spare.pop().unwrap_or_default();
        room.clear();
        room.reserve(PIECE + 2 * FRAME);
        room
    }
}

/// Returns true for a member with pages of memory.
fn is_pages(path: &[u8]) -> bool {
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let kind = std::str::from_utf8(name).ok().and_then(Kind::of_file);
    kind.is_some_and(|(kind, _)| kind.entries == Entries::Raw && name.starts_with(b"pages-"))
}

/// Bytes that are compressed by a thread at once.
const PIECE: usize = 1 << 20;

/// Bytes of a frame beyond its limit that wait for the next one: less than a page.
const MARGIN: usize = 4095;
