//! Pages of one object, a task's memory or shared memory, along the chain of parent sets.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::{Mutex, OnceLock, PoisonError};

use nix::fcntl::{FallocateFlags, fallocate};

use crate::chain::Level;
use crate::error::{Error, ErrorKind, NoPage, Result};
use crate::kind::{self, Kind};
use crate::memory::blocks::{Block, Blocks, unpack};
use crate::memory::{Content, PageFlags, PageSize, Pagemap, Run};
use crate::source::Blob;

/// Pages that one set has of an object. The pages file and the parent set are opened when first
/// needed.
#[derive(Debug)]
pub(crate) struct Object<'a> {
    level: &'a Level,
    kind: &'static Kind,
    id: u64,
    page_size: PageSize,
    /// Runs, ascending.
    runs: Vec<Placed>,
    /// Name of the file with the bytes.
    pages_file: String,
    pages: OnceLock<Blob>,
    /// The pages file, open for writing.
    writable: OnceLock<File>,
    parent: OnceLock<Option<Box<Object<'a>>>>,
    /// The block unpacked last, and the offset of its stored bytes in the pages file.
    unpacked: Mutex<Option<(u64, Vec<u8>)>>,
}

/// A run and the place of its bytes.
#[derive(Debug)]
struct Placed {
    run: Run,
    /// First address after the run.
    end: u64,
    /// Offset in the pages file, if the run is present.
    offset: Option<u64>,
    /// Blocks of a compressed run.
    blocks: Option<Blocks>,
}

/// Returns the offset of a present run's bytes in the pages file, and moves `free` to the end of
/// these bytes. `free` is the end of the bytes of the run before. Returns `None` past the largest
/// size of a file.
pub(crate) fn next_place(
    run: &Run,
    blocks: Option<&Blocks>,
    page_size: PageSize,
    free: &mut Option<u64>,
) -> Option<u64> {
    let (start, end) = run.range(page_size.bytes());
    let offset = if run.flags.contains(PageFlags::ALIGNED) {
        free.and_then(|free| free.checked_next_multiple_of(page_size.bytes()))
    } else {
        *free
    };
    let stored = blocks.map_or(end - start, Blocks::stored);
    *free = offset.and_then(|offset| offset.checked_add(stored));
    offset
}

/// Source of the bytes at an address.
pub(crate) enum Place<'o, 'a> {
    /// Memory that was never written, and reads as zero.
    Zero,
    /// No source, with the reason. The object's pagemap is at fault.
    Absent(NoPage, Option<&'o Object<'a>>),
    /// Bytes in the object's pages file, from this offset on.
    Stored(&'o Object<'a>, u64),
    /// Bytes in a block. The first offset is that of its stored bytes in the pages file, the second
    /// that of the wanted bytes in the unpacked block.
    Packed(&'o Object<'a>, Block, u64, u64),
}

impl<'o> Place<'o, '_> {
    /// Reads the bytes. `absent` makes the error if there are none.
    pub(crate) fn read(&self, buf: &mut [u8], absent: impl FnOnce(NoPage) -> Error) -> Result<()> {
        match self {
            Self::Zero => buf.fill(0),
            Self::Absent(why, None) => return Err(absent(*why)),
            Self::Absent(why, Some(object)) => {
                let error = absent(*why);
                return Err(error.with_image(object.place()));
            }
            Self::Stored(object, at) => object.read_at(*at, buf)?,
            Self::Packed(object, block, file, at) => object.read_packed(block, *file, *at, buf)?,
        }
        Ok(())
    }

    /// Returns how many of the next bytes are in a hole of the pages file, if the hole is worth a
    /// step of its own. They are zero.
    pub(crate) fn hole(&self) -> Result<Option<u64>> {
        let Self::Stored(object, at) = self else { return Ok(None) };
        let end = object.pages()?.hole(*at);
        Ok(end.map(|end| end - at).filter(|size| *size >= MIN_HOLE))
    }

    /// Returns the next `size` bytes if the set has them in memory, or else their source.
    pub(crate) fn content(&self, size: u64) -> Result<Content<'o>> {
        Ok(match self {
            Self::Zero => Content::Zero,
            Self::Absent(why, _) => Content::Absent(*why),
            // A block without stored bytes is zero. For other blocks only unpacking tells.
            Self::Packed(_, block, ..) if block.stored == 0 => Content::Zero,
            Self::Packed(..) => Content::Stored,
            Self::Stored(object, at) => match object.slice(*at, size)? {
                Some(bytes) => Content::Bytes(bytes),
                None => Content::Stored,
            },
        })
    }
}

