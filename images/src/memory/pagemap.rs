//! Pagemaps: lists of the pages that a set has, and of their places.

use std::fmt;

use bitflags::bitflags;

use crate::error::{Error, ErrorKind, Fault, Result};
use crate::frame::Image;
use crate::kind::Kind;
use crate::memory::blocks::Blocks;
use crate::proto::{PagemapBlocks, PagemapEntry, PagemapHead};
use crate::schema::Entry;
use crate::wire::{Reader, WireType, split_varint};

/// A pagemap image. Borrows the bytes. Only compressed runs allocate memory when they are read.
///
/// ```
/// use criu_images::memory::{PageSize, Pagemap};
/// use criu_images::kind;
///
/// let bytes = [
///     0x19, 0x43, 0x56, 0x54, 0x25, 0x40, 0x08, 0x56, // head magic, type magic
///     2, 0, 0, 0, 0x08, 0x01, // pages_id 1
///     10, 0, 0, 0, 0x08, 0x80, 0xc0, 0x04, 0x10, 0, 0x20, 4, 0x28, 3, // an entry
/// ];
/// let pagemap = Pagemap::parse("pagemap-7.img", &bytes, kind::PAGEMAP, PageSize::K4)?;
/// assert_eq!(pagemap.pages_id(), 1);
/// for run in pagemap.runs() {
///     let run = run?;
///     assert_eq!((run.start, run.pages), (0x12000, 3));
/// }
/// # Ok::<(), criu_images::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Pagemap<'a> {
    image: Image<'a>,
    pages_id: u32,
    page_size: PageSize,
}

/// Consecutive pages that are stored in the same way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Run {
    /// First address; in shared memory, the offset in the object.
    pub start: u64,
    /// Number of pages, at least one.
    pub pages: u64,
    /// Places of the bytes.
    pub flags: PageFlags,
    /// The bytes are in LZ4 blocks.
    pub compressed: bool,
}

impl Run {
    /// Returns the first address, and the address after the last byte, for pages of `page_size`
    /// bytes.
    pub(crate) fn range(&self, page_size: u64) -> (u64, u64) {
        // A walk yields no run that passes the end of the address space.
        let bytes = self.pages.saturating_mul(page_size);
        (self.start, self.start.saturating_add(bytes))
    }
}

bitflags! {
    /// Places of the bytes of a run.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct PageFlags: u32 {
        /// `PE_PARENT`: the bytes are in the parent set.
        const PARENT = 1;
        /// `PE_LAZY`: a restore may fetch the bytes later. Alone: the dump kept them back.
        const LAZY = 2;
        /// `PE_PRESENT`: the bytes are in the pages file.
        const PRESENT = 4;
        /// `PE_PAYLOAD_ALIGNED`: the bytes begin at a page boundary of a compressed pages file.
        const ALIGNED = 8;
        const _ = !0;
    }
}

/// Bytes of a page on the dumping machine: a power of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageSize(u64);

impl PageSize {
    /// Pages of 4096 bytes.
    pub const K4: Self = Self(4096);

    /// Creates a page size. Returns `None` unless it is a power of two from 4 KiB to 256 KiB: Linux
    /// has no other pages.
    pub fn new(bytes: u64) -> Option<Self> {
        let possible = bytes.is_power_of_two() && (4 << 10..=256 << 10).contains(&bytes);
        possible.then_some(Self(bytes))
    }

    /// Returns the number of bytes.
    pub fn bytes(self) -> u64 {
        self.0
    }
}

impl fmt::Display for PageSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'a> Pagemap<'a> {
    /// Reads the head. `name` is the name of the file, for errors.
    ///
    /// # Errors
    /// The errors of [`Image::parse`] and [`RawEntry::decode`](crate::frame::RawEntry::decode);
    /// [`ErrorKind::Entries`] if there is no head.
    pub fn parse(
        name: &'a str,
        bytes: &'a [u8],
        kind: &'static Kind,
        page_size: PageSize,
    ) -> Result<Self> {
        let mut image = Image::parse(name, bytes, kind)?;
        let Some(head) = image.next_entry()? else {
            let none = ErrorKind::Entries { found: 0, want: 1 };
            return Err(Error::new(name, none));
        };
        let PagemapHead { pages_id } = head.decode()?;
        Ok(Self { image, pages_id, page_size })
    }

    /// Returns the id of the file with the bytes, `pages-ID.img`.
    pub fn pages_id(&self) -> u32 {
        self.pages_id
    }

    /// Iterates over the runs, ascending.
    ///
    /// Each run is checked as it is read. It must be aligned, not empty, above the run before, and
    /// inside the address space, and its flags must agree. After an error the iteration ends.
    pub fn runs(&self) -> Runs<'a> {
        Runs { image: Some(self.image.clone()), page_size: self.page_size, free: 0 }
    }
}

