//! The table of contents, as bytes.
//!
//! | bytes | contents |
//! | ---: | --- |
//! | 8 | head of a skippable frame, magic `0x184d2a5c` |
//! | | a zstd frame with the message [`Contents`](super::wire::Contents) |
//! | 32 | SHA-256 of the zstd frame |
//! | 4 | bytes of the zstd frame |
//! | 4 | bytes of the message |
//! | 4 | version: 1 |
//! | 8 | magic: `criu-toc` |

use std::io;

use prost::Message;
use sha2::{Digest, Sha256};
use zstd::bulk::Decompressor;

use super::digests::FRAME_DIGEST;
use super::frames::{Frames, Packer, unpack};
use super::wire::{self, Contents, Digests, Hot, Members};
use super::{SKIPPABLE, skippable};
use crate::bounds;
use crate::error::{ErrorKind, Fault};
use crate::member::MemberKind;
use crate::packing::{Entry, Listed};
use crate::tar::{Found, Sort};

/// A member that has been written.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) entry: Entry,
    /// Blocks of headers.
    pub(super) headers: u32,
    /// SHA-256 of the content, if digests are wanted.
    pub(super) digest: Option<[u8; 32]>,
}

impl Done {
    /// Returns true for a member that may have a row in the table of digests.
    pub(super) fn has_content(&self) -> bool {
        self.entry.kind == MemberKind::File && self.entry.size > 0
    }
}

/// Returns the bytes of a table with the head of its skippable frame.
///
/// # Errors
/// Fails above 4 GiB.
pub(super) fn encode(contents: &Contents) -> io::Result<Vec<u8>> {
    let message = contents.encode_to_vec();
    let mut packed = Vec::new();
    let len = Packer::new(LEVEL)?.pack(&message, &mut packed)?;
    let mut bytes = skippable(packed.len().saturating_add(END))?.to_vec();
    bytes.extend(&packed);
    bytes.extend(Sha256::digest(&packed));
    bytes.extend(len.to_le_bytes());
    bytes.extend(u32::try_from(message.len()).map_err(io::Error::other)?.to_le_bytes());
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend(MAGIC);
    Ok(bytes)
}

/// Returns the columns of members.
pub(super) fn columns(members: &[Done]) -> Members {
    let mut columns = Members::default();
    let (mut before, mut time): (&[u8], _) = (&[], 0u64);
    for Done { entry, headers, .. } in members {
        let shared = entry.path.iter().zip(before).take_while(|(a, b)| a == b).count();
        columns.shared.push(u32::try_from(shared).unwrap_or(0));
        columns.names.extend(entry.path.get(shared..).unwrap_or_default());
        columns.names.push(0);
        let (kind, link) = number(&entry.kind);
        if let Some(link) = link {
            columns.links.extend(link);
            columns.links.push(0);
        }
        columns.kinds.push(kind);
        columns.headers.push(*headers);
        columns.sizes.push(entry.size);
        columns.modes.push(entry.mode);
        columns.uids.push(entry.uid);
        columns.gids.push(entry.gid);
        columns.times.push(wire::signed(entry.modified.wrapping_sub(time)));
        (before, time) = (&entry.path, entry.modified);
    }
    columns
}

/// The end of a table: its size and form.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    packed: usize,
    message: usize,
    checksum: [u8; 32],
}

impl End {
    /// Reads the last bytes of a table of an archive with `archive` bytes; `None` if the bytes are
    /// no table of this crate.
    ///
    /// # Errors
    /// [`ErrorKind::Value`] for another version; [`ErrorKind::TooLarge`] above
    /// [`TOC`](crate::bounds::TOC), and for a table that is much larger than the archive.
    pub(super) fn find(bytes: &[u8], archive: u64) -> Result<Option<Self>, Fault> {
        let Some((rest, magic)) = bytes.split_last_chunk::<8>() else { return Ok(None) };
        if *magic != MAGIC {
            return Ok(None);
        }
        let number = |bytes: [u8; 4]| u32::from_le_bytes(bytes);
        let parts = || {
            let (rest, version) = rest.split_last_chunk::<4>()?;
            let (rest, message) = rest.split_last_chunk::<4>()?;
            let (rest, packed) = rest.split_last_chunk::<4>()?;
            let (_, checksum) = rest.split_last_chunk::<32>()?;
            Some((number(*version), number(*message), number(*packed), *checksum))
        };
        let Some((version, message, packed, checksum)) = parts() else { return Ok(None) };
        if version != VERSION {
            return Err(ErrorKind::Value { found: version.into(), want: "version 1" }.into());
        }
        let limit = bounds::TOC.get().min(most(archive));
        let size = u64::from(message.max(packed));
        let fits = |size: u32| usize::try_from(size).ok().filter(|_| u64::from(size) <= limit);
        let (Some(packed), Some(message)) = (fits(packed), fits(message)) else {
            return Err(ErrorKind::TooLarge { size, limit }.into());
        };
        Ok(Some(Self { packed, message, checksum }))
    }

