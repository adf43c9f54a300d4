//! The mappings of a holder, in the order in which CRIU asks about them.

use std::io;
use std::ops::Range;

use crate::sys::file::Kind;
use crate::sys::lines::{Line, Lines};
use crate::sys::proc::{self, Text, number, words};

/// A reader of `/proc/PID/maps` of a holder, whose mappings do not change. It goes on from where it
/// stands, because CRIU asks about ascending addresses, and begins again if an address is lower.
#[derive(Debug)]
pub(crate) struct Mappings {
    holder: i32,
    lines: Lines,
    /// The mapping at which the reader stands, unless it is at the end.
    current: Option<Mapping>,
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

/// A mapping.
#[derive(Clone, Debug)]
struct Mapping {
    range: Range<u64>,
    is_special: bool,
}

impl Mappings {
    /// Opens the mappings of a holder.
    ///
    /// # Errors
    /// The errors of `open(2)`.
    pub(crate) fn of(holder: i32) -> io::Result<Self> {
        let lines = Lines::new(proc::open(holder, "maps")?);
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
            let Some(mapping) = &self.current else { return Ok(look) };
            let Mapping { range: Range { start, end }, is_special } = *mapping;
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
    fn read(&mut self) -> io::Result<Option<Mapping>> {
        let Some(line) = self.lines.next()? else { return Ok(None) };
        let entry = Entry::parse(line).ok_or(io::ErrorKind::InvalidData)?;
        let is_special = entry.is_shared || entry.is_special_file(self.holder, &mut self.seen);
        Ok(Some(Mapping { range: entry.range, is_special }))
    }
}

/// A line of `/proc/PID/maps`.
#[derive(Debug, Eq, PartialEq)]
struct Entry<'l> {
    range: Range<u64>,
    is_shared: bool,
    /// Device number, as it stands there.
    device: &'l [u8],
    /// Inode number, or 0 if there is no file.
    inode: u64,
}

impl<'l> Entry<'l> {
    /// Understands a line such as `7f00-7f10 rw-s 00000000 00:01 1024 /dev/zero (deleted)`. A path
    /// that is cut does not matter.
    fn parse(line: Line<'l>) -> Option<Self> {
        let mut fields = words(line.bytes());
        let range = proc::range(fields.next()?)?;
        let is_shared = match *fields.next()?.get(3)? {
            b'p' => false,
            b's' => true,
            _ => return None,
        };
        let (device, inode) = (fields.nth(1)?, number(fields.next()?)?);
        Some(Self { range, is_shared, device, inode })
    }

    /// Tells whether the file that is mapped is a device or in hugetlbfs. A file that cannot be
    /// looked at is taken for one.
    fn is_special_file(&self, holder: i32, seen: &mut Seen) -> bool {
        if self.inode == 0 {
            return false;
        }
        if seen.is(self) {
            return seen.is_special;
        }
        let Range { start, end } = self.range;
        let path = Text::of(format_args!("/proc/{holder}/map_files/{start:x}-{end:x}"));
        let kind = path.and_then(|path| Kind::of(path.as_str()));
        let is_special = !kind.is_ok_and(|kind| kind.is_regular && kind.block_size < HUGE);
        seen.note(self, is_special);
        is_special
    }
}

/// A file, and whether it is special.
#[derive(Debug, Default)]
struct Seen {
    device: [u8; 16],
    length: usize,
    inode: u64,
    is_special: bool,
}

impl Seen {
    fn is(&self, entry: &Entry<'_>) -> bool {
        self.inode == entry.inode && self.device.get(..self.length) == Some(entry.device)
    }

    fn note(&mut self, entry: &Entry<'_>, is_special: bool) {
        if let Some(place) = self.device.get_mut(..entry.device.len()) {
            place.copy_from_slice(entry.device);
            self.length = entry.device.len();
            self.inode = entry.inode;
            self.is_special = is_special;
        }
    }
}

/// Smallest size of a block in hugetlbfs: the smallest huge page of x86-64, in bytes.
const HUGE: u64 = 2 << 20;