/// The runs of a [`Pagemap`].
#[derive(Clone, Debug)]
#[must_use = "iterators are lazy"]
pub struct Runs<'a> {
    image: Option<Image<'a>>,
    page_size: PageSize,
    /// The address after the last run.
    free: u64,
}

impl Iterator for Runs<'_> {
    type Item = Result<Run>;

    fn next(&mut self) -> Option<Result<Run>> {
        let next = self.with_blocks()?;
        Some(next.map(|(run, _)| run))
    }
}

impl Runs<'_> {
    /// Returns the next run, with its blocks if it is compressed and its bytes are here.
    pub(crate) fn with_blocks(&mut self) -> Option<Result<(Run, Option<Blocks>)>> {
        let next = self.step();
        if !matches!(next, Ok(Some(_))) {
            self.image = None;
        }
        next.transpose()
    }

    fn step(&mut self) -> Result<Option<(Run, Option<Blocks>)>> {
        let Some(image) = &mut self.image else {
            return Ok(None);
        };
        let (free, page_size) = (self.free, self.page_size);
        if let Some((run, end)) = image.next_if(|bytes| usual_run(bytes, free, page_size.bytes())) {
            self.free = end;
            return Ok(Some((run, None)));
        }
        let Some(entry) = image.next_entry()? else {
            return Ok(None);
        };
        let run = parse_run(entry.bytes()).map_err(|fault| entry.fault(fault))?;
        self.free = check_run(&run, free, page_size.bytes()).map_err(|fault| entry.fault(fault))?;
        if !(run.compressed && run.flags.contains(PageFlags::PRESENT)) {
            return Ok(Some((run, None)));
        }
        let blocks = entry.decode::<PagemapEntry>()?.blocks.unwrap_or_default();
        let blocks = Blocks::new(run.pages, page_size.bytes(), &blocks);
        Ok(Some((run, Some(blocks.map_err(|fault| entry.fault(fault))?))))
    }
}

/// Reads a run in the form in which CRIU writes nearly all of them, and returns its end too. The
/// fields are in order, each at most once, nothing is compressed, and nothing is wrong. Returns
/// `None` for any other run, which [`parse_run`] reads.
#[inline]
fn usual_run(bytes: &[u8], free: u64, page_size: u64) -> Option<(Run, u64)> {
    let rest = bytes.strip_prefix(&[key(VADDR)])?;
    let (start, rest) = split_varint(rest)?;
    let rest = rest.strip_prefix(&[key(COMPAT_NR_PAGES)])?;
    let (old_pages, mut rest) = split_varint(rest)?;
    let mut flags = PageFlags::PRESENT;
    let mut pages = u64::from(u32::try_from(old_pages).ok()?);
    if let [FLAGS_KEY, bits @ ..0x80, after @ ..] = rest {
        (flags, rest) = (PageFlags::from_bits_retain(u32::from(*bits)), after);
    }
    if let [NR_PAGES_KEY, after @ ..] = rest {
        (pages, rest) = split_varint(after)?;
    }
    let run = Run { start, pages, flags, compressed: false };
    if rest.is_empty() { Some((run, check_run(&run, free, page_size).ok()?)) } else { None }
}

/// Returns the key of a varint field.
const fn key(number: u32) -> u8 {
    (number << 3).to_le_bytes()[0]
}

/// Reads the fields of one `pagemap_entry`.
fn parse_run(bytes: &[u8]) -> Result<Run, Fault> {
    let entry = PagemapEntry::schema();
    let mut reader = Reader::new(bytes);
    let (mut start, mut old_pages, mut pages, mut bits) = (None, None, None, None);
    let (mut in_parent, mut compressed) = (false, false);
    while !reader.is_empty() {
        let at = reader.at();
        let (number, wire) = reader.key()?;
        let taken = match (number, wire) {
            (VADDR, WireType::Varint) => reader.varint().map(|value| start = Some(value)),
            (COMPAT_NR_PAGES, WireType::Varint) => {
                reader.varint32().map(|value| old_pages = Some(value))
            }
            (IN_PARENT, WireType::Varint) => reader.varint().map(|value| in_parent = value != 0),
            (FLAGS, WireType::Varint) => reader.varint32().map(|value| bits = Some(value)),
            (NR_PAGES, WireType::Varint) => reader.varint().map(|value| pages = Some(value)),
            (BLOCKS, WireType::Bytes) => {
                compressed = true;
                reader.bytes().and_then(|blocks| {
                    let base = (reader.at() - blocks.len()) as u64;
                    let checked = PagemapBlocks::schema().check(blocks);
                    checked.map_err(|fault| fault.after(base))
                })
            }
            (VADDR..=BLOCKS, wire) => {
                let found = wire.number();
                let want = if number == BLOCKS { "2" } else { "0" };
                Err(ErrorKind::WireType { found, want }.at(at))
            }
            _ => reader.skip(wire),
        };
        taken.map_err(|fault| entry.blame(number, fault))?;
    }
    let absent = |number| entry.blame(number, ErrorKind::Required.at(0));
    let start = start.ok_or_else(|| absent(VADDR))?;
    let old_pages = old_pages.ok_or_else(|| absent(COMPAT_NR_PAGES))?;
    let mut flags = match bits {
        Some(bits) => PageFlags::from_bits_retain(bits),
        None if in_parent => PageFlags::empty(),
        None => PageFlags::PRESENT,
    };
    if in_parent {
        flags |= PageFlags::PARENT;
    }
    Ok(Run {
        start,
        // From CRIU 4.2 on the old field is 0, and the new field counts.
        pages: pages.unwrap_or(old_pages.into()),
        flags,
        compressed,
    })
}