impl<'a> Object<'a> {
    /// Opens the object. Returns `None` if the set does not have its pagemap.
    pub(crate) fn open(
        level: &'a Level,
        kind: &'static Kind,
        id: u64,
        page_size: PageSize,
    ) -> Result<Option<Self>> {
        let file = kind.file_name(id);
        let name = level.place(&file);
        let Some(bytes) = level.read(&file)? else {
            return Ok(None);
        };
        let pagemap = Pagemap::parse(&name, &bytes, kind, page_size)?;
        let mut runs = Vec::new();
        let mut free = Some(0u64);
        let mut walk = pagemap.runs();
        while let Some(next) = walk.with_blocks() {
            let (run, blocks) = next?;
            let (_, end) = run.range(page_size.bytes());
            let offset = if run.flags.contains(PageFlags::PRESENT) {
                next_place(&run, blocks.as_ref(), page_size, &mut free)
            } else {
                None
            };
            runs.push(Placed { run, end, offset, blocks });
        }
        Ok(Some(Self {
            level,
            kind,
            id,
            page_size,
            runs,
            pages_file: kind::PAGES.file_name(pagemap.pages_id().into()),
            pages: OnceLock::new(),
            writable: OnceLock::new(),
            parent: OnceLock::new(),
            unpacked: Mutex::default(),
        }))
    }

    /// Iterates over the runs of the set itself.
    pub(crate) fn runs(&self) -> impl Iterator<Item = Run> {
        self.runs.iter().map(|placed| placed.run)
    }

    /// Finds the source of the bytes at an address, and the address at which this source ends.
    pub(crate) fn locate(&self, address: u64) -> Result<(Place<'_, 'a>, u64)> {
        let mut found = match self.find(address) {
            Ok(found) => found,
            Err(next) => return Ok((Place::Zero, next)),
        };
        let mut object = self;
        let mut until = found.end;
        while found.run.flags.contains(PageFlags::PARENT) {
            let parent = object.parent()?;
            let inherited = parent.and_then(|parent| Some((parent, parent.find(address).ok()?)));
            let broken = || object.fault(ErrorKind::BrokenParent { address });
            (object, found) = inherited.ok_or_else(broken)?;
            until = until.min(found.end);
        }
        if !found.run.flags.contains(PageFlags::PRESENT) {
            return Ok((Place::Absent(NoPage::Lazy, Some(object)), until));
        }
        let past = || object.fault(ErrorKind::Malformed("lists more bytes than a file can have"));
        let offset = found.offset.ok_or_else(past)?;
        let within = address - found.run.start;
        let Some(blocks) = &found.blocks else {
            return Ok((Place::Stored(object, offset.saturating_add(within)), until));
        };
        let block = blocks.at(within).ok_or_else(past)?;
        let end = found.run.start.saturating_add(block.start).saturating_add(block.size);
        let file = offset.saturating_add(block.stored_at);
        Ok((Place::Packed(object, block, file, within - block.start), until.min(end)))
    }

    /// Returns the address up to which pages are lacking for the same reason as at `address`.
    pub(crate) fn lacking_until(&self, address: u64) -> Result<u64> {
        let (mut object, mut until) = (self, u64::MAX);
        loop {
            let found = match object.find(address) {
                Ok(found) => found,
                Err(next) => return Ok(until.min(next)),
            };
            until = until.min(found.end);
            match object.parent()? {
                Some(parent) if found.run.flags.contains(PageFlags::PARENT) => object = parent,
                _ => return Ok(until),
            }
        }
    }

    /// Reads from an offset of a block. The block is unpacked as a whole, and kept.
    fn read_packed(&self, block: &Block, file: u64, at: u64, buf: &mut [u8]) -> Result<()> {
        if block.stored == 0 {
            buf.fill(0);
            return Ok(());
        }
        let mut kept = self.unpacked.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = match kept.as_mut().filter(|kept| kept.0 == file) {
            Some((_, bytes)) => bytes,
            None => {
                let broken = |kind| Error::new(self.level.place(&self.pages_file), kind);
                let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
                let mut stored = vec![0; size(block.stored)];
                self.read_at(file, &mut stored)?;
                let bytes = unpack(stored, size(block.size)).map_err(broken)?;
                &mut kept.insert((file, bytes)).1
            }
        };
        let start = usize::try_from(at).ok();
        let found = start.and_then(|start| bytes.get(start..)?.get(..buf.len()));
        match found {
            Some(found) => buf.copy_from_slice(found),
            None => return Err(self.fault(ErrorKind::Malformed("a block ends early"))),
        }
        Ok(())
    }

