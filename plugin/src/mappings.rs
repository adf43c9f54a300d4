//! The mappings of a holder, in the order in which CRIU asks about them.

use std::io;
use std::ops::Range;

use crate::sys::file::Kind;
use crate::sys::lines::Lines;
use crate::sys::path::Path;
use crate::sys::proc::Mapping;

/// A reader of `/proc/PID/maps` of a holder, whose mappings do not change. It goes on from where it
/// stands, because CRIU asks about ascending addresses, and begins again if an address is lower.
#[derive(Debug)]
pub(crate) struct Mappings {
    holder: i32,
    lines: Lines,
    /// The mapping at which the reader stands, unless it is at the end.
    current: Option<Part>,
    /// End of the last mapping before that one.
    passed: u64,
    /// The last file that was looked at. A library has several mappings in a row.
    seen: Seen,
}

/// An answer about the mappings of a holder in a range.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Look {
    /// True if a single mapping covers the range.
    pub(crate) is_one: bool,
    /// True if some of the range is shared memory, hugetlbfs or a device. Nothing may be hidden
    /// there. The kernel takes pages of hugetlbfs from a holder when there are no more.
    pub(crate) is_special: bool,
}

/// A part of the address space.
#[derive(Clone, Debug)]
struct Part {
    range: Range<u64>,
    is_special: bool,
}

impl Mappings {
    /// Opens the mappings of a holder.
    ///
    /// # Errors
    /// The errors of `open(2)`.
    pub(crate) fn of(holder: i32) -> io::Result<Self> {
        let lines = Lines::open(holder, "maps")?;
        Ok(Self { holder, lines, current: None, passed: 0, seen: Seen::default() })
    }

    /// Looks what is mapped in a range.
    ///
    /// # Errors
    /// The errors of `open(2)` and `read(2)`. A line cannot be understood.
    pub(crate) fn look(&mut self, range: &Range<u64>) -> io::Result<Look> {
        if range.start < self.passed {
            *self = Self::of(self.holder)?;
        }
        let mut look = Look::default();
        loop {
            if self.current.is_none() {
                self.current = self.read()?;
            }
            let Some(part) = &self.current else { return Ok(look) };
            let Part { range: Range { start, end }, is_special } = *part;
            if start >= range.end {
                return Ok(look);
            }
            if end > range.start {
                look.is_special |= is_special;
                look.is_one = start <= range.start && range.end <= end;
            }
            if end >= range.end {
                return Ok(look);
            }
            self.passed = end;
            self.current = None;
        }
    }

    /// Reads the next mapping.
    fn read(&mut self) -> io::Result<Option<Part>> {
        let Some(line) = self.lines.next()? else { return Ok(None) };
        let mapping = Mapping::parse(line).ok_or(io::ErrorKind::InvalidData)?;
        let is_special = match mapping.permissions[3] {
            b'p' => self.seen.is_special(&mapping, self.holder),
            b's' => true,
            _ => return Err(io::ErrorKind::InvalidData.into()),
        };
        Ok(Some(Part { range: mapping.range, is_special }))
    }
}

/// A file, and whether it is special.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    device: u64,
    inode: u64,
    is_special: bool,
}

impl Seen {
    /// Tells whether the file that is mapped is a device or in hugetlbfs. A file that cannot be
    /// looked at is taken for one.
    fn is_special(&mut self, mapping: &Mapping<'_>, holder: i32) -> bool {
        let Mapping { range: Range { start, end }, device, inode, .. } = *mapping;
        if inode != 0 && (device, inode) != (self.device, self.inode) {
            let path = Path::of(format_args!("/proc/{holder}/map_files/{start:x}-{end:x}"));
            let kind = path.map_err(io::Error::from).and_then(|path| Kind::of(&path));
            let is_special = !kind.is_ok_and(|kind| kind.is_regular && kind.block_size < HUGE);
            *self = Self { device, inode, is_special };
        }
        inode != 0 && self.is_special
    }
}

/// Smallest size of a block in hugetlbfs: the smallest huge page of x86-64, in bytes.
const HUGE: u64 = 2 << 20;