/// Checks a run against the run before, which ended at `free`. Returns the end of the run.
fn check_run(run: &Run, free: u64, page_size: u64) -> Result<u64, Fault> {
    let wrong = |number, found, want| {
        let fault = ErrorKind::Value { found, want }.at(0);
        PagemapEntry::schema().blame(number, fault)
    };
    // The page size is a power of two.
    if run.start & (page_size - 1) != 0 {
        return Err(wrong(VADDR, run.start, "a multiple of the page size"));
    }
    if run.start < free {
        return Err(wrong(VADDR, run.start, "at least the end of the run before"));
    }
    if run.pages == 0 {
        return Err(wrong(NR_PAGES, 0, "at least one page"));
    }
    let stored = PageFlags::PARENT | PageFlags::PRESENT;
    if run.flags.contains(stored) || !run.flags.intersects(stored | PageFlags::LAZY) {
        let want = "parent 1, present 4 or lazy 2, but not both 1 and 4";
        return Err(wrong(FLAGS, run.flags.bits().into(), want));
    }
    let end = run.pages.checked_mul(page_size).and_then(|bytes| run.start.checked_add(bytes));
    end.ok_or_else(|| wrong(NR_PAGES, run.pages, "pages inside the address space"))
}

// The fields of `pagemap_entry`.
pub(super) const VADDR: u32 = 1;
pub(super) const COMPAT_NR_PAGES: u32 = 2;
const IN_PARENT: u32 = 3;
pub(super) const FLAGS: u32 = 4;
pub(super) const NR_PAGES: u32 = 5;
const BLOCKS: u32 = 6;
const FLAGS_KEY: u8 = key(FLAGS);
const NR_PAGES_KEY: u8 = key(NR_PAGES);

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    /// Compares both ways of reading an entry. Returns true if the quick way reads it.
    fn agree(bytes: &[u8], free: u64) -> bool {
        let slow = parse_run(bytes).and_then(|run| Ok((run, check_run(&run, free, 4096)?)));
        match usual_run(bytes, free, 4096) {
            Some(quick) => {
                assert_eq!(Some(quick), slow.ok(), "{bytes:x?}");
                true
            }
            None => false,
        }
    }

    #[test]
    fn the_quick_way_says_what_the_other_says() {
        let numbers = [0, 1, 3, 127, 128, 4096, 0x7f00_0000_0000, 1 << 52, u64::MAX - 4095];
        let mut quick = 0;
        for vaddr in numbers {
            for pages in numbers {
                for flags in [None, Some(0), Some(1), Some(4), Some(5), Some(6), Some(300)] {
                    let old = u32::try_from(pages).unwrap_or(7);
                    let new =
                        PagemapEntry { vaddr, flags, nr_pages: Some(pages), ..Default::default() };
                    let old = PagemapEntry { compat_nr_pages: old, nr_pages: None, ..new.clone() };
                    let parent = PagemapEntry { in_parent: Some(true), ..old.clone() };
                    for entry in [new, old, parent] {
                        let bytes = entry.encode_to_vec();
                        for free in [0, 4096, vaddr] {
                            quick += usize::from(agree(&bytes, free));
                        }
                        // Entries that are cut, and entries with something after them.
                        for end in 0..bytes.len() {
                            agree(&bytes[..end], 0);
                        }
                        agree(&[&bytes[..], &[0x28, 5]].concat(), 0);
                        agree(&[&bytes[..], &[0xfa, 1, 0]].concat(), 0);
                    }
                }
            }
        }
        assert!(quick > 300, "{quick}");
    }
}
