//! Images on a local disk as a source of pages.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::sync::Arc;

use criu_images::memory::{Content, PageObject, PageSet, PageSource, StoredPages};
use criu_images::source::{Directory, Source};
use nix::errno::Errno;
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use nix::unistd::{Whence, lseek};

use super::buffer::Buffer;
use super::error::LazyError;
use super::snapshot::{LazyTask, Snapshot};
use super::supply::{Pages, Reader, Supply, Urgency, Wanted};
use crate::pages::page_size;

/// The images of a snapshot on a local disk, for any number of restores.
///
/// Each pages file is opened once, and its pages are read through the kernel's cache of the file,
/// which all restores share. A map of the file would cost more: its page tables are built and torn
/// down. Compressed pages are unpacked by the thread that needs them.
///
/// Nobody may write to the pages files while a restore needs them. A file that becomes shorter is
/// an error of the read that needs the lost bytes.
///
/// ```no_run
/// use criu_rs::lazy::Images;
///
/// let images = Images::open("/ckpt")?;
/// println!("{} pages come later", images.snapshot().pages());
/// # Ok::<(), criu_rs::lazy::LazyError>(())
/// ```
#[derive(Debug)]
pub struct Images {
    snapshot: Arc<Snapshot>,
    set: PageSet,
    files: Vec<Opened>,
    /// The places of the pages of each task of the snapshot, in its order.
    tasks: Vec<Vec<Segment>>,
}

/// A pages file, or an archive with pages files.
#[derive(Debug)]
struct Opened {
    file: File,
    size: u64,
}

/// Pages of a task whose bytes lie together.
#[derive(Clone, Copy, Debug)]
struct Segment {
    start: u64,
    end: u64,
    place: Place,
}

/// The place of a segment's bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Place {
    /// A file by its number, and the offset of the first byte.
    File(usize, u64),
    /// Zeros: a hole of a file, or a compressed block of zeros.
    Zeros,
    /// Bytes that have to be read: compressed ones.
    Read,
}

impl Images {
    /// Opens the images in a directory.
    ///
    /// # Errors
    /// The errors of [`new`](Self::new).
    pub fn open(directory: impl Into<PathBuf>) -> Result<Self, LazyError> {
        Self::new(Directory::open(directory)?)
    }

    /// Opens the images of a source, such as an archive. The places of all missing pages are looked
    /// up now.
    ///
    /// # Errors
    /// [`LazyError::Images`] if an image cannot be read; [`LazyError::PageSize`] if the pages of
    /// the images are not those of this machine; [`LazyError::NoPage`] if the images or their
    /// parent sets lack a page, or a pages file ends before it.
    pub fn new(source: impl Source + Clone + 'static) -> Result<Self, LazyError> {
        let snapshot = Snapshot::of_source(source.clone())?;
        let set = PageSet::new(source, page_size());
        let mut files = Files::default();
        let mut tasks = Vec::with_capacity(snapshot.tasks().len());
        for task in snapshot.tasks() {
            let pid = task.pid();
            let stored = match set.pages(PageObject::Task(pid))? {
                Some(stored) => stored,
                None => return Err(no_page(pid, 0, "the task has no pagemap")),
            };
            tasks.push(files.segments(task, &stored)?);
        }
        Ok(Self { snapshot: Arc::new(snapshot), set, files: files.opened, tasks })
    }

    /// Returns the tasks of the images, and their missing pages.
    pub fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    /// Returns the number of a task, and its segment with an address.
    fn find(&self, pid: u32, address: u64) -> Option<(usize, &Segment)> {
        let task = self.snapshot.index(pid)?;
        let segments = self.tasks.get(task)?;
        let after = segments.partition_point(|segment| segment.start <= address);
        let segment = segments.get(after.checked_sub(1)?)?;
        (address < segment.end).then_some((task, segment))
    }
}

impl Supply for Images {
    fn is_near(&self) -> bool {
        true
    }

    fn reader(&self, urgency: Urgency) -> Result<Box<dyn Reader + '_>, LazyError> {
        Ok(Box::new(ImagesReader {
            images: self,
            packed: Vec::new(),
            buffer: Buffer::default(),
            urgency,
        }))
    }
}

/// A reader of [`Images`].
#[derive(Debug)]
struct ImagesReader<'i> {
    images: &'i Images,
    /// The tasks whose compressed pages have been read last, by their number.
    packed: Vec<(usize, StoredPages<'i>)>,
    buffer: Buffer,
    urgency: Urgency,
}