    /// Reads from an offset of the pages file.
    pub(crate) fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let read = self.pages()?.read_at(offset, buf);
        read.map_err(|error| Error::new(self.level.place(&self.pages_file), error))
    }

    /// Calls `each` for the runs with bytes of their own, here and in the parent sets: start, end,
    /// name of the file as seen from the first set, offset in the file. Compressed runs are left
    /// out.
    pub(crate) fn stored(&self, each: &mut impl FnMut(u64, u64, String, u64)) -> Result<()> {
        for placed in self.runs.iter().filter(|placed| placed.blocks.is_none()) {
            if let Some(offset) = placed.offset {
                each(placed.run.start, placed.end, self.level.place(&self.pages_file), offset);
            }
        }
        match self.parent()? {
            Some(parent) => parent.stored(each),
            None => Ok(()),
        }
    }

    /// Frees the space of a range's bytes, here and in the parent sets.
    pub(crate) fn punch(&self, start: u64, end: u64) -> Result<()> {
        let fail = |error: io::Error| Error::new(self.level.place(&self.pages_file), error);
        let how = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        let number = |value: u64| i64::try_from(value).map_err(io::Error::other);
        let first = self.runs.partition_point(|placed| placed.end <= start);
        let overlapping = self.runs.iter().skip(first).take_while(|placed| placed.run.start < end);
        for placed in overlapping.filter(|placed| placed.blocks.is_none()) {
            let Some(offset) = placed.offset else { continue };
            let (from, to) = (start.max(placed.run.start), end.min(placed.end));
            let at = offset.saturating_add(from - placed.run.start);
            let (at, size) = (number(at).map_err(fail)?, number(to - from).map_err(fail)?);
            let file = self.writable()?;
            fallocate(file, how, at, size).map_err(|error| fail(error.into()))?;
        }
        match self.parent()? {
            Some(parent) => parent.punch(start, end),
            None => Ok(()),
        }
    }

    /// Opens the pages file for writing when first called: the file that is read from, whatever has
    /// its name by now.
    fn writable(&self) -> Result<&File> {
        if let Some(file) = self.writable.get() {
            return Ok(file);
        }
        let fail = |error: io::Error| Error::new(self.level.place(&self.pages_file), error);
        let (read, 0) = self.file()?.ok_or_else(|| fail(io::ErrorKind::Unsupported.into()))? else {
            return Err(fail(io::ErrorKind::Unsupported.into()));
        };
        let link = format!("/proc/self/fd/{}", read.as_raw_fd());
        let file = File::options().write(true).open(link).map_err(fail)?;
        Ok(self.writable.get_or_init(|| file))
    }

    /// Returns the file that holds the pages file, and the offset at which the pages file begins.
    pub(crate) fn file(&self) -> Result<Option<(&File, u64)>> {
        Ok(self.pages()?.file())
    }

    /// Returns `size` bytes of the pages file, if they are in memory.
    fn slice(&self, offset: u64, size: u64) -> Result<Option<&[u8]>> {
        let Some(bytes) = self.pages()?.bytes() else {
            return Ok(None);
        };
        let range = usize::try_from(offset).ok().zip(usize::try_from(size).ok());
        let rest = range.and_then(|(start, size)| bytes.get(start..)?.get(..size));
        let early = || {
            let error = io::Error::from(io::ErrorKind::UnexpectedEof);
            Error::new(self.level.place(&self.pages_file), error)
        };
        rest.map(Some).ok_or_else(early)
    }

    /// Opens the pages file when first called.
    fn pages(&self) -> Result<&Blob> {
        if let Some(blob) = self.pages.get() {
            return Ok(blob);
        }
        let missing = || Error::new(self.level.place(&self.pages_file), ErrorKind::Missing);
        let blob = self.level.open(&self.pages_file)?.ok_or_else(missing)?;
        Ok(self.pages.get_or_init(|| blob))
    }

    /// Returns the run that covers an address, or the start of the next run.
    fn find(&self, address: u64) -> Result<&Placed, u64> {
        let after = self.runs.partition_point(|placed| placed.run.start <= address);
        let before = after.checked_sub(1).and_then(|i| self.runs.get(i));
        before.filter(|placed| address < placed.end).ok_or_else(|| {
            let next = self.runs.get(after);
            next.map_or(u64::MAX, |placed| placed.run.start)
        })
    }

    /// Opens the object in the parent set when first called.
    fn parent(&self) -> Result<Option<&Self>> {
        if let Some(parent) = self.parent.get() {
            return Ok(parent.as_deref());
        }
        let parent = match self.level.parent()? {
            Some(level) => Self::open(level, self.kind, self.id, self.page_size)?,
            None => None,
        };
        Ok(self.parent.get_or_init(|| parent.map(Box::new)).as_deref())
    }

    fn fault(&self, kind: ErrorKind) -> Error {
        Error::new(self.place(), kind)
    }

    /// Returns the name of the pagemap, as seen from the first set.
    fn place(&self) -> String {
        self.level.place(&self.kind.file_name(self.id))
    }
}

/// Smallest hole that is passed over, in bytes. Smaller ones are read.
const MIN_HOLE: u64 = 1 << 20;
