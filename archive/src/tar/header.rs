//! Headers of a tar archive: blocks of 512 bytes, in the old, the POSIX and the GNU form.

use crate::error::ErrorKind;

/// Bytes of a header, and the unit that content is filled up to.
pub(super) const BLOCK: usize = 512;

/// A block that describes a member, or carries text for the member behind it.
#[derive(Debug)]
pub(super) struct Header([u8; BLOCK]);

/// Sorts of headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sort {
    File,
    HardLink,
    SymbolicLink,
    Directory,
    /// A device or a FIFO.
    Special,
    /// A file with holes, in GNU's own form.
    Sparse,
    /// Name of the next member.
    LongName,
    /// Link target of the next member.
    LongLink,
    /// PAX records of the next member.
    Records,
    /// PAX records of all members that follow.
    GlobalRecords,
    /// A description of the next member in a form that only some programs read as one.
    Unclear,
    Other,
}

impl Header {
    /// Checks a block. Returns `None` for a block of zeros, which ends an archive.
    pub(super) fn new(block: [u8; BLOCK]) -> Result<Option<Self>, ErrorKind> {
        if block == [0; BLOCK] {
            return Ok(None);
        }
        let header = Self(block);
        let found = number(header.part(SUM, 8))?;
        // The sum counts its own field as spaces.
        let all: u64 = header.0.iter().copied().map(u64::from).sum();
        let own: u64 = header.part(SUM, 8).iter().copied().map(u64::from).sum();
        let spaces = 8 * u64::from(b' ');
        let want = all.saturating_sub(own).saturating_add(spaces);
        // Some old programs took bytes above 127 for numbers below 0.
        let high = |bytes: &[u8]| bytes.iter().fold(0u64, |sum, byte| sum + u64::from(byte >> 7));
        let high = high(&header.0).saturating_sub(high(header.part(SUM, 8)));
        if found != want && want.checked_sub(high << 8) != Some(found) {
            return Err(ErrorKind::Value { found, want: "the sum of the header's bytes" });
        }
        Ok(Some(header))
    }

    pub(super) fn sort(&self) -> Sort {
        let is_extended = self.is_gnu() || self.is_posix();
        match self.byte(SORT) {
            0 | b'0' | b'7' => Sort::File,
            b'1' => Sort::HardLink,
            b'2' => Sort::SymbolicLink,
            b'5' => Sort::Directory,
            b'3' | b'4' | b'6' => Sort::Special,
            b'S' => Sort::Sparse,
            b'L' if is_extended => Sort::LongName,
            b'K' if is_extended => Sort::LongLink,
            b'x' if is_extended => Sort::Records,
            b'g' if is_extended => Sort::GlobalRecords,
            // Solaris' records, and what has no magic: some programs pass over these.
            b'L' | b'K' | b'x' | b'g' | b'X' => Sort::Unclear,
            _ => Sort::Other,
        }
    }

    /// Returns true for a member that has no content. Some programs write the size of the directory
    /// or of the link's target into its header.
    pub(super) fn is_bare(&self) -> bool {
        matches!(self.sort(), Sort::HardLink | Sort::SymbolicLink | Sort::Directory | Sort::Special)
    }

    /// Name in the header itself.
    pub(super) fn name(&self) -> Vec<u8> {
        let name = text(self.part(NAME, 100));
        let prefix = if self.is_posix() { text(self.part(PREFIX, 155)) } else { &[] };
        match prefix {
            [] => name.to_vec(),
            prefix => [prefix, b"/", name].concat(),
        }
    }

    /// Checks that all programs find the same name in the header.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] for star's form with a name that is longer than star's prefix, and
    /// for GNU's form with times that are no numbers: Go takes the times for a prefix of the name.
    pub(super) fn check_name(&self) -> Result<(), ErrorKind> {
        let is_cut = self.is_posix()
            && self.part(TRAILER, 4) == b"tar\0"
            && text(self.part(PREFIX, 155)) != text(self.part(PREFIX, 131));
        let has_times = [ACCESSED, CHANGED].iter().all(|at| is_time(self.part(*at, 12)));
        if is_cut || self.is_gnu() && !has_times {
            return Err(ErrorKind::Refused("programs find different names in its header"));
        }
        Ok(())
    }