impl Reader for ImagesReader<'_> {
    fn read(&mut self, wanted: Wanted) -> Result<Pages<'_>, LazyError> {
        let Wanted { pid, address, pages } = wanted;
        let found = self.images.find(pid, address);
        let why = "it is not a page that the restore leaves out";
        let (task, segment) = found.ok_or_else(|| no_page(pid, address, why))?;
        let size = pages.max(1).saturating_mul(page_size().bytes()).min(segment.end - address);
        match segment.place {
            Place::Zeros => Ok(Pages::zeros(size)),
            Place::File(file, offset) => {
                let offset = offset + (address - segment.start);
                self.stored(wanted, file, offset, size)
            }
            Place::Read => self.unpacked(task, wanted, size),
        }
    }

    fn announce(&mut self, wanted: Wanted) -> Result<(), LazyError> {
        // Faults of the images are told when the pages are read.
        let found = self.images.find(wanted.pid, wanted.address);
        if let Some((_, Segment { start, end, place: Place::File(file, offset) })) = found {
            let size = wanted.pages.saturating_mul(page_size().bytes()).min(end - wanted.address);
            let offset = offset + (wanted.address - start);
            if let Some(Opened { file, .. }) = self.images.files.get(*file) {
                let range = (i64::try_from(offset), i64::try_from(size));
                if let (Ok(offset), Ok(size)) = range {
                    let _ =
                        posix_fadvise(file, offset, size, PosixFadviseAdvice::POSIX_FADV_WILLNEED);
                }
            }
        }
        Ok(())
    }

    fn depth(&self) -> usize {
        match self.urgency {
            Urgency::Fault => 0,
            Urgency::Background => DEPTH,
        }
    }
}

impl ImagesReader<'_> {
    /// Returns bytes of a file.
    fn stored(
        &mut self,
        wanted: Wanted,
        number: usize,
        offset: u64,
        size: u64,
    ) -> Result<Pages<'_>, LazyError> {
        let short = || no_page(wanted.pid, wanted.address, SHORTER);
        let file = self.images.files.get(number).ok_or_else(short)?;
        let bytes = self.buffer.pages(size.min(PIECE));
        match file.file.read_exact_at(bytes, offset) {
            Ok(()) => Ok(Pages::new(bytes)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(short()),
            Err(error) => Err(LazyError::system("read a pages file")(error)),
        }
    }

    /// Reads bytes that are not in a file as they are.
    fn unpacked(&mut self, task: usize, wanted: Wanted, size: u64) -> Result<Pages<'_>, LazyError> {
        let Wanted { pid, address, .. } = wanted;
        let known = self.packed.iter().position(|(known, _)| *known == task);
        let stored = match known {
            Some(at) => self.packed.remove(at).1,
            None => {
                let stored = self.images.set.pages(PageObject::Task(pid))?;
                stored.ok_or_else(|| no_page(pid, address, "the pagemap is gone"))?
            }
        };
        self.packed.truncate(PACKED - 1);
        self.packed.insert(0, (task, stored));
        let size = size.min(PIECE);
        let bytes = self.buffer.pages(size);
        if let Some((_, stored)) = self.packed.first() {
            stored.read_at(address, bytes)?;
        }
        Ok(Pages::new(bytes))
    }
}

/// The files of the images, as they are found.
#[derive(Default)]
struct Files {
    opened: Vec<Opened>,
    /// The numbers of files by device and inode.
    known: HashMap<(u64, u64), usize>,
}

impl Files {
    /// Looks up the places of a task's missing pages.
    fn segments(
        &mut self,
        task: &LazyTask,
        stored: &StoredPages<'_>,
    ) -> Result<Vec<Segment>, LazyError> {
        let mut segments = Vec::new();
        // The descriptors stay open as long as `stored` lives.
        let mut numbers = HashMap::new();
        for range in task.missing() {
            let mut start = range.start;
            while start < range.end {
                let chunk = stored.chunk(start)?.until(range.end);
                let end = chunk.end;
                if let Content::Absent(why) = chunk.content {
                    return Err(no_page(task.pid(), start, &why.to_string()));
                }
                let place = match (chunk.content, stored.in_file(start)?) {
                    (Content::Zero, _) => Place::Zeros,
                    (_, Some((file, offset, _))) => {
                        let number = match numbers.get(&file.as_raw_fd()) {
                            Some(number) => *number,
                            None => {
                                let number = self.number(file)?;
                                *numbers.entry(file.as_raw_fd()).or_insert(number)
                            }
                        };
                        Place::File(number, offset)
                    }
                    _ => Place::Read,
                };
                self.add(&mut segments, task.pid(), Segment { start, end, place })?;
                start = end;
            }
        }
        segments.shrink_to_fit();
        Ok(segments)
    }