    /// Bytes of the payload of the skippable frame.
    pub(super) fn payload(self) -> u64 {
        self.packed as u64 + END as u64
    }

    /// Reads the message from the bytes of the whole skippable frame.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`] if the checksum or the message is wrong.
    pub(super) fn contents(self, table: &[u8]) -> Result<Contents, Fault> {
        let head = skippable(self.packed.saturating_add(END)).ok();
        let (Some(head), Some((found, rest))) = (head, table.split_first_chunk::<8>()) else {
            return Err(damaged());
        };
        debug_assert_eq!(head.first_chunk(), Some(&SKIPPABLE.to_le_bytes()));
        let packed = rest.get(..self.packed).unwrap_or_default();
        if *found != head || Sha256::digest(packed)[..] != self.checksum {
            return Err(damaged());
        }
        let mut message = vec![0; self.message];
        let mut decoder = Decompressor::new()?;
        unpack(&mut decoder, packed, &mut message).map_err(|_| damaged())?;
        Contents::decode(&*message).map_err(|_| damaged())
    }
}

/// Refuses a table with more frames than an archive of so many bytes has digests of, before memory
/// is taken for their places.
///
/// # Errors
/// [`ErrorKind::Malformed`].
pub(super) fn check_count(contents: &Contents, archive: u64) -> Result<(), Fault> {
    let digests = (contents.packed.len() as u64).saturating_mul(FRAME_DIGEST);
    let is_there = digests <= contents.digests.len && contents.digests.len <= archive;
    let few = ErrorKind::Malformed("has fewer digests than frames");
    if is_there { Ok(()) } else { Err(few.into()) }
}

/// Places of the frames of a table.
///
/// # Errors
/// [`ErrorKind::Malformed`] if sizes are missing.
pub(super) fn frames(contents: &Contents) -> Result<Frames, Fault> {
    if contents.packed.len() != contents.unpacked.len() {
        return Err(damaged());
    }
    let mut frames = Frames::default();
    for (packed, unpacked) in contents.packed.iter().zip(&contents.unpacked) {
        if *packed < LEAST_FRAME || *unpacked == 0 {
            return Err(damaged());
        }
        frames.push(*packed, *unpacked);
    }
    Ok(frames)
}

/// Lists the members of a table, and returns the end of the last one in the tar stream.
///
/// # Errors
/// [`ErrorKind::Malformed`] if a column is too short or too long, with the member's name if there
/// is one; [`ErrorKind::TooMany`] above [`MEMBERS`](crate::bounds::MEMBERS) and
/// [`NAMES`](crate::bounds::NAMES).
pub(super) fn members(columns: Members) -> Result<(Vec<Listed>, u64), Fault> {
    let count = columns.kinds.len();
    let limit = bounds::MEMBERS.get();
    if count as u64 > limit {
        return Err(ErrorKind::TooMany { what: "members", limit }.into());
    }
    let Members { shared, headers, sizes, modes, uids, gids, times, .. } = &columns;
    let rows = [
        shared.len(),
        headers.len(),
        sizes.len(),
        modes.len(),
        uids.len(),
        gids.len(),
        times.len(),
    ];
    let is_whole = |bytes: &[u8]| bytes.last().is_none_or(|last| *last == 0);
    if rows != [count; 7] || !is_whole(&columns.names) || !is_whole(&columns.links) {
        return Err(damaged());
    }
    let mut names = columns.names.split_inclusive(|byte| *byte == 0);
    let mut links = columns.links.split_inclusive(|byte| *byte == 0);
    let mut listed: Vec<Listed> = Vec::with_capacity(count);
    let (mut at, mut modified, mut text, mut row) = (0u64, 0u64, 0u64, 0u64);
    let numbers = headers.iter().zip(sizes).zip(modes).zip(uids).zip(gids).zip(times);
    let rows = numbers.zip(&columns.kinds).zip(shared);
    for (((((((headers, size), mode), uid), gid), time), kind), shared) in rows {
        let rest = names.next().and_then(|name| name.strip_suffix(&[0])).ok_or_else(damaged)?;
        let before = listed.last().map_or(&[][..], |last| &last.found.name);
        let shared = usize::try_from(*shared).ok().and_then(|shared| before.get(..shared));
        let name = [shared.ok_or_else(damaged)?, rest].concat();
        let fault = |text| Fault::from(ErrorKind::Malformed(text)).of(show(&name));
        let sort = sort(*kind).ok_or_else(|| fault("the table of contents knows no such kind"))?;
        let link = match sort {
            Sort::HardLink | Sort::SymbolicLink => {
                let link = links.next().and_then(|link| link.strip_suffix(&[0]));
                link.ok_or_else(|| fault("the table of contents lacks the target of the link"))?
            }
            _ => &[],
        };
        text = text.saturating_add(name.len() as u64).saturating_add(link.len() as u64);
        let limit = bounds::NAMES.get();
        if text > limit {
            let what = "bytes of names and PAX records";
            return Err(ErrorKind::TooMany { what, limit }.into());
        }
        let link = link.to_vec();
        modified = modified.wrapping_add(u64::from_ne_bytes(time.to_ne_bytes()));
        let header = at;
        let beyond = || fault("the table of contents says a size that no archive has");
        if !(1..=MOST_HEADERS).contains(headers) {
            return Err(fault("the table of contents says an impossible size of the headers"));
        }
        let start = header.checked_add(u64::from(*headers) * 512).ok_or_else(beyond)?;
        let filled = size.checked_next_multiple_of(512);
        at = filled.and_then(|size| start.checked_add(size)).ok_or_else(beyond)?;
        let (mode, uid, gid, size) = (*mode, *uid, *gid, *size);
        let found = Found { name, link, sort, mode, uid, gid, modified, start, size };
        let member = Listed { header, row, found };
        row += u64::from(member.has_content());
        listed.push(member);
    }
    if names.next().is_some() || links.next().is_some() {
        return Err(damaged());
    }
    Ok((listed, at))
}