    /// Link target in the header itself.
    pub(super) fn link(&self) -> Vec<u8> {
        text(self.part(LINK, 100)).to_vec()
    }

    /// Bytes of the content in the archive.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`] for no number, for a number below 0, and for one above 64 bits.
    pub(super) fn size(&self) -> Result<u64, ErrorKind> {
        number(self.part(SIZE, 12))
    }

    /// Permissions, numbers of owner and group, and time of the last change; 0 where the header has
    /// no number. Nothing is read by them.
    pub(super) fn attributes(&self) -> (u32, u64, u64, u64) {
        let one = |at, len| number(self.part(at, len)).unwrap_or(0);
        let mode = u32::try_from(one(MODE, 8) & 0o7777).unwrap_or(0);
        (mode, one(UID, 8), one(GID, 8), one(MODIFIED, 12))
    }

    /// Returns true if blocks with more of a sparse file's map follow.
    pub(super) fn has_more_map(&self) -> bool {
        self.byte(MORE_MAP) != 0
    }

    fn is_posix(&self) -> bool {
        self.part(MAGIC, 6) == b"ustar\0"
    }

    fn is_gnu(&self) -> bool {
        self.part(MAGIC, 8) == b"ustar  \0"
    }

    fn part(&self, at: usize, len: usize) -> &[u8] {
        self.0.get(at..).and_then(|rest| rest.get(..len)).unwrap_or_default()
    }

    fn byte(&self, at: usize) -> u8 {
        self.0.get(at).copied().unwrap_or(0)
    }
}

/// Returns true if another block of a sparse file's map follows the given block.
pub(super) fn continues(map: &[u8; BLOCK]) -> bool {
    map.get(MORE_MAP_AGAIN).is_some_and(|more| *more != 0)
}

/// Returns the bytes before the first zero.
pub(super) fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// Returns true for a time before or after 1970, and for an empty field.
fn is_time(field: &[u8]) -> bool {
    let is_negative = field.starts_with(&[0xff; 4]);
    field.first() == Some(&0) || is_negative || number(field).is_ok()
}

/// Reads a number of octal digits, or of GNU's binary form for large ones.
fn number(field: &[u8]) -> Result<u64, ErrorKind> {
    // Go passes over zeros before digits, and others end at a zero.
    let mut before = field.iter().take_while(|byte| matches!(byte, 0 | b' '));
    let is_empty = field.iter().all(|byte| matches!(byte, 0 | b' '));
    if !is_empty && before.any(|byte| *byte == 0) {
        return Err(ErrorKind::Malformed("has a number behind a zero byte"));
    }
    if let Some((&first, rest)) = field.split_first() {
        if first & 0x80 != 0 {
            let (above, low) = rest.split_at(rest.len().saturating_sub(8));
            if first != 0x80 || above.iter().any(|byte| *byte != 0) {
                return Err(ErrorKind::Malformed("has a number below 0 or above 64 bits"));
            }
            return Ok(low.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)));
        }
    }
    text(field).trim_ascii().iter().try_fold(0u64, |value, digit| match digit {
        b'0'..=b'7' => Ok(value << 3 | u64::from(digit - b'0')),
        _ => Err(ErrorKind::Malformed("has a number that is not octal")),
    })
}

// Offsets in a header.
const NAME: usize = 0;
const MODE: usize = 100;
const UID: usize = 108;
const GID: usize = 116;
const SIZE: usize = 124;
const MODIFIED: usize = 136;
const SUM: usize = 148;
const SORT: usize = 156;
const LINK: usize = 157;
const MAGIC: usize = 257;
const PREFIX: usize = 345;
/// GNU's times of the last access and of the last change of attributes.
const ACCESSED: usize = 345;
const CHANGED: usize = 357;
/// Magic of star.
const TRAILER: usize = 508;
/// GNU's flag that blocks with more of the map follow.
const MORE_MAP: usize = 482;
/// GNU's flag in a block that follows.
const MORE_MAP_AGAIN: usize = 504;