    /// Keeps a file open, unless it is kept already. Returns its number.
    fn number(&mut self, file: &File) -> Result<usize, LazyError> {
        let failed = LazyError::system("keep a pages file open");
        let found = file.metadata().map_err(&failed)?;
        let id = (found.dev(), found.ino());
        if let Some(number) = self.known.get(&id) {
            return Ok(*number);
        }
        let file = file.try_clone().map_err(&failed)?;
        let number = self.opened.len();
        self.opened.push(Opened { file, size: found.len() });
        self.known.insert(id, number);
        Ok(number)
    }

    /// Adds a segment after the ones before, without the holes of its file.
    fn add(
        &self,
        segments: &mut Vec<Segment>,
        pid: u32,
        segment: Segment,
    ) -> Result<(), LazyError> {
        let Place::File(number, offset) = segment.place else {
            push(segments, segment);
            return Ok(());
        };
        let Some(Opened { file, size }) = self.opened.get(number) else {
            return Ok(());
        };
        let Segment { mut start, end, .. } = segment;
        if offset.saturating_add(end - start) > *size {
            let have = size.saturating_sub(offset) / page_size().bytes();
            let lacking = start.saturating_add(have.saturating_mul(page_size().bytes()));
            return Err(no_page(pid, lacking, "the pages file ends before it"));
        }
        let at = |address: u64| offset + (address - segment.start);
        while start < end {
            let (is_hole, until) = hole_or_data(file, at(start), at(end));
            let until = start + (until - at(start));
            let place = if is_hole { Place::Zeros } else { Place::File(number, at(start)) };
            push(segments, Segment { start, end: until, place });
            start = until;
        }
        Ok(())
    }
}

/// Adds a segment, and joins it with the one before if both lie together.
fn push(segments: &mut Vec<Segment>, segment: Segment) {
    if let Some(last) = segments.last_mut().filter(|last| last.end == segment.start) {
        let joined = match (last.place, segment.place) {
            (Place::File(file, offset), Place::File(next, at)) => {
                file == next && offset + (last.end - last.start) == at
            }
            (one, other) => one == other,
        };
        if joined {
            last.end = segment.end;
            return;
        }
    }
    segments.push(segment);
}

/// Returns the end of the bytes from `start` on that are all in a hole of a file, or all are not,
/// and `true` for a hole. Holes that are not worth a segment count as data, and so do all bytes if
/// the system does not tell. Both addresses lie on pages of the task, which need not be those of
/// the file.
fn hole_or_data(file: &File, start: u64, end: u64) -> (bool, u64) {
    let seek = |from: u64, whence| {
        let found = i64::try_from(from).map(|from| lseek(file, from, whence)).ok()?;
        match found {
            Ok(found) => u64::try_from(found).ok().map(|found| found.min(end)),
            // No data follows.
            Err(Errno::ENXIO) => Some(end),
            Err(_) => None,
        }
    };
    // On a tmpfs each search for a hole looks at every page up to the hole, and each run of pages
    // takes a search.
    let is_whole = |file: &File| {
        let facts = file.metadata().ok()?;
        Some(facts.blocks().saturating_mul(BLOCK) >= facts.len())
    };
    if is_whole(file) == Some(true) {
        return (false, end);
    }
    let page = page_size().bytes();
    let data = |from: u64| {
        let data = seek(from, Whence::SeekData)?;
        Some(start + data.saturating_sub(start) / page * page)
    };
    let hole = |from: u64| {
        let hole = seek(from, Whence::SeekHole)?;
        Some((start + hole.saturating_sub(start).div_ceil(page).saturating_mul(page)).min(end))
    };
    let mut at = match data(start) {
        Some(data) if data > start && (data == end || data - start >= HOLE) => return (true, data),
        Some(data) => data,
        None => return (false, end),
    };
    while let Some(begins) = hole(at).filter(|begins| *begins < end) {
        let ends = data(begins).unwrap_or(end);
        if ends == end || ends.saturating_sub(begins) >= HOLE {
            return (false, begins);
        }
        at = ends.max(begins + page);
    }
    (false, end)
}

fn no_page(pid: u32, address: u64, why: &str) -> LazyError {
    LazyError::NoPage { pid, address, why: why.to_owned() }
}

/// The bytes of a block that a file takes on its device, as stat(2) counts them.
const BLOCK: u64 = 512;
/// The smallest hole of a file that is kept apart.
const HOLE: u64 = 64 << 10;

/// Requests that a disk gets at once. One after another takes a disk five times as long.
const DEPTH: usize = 64;
/// The most bytes that are read or unpacked at once.
const PIECE: u64 = 256 << 10;
/// The tasks of which a reader keeps the places of compressed pages. Each takes a descriptor for
/// every level of the set, and the pagemap is read again for any other task.
const PACKED: usize = 32;
const SHORTER: &str = "the pages file has become shorter";
