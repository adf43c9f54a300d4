//! Any object that can be read at a position as a source of pages.

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use super::buffer::Buffer;
use super::error::LazyError;
use super::supply::{Pages, Reader, Supply, Urgency, Wanted};
use crate::pages::page_size;

/// Bytes that can be read at a position: a file, a blob of a store, a member of an archive.
pub trait Object: fmt::Debug + Send + Sync {
    /// Fills `buf` from an offset on. Threads read at the same time.
    ///
    /// # Errors
    /// The object's own. `UnexpectedEof` if the bytes end before `buf` is full.
    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()>;
}

impl Object for File {
    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        FileExt::read_exact_at(self, buf, offset)
    }
}

/// Pages of a task that lie together in an [`Object`].
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct ObjectRun {
    /// The task, by its pid in the images. For a virtual machine any number.
    pub pid: u32,
    /// The addresses.
    pub addresses: Range<u64>,
    /// The offset of the first byte in the object.
    pub offset: u64,
}

/// An object as a source of pages, for any number of restores.
///
/// ```no_run
/// use std::fs::File;
///
/// use criu_rs::lazy::{ObjectPages, ObjectRun};
///
/// let memory = File::open("/vm/memory")?;
/// let runs = vec![ObjectRun::new(1, 0x7f00_0000_0000..0x7f00_4000_0000, 0)];
/// let source = ObjectPages::of_file(memory, runs)?;
/// # drop(source);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct ObjectPages {
    object: Box<dyn Object>,
    /// The runs, by rising pid and address.
    runs: Vec<ObjectRun>,
}

impl ObjectRun {
    /// Names a run of pages.
    pub fn new(pid: u32, addresses: Range<u64>, offset: u64) -> Self {
        Self { pid, addresses, offset }
    }

    /// Returns the offset after the last byte, if the run is one of whole pages.
    fn end(&self) -> Option<u64> {
        let (start, end) = (self.addresses.start, self.addresses.end);
        let is_whole = start < end && (start | end) % page_size().bytes() == 0;
        let size = is_whole.then(|| end - start)?;
        self.offset.checked_add(size).filter(|end| i64::try_from(*end).is_ok())
    }
}

impl ObjectPages {
    /// Takes an object, and the places of its pages. A read that fails is not tried again: the
    /// object knows best when that helps.
    ///
    /// # Errors
    /// [`LazyError::NoPage`] for a run that does not consist of whole pages, that overlaps another
    /// one, or that passes the end of all memory or files.
    pub fn new(object: impl Object + 'static, runs: Vec<ObjectRun>) -> Result<Self, LazyError> {
        Ok(Self { object: Box::new(object), runs: sorted(runs)? })
    }

    /// Takes a file that has all pages of the runs. Nobody may write to the file while a restore
    /// needs it.
    ///
    /// # Errors
    /// The errors of [`new`](Self::new). [`LazyError::NoPage`] if the file ends before a page.
    pub fn of_file(file: File, runs: Vec<ObjectRun>) -> Result<Self, LazyError> {
        let size = file.metadata().map_err(LazyError::system("look at the object"))?.len();
        let pages = Self::new(file, runs)?;
        match pages.runs.iter().find(|run| run.end().is_none_or(|end| end > size)) {
            Some(run) => Err(no_page(run, "the file ends before the last page of its run")),
            None => Ok(pages),
        }
    }

    /// Returns the addresses of a task's pages, ascending.
    pub fn missing(&self, pid: u32) -> Vec<Range<u64>> {
        let start = self.runs.partition_point(|run| run.pid < pid);
        let runs = self.runs.iter().skip(start).take_while(|run| run.pid == pid);
        runs.map(|run| run.addresses.clone()).collect()
    }

    fn find(&self, pid: u32, address: u64) -> Option<&ObjectRun> {
        let place = |run: &ObjectRun| (run.pid, run.addresses.start);
        let after = self.runs.partition_point(|run| place(run) <= (pid, address));
        let run = self.runs.get(after.checked_sub(1)?)?;
        (run.pid == pid && run.addresses.contains(&address)).then_some(run)
    }
}

impl Supply for ObjectPages {
    fn reader(&self, _: Urgency) -> Result<Box<dyn Reader + '_>, LazyError> {
        Ok(Box::new(ObjectReader { pages: self, buffer: Buffer::default() }))
    }
}

/// A reader of [`ObjectPages`].
struct ObjectReader<'o> {
    pages: &'o ObjectPages,
    buffer: Buffer,
}

impl Reader for ObjectReader<'_> {
    fn read(&mut self, wanted: Wanted) -> Result<Pages<'_>, LazyError> {
        let Wanted { pid, address, pages } = wanted;
        let no_page = |why: &str| LazyError::NoPage { pid, address, why: why.to_owned() };
        let run = self.pages.find(pid, address);
        let run = run.ok_or_else(|| no_page("no run of the object has it"))?;
        let offset = run.offset + (address - run.addresses.start);
        let size = pages.max(1).saturating_mul(page_size().bytes());
        let size = size.min(run.addresses.end - address);
        let bytes = self.buffer.pages(size.min(PIECE));
        match self.pages.object.read_exact_at(offset, bytes) {
            Ok(()) => Ok(Pages::new(bytes)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(no_page("the object ends before it"))
            }
            Err(error) => Err(LazyError::system("read the object")(error)),
        }
    }
}

/// Sorts runs, and checks them.
fn sorted(mut runs: Vec<ObjectRun>) -> Result<Vec<ObjectRun>, LazyError> {
    runs.sort_unstable_by_key(|run| (run.pid, run.addresses.start));
    let mut before = (0, 0);
    for run in &runs {
        if run.end().is_none() {
            return Err(no_page(run, "its run does not consist of whole pages of a file"));
        }
        if (run.pid, run.addresses.start) < before {
            return Err(no_page(run, "two runs have it"));
        }
        before = (run.pid, run.addresses.end);
    }
    Ok(runs)
}

fn no_page(run: &ObjectRun, why: &str) -> LazyError {
    LazyError::NoPage { pid: run.pid, address: run.addresses.start, why: why.to_owned() }
}

/// The most bytes that are read at once.
const PIECE: u64 = 256 << 10;