/// Checks the places of the other tables: digests, working set and contents stand behind the frames
/// in this order, each in a skippable frame, without a gap.
///
/// # Errors
/// [`ErrorKind::Malformed`].
pub(super) fn check_places(
    frames: &Frames,
    members: &[Listed],
    digests: &Digests,
    hot: Option<&Hot>,
    table: u64,
) -> Result<(), Fault> {
    let files = members.iter().filter(|member| member.has_content()).count() as u64;
    let rows = if digests.has_members { files } else { 0 };
    let len = frames.len() as u64 * FRAME_DIGEST + rows * 32;
    let is_listed = digests.start == frames.packed().saturating_add(8)
        && digests.len == len
        && digests.blocks.len() as u64 == len.div_ceil(16 << 10) * 32;
    let mut end = digests.start.saturating_add(len);
    let mut is_hot = true;
    if let Some(hot) = hot {
        let packed = hot.packed.iter().fold(u64::from(hot.index), |sum, len| sum + u64::from(*len));
        is_hot = hot.start == end.saturating_add(8) && hot.digest.len() == 32;
        end = hot.start.saturating_add(packed);
    }
    if is_listed && is_hot && table == end { Ok(()) } else { Err(damaged()) }
}

/// Returns the most bytes of a table of something that takes so many bytes packed. A table is not
/// so large: a frame of zeros has 20 bytes and 4 in the table, a page 1 and 4. A small file thus
/// cannot claim much memory.
pub(super) fn most(packed: u64) -> u64 {
    packed.saturating_mul(8).saturating_add(1 << 20)
}

pub(super) fn damaged() -> Fault {
    ErrorKind::Malformed("the table of contents is damaged").into()
}

fn show(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

/// Returns the number of a kind, and the target of a link.
fn number(kind: &MemberKind) -> (u8, Option<&[u8]>) {
    match kind {
        MemberKind::File => (0, None),
        MemberKind::HardLink(target) => (1, Some(target)),
        MemberKind::SymbolicLink(target) => (2, Some(target)),
        MemberKind::Special => (3, None),
        MemberKind::Directory => (5, None),
        MemberKind::Sparse => (6, None),
    }
}

fn sort(number: u8) -> Option<Sort> {
    Some(match number {
        0 => Sort::File,
        1 => Sort::HardLink,
        2 => Sort::SymbolicLink,
        3 => Sort::Special,
        5 => Sort::Directory,
        6 => Sort::Sparse,
        _ => return None,
    })
}

const MAGIC: [u8; 8] = *b"criu-toc";
const VERSION: u32 = 1;

/// Bytes of the smallest zstd frame.
const LEAST_FRAME: u32 = 9;

/// Bytes behind the zstd frame.
pub(super) const END: usize = 52;

/// Level at which the table is packed. Tables are small.
const LEVEL: i32 = 9;

/// Most blocks of headers of a member: PAX records, a long name and a long target of 1 MiB each.
const MOST_HEADERS: u32 = 3 * 2048 + 8;
