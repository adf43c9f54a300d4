//! The images of a capture, whose pages are still where they were in the freeze.

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use criu_images::Result as ImagesResult;
use criu_images::memory::PageObject;
use criu_images::source::{Blob, Directory, ReadAt, Source};

use super::error::InstantError;
use super::memory::Memory;
use crate::pages::PagesError;
use crate::pages::laid_out::{LaidOut, lay_out};
use crate::pages::merge::{Course, Merged};
use crate::sys::proc_link;

/// A function that takes the images of a capture.
pub(super) struct Taker(pub(super) Box<Take>);

type Take = dyn FnOnce(Arc<dyn Source>) -> Result<(), Box<dyn StdError + Send + Sync>> + Send;

impl fmt::Debug for Taker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Taker")
    }
}

impl Taker {
    /// Calls the function with the images: those in the directory, and the pages.
    ///
    /// # Errors
    /// [`InstantError::Pages`] if a page could not be read; [`InstantError::Taker`].
    pub(super) fn call(
        self,
        directory: &OwnedFd,
        memory: &Arc<Memory>,
        course: &Arc<Course>,
    ) -> Result<Merged, InstantError> {
        let directory = Directory::open(proc_link(directory.as_fd()))?;
        let mut next = FIRST;
        let pages_id = || {
            next += 1;
            next - 1
        };
        let (laid_out, merged) = {
            let holders = memory.holders();
            let held: Vec<_> = holders.tasks().iter().map(|task| task.pages()).collect();
            lay_out(&memory.recording, &held, pages_id, course)?
        };
        let reader = Reader {
            memory: Arc::clone(memory),
            course: Arc::clone(course),
            failed: Arc::default(),
        };
        let failed = Arc::clone(&reader.failed);
        let taken = (self.0)(Arc::new(Images::new(directory, laid_out, &reader)?));
        // The reason of a failure, of which the function has only seen the words.
        if let Some(error) = failed.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(error.into());
        }
        taken.map_err(InstantError::Taker)?;
        Ok(merged)
    }
}

/// The images of a capture. Pages can be read until the capture has ended.
#[derive(Debug)]
struct Images {
    /// The images that CRIU has written.
    directory: Directory,
    /// Pagemaps and pages files.
    files: BTreeMap<String, Blob>,
}

impl Images {
    fn new(directory: Directory, laid_out: Vec<LaidOut>, reader: &Reader) -> ImagesResult<Self> {
        let mut files = BTreeMap::new();
        for mut laid_out in laid_out {
            let pagemap = std::mem::take(&mut laid_out.pagemap);
            files.insert(laid_out.object.file_name(), Blob::from(pagemap));
            let name = format!("pages-{}.img", laid_out.pages_id);
            files.insert(name, Blob::new(Pages { laid_out, reader: reader.clone() }));
        }
        Ok(Self { directory, files })
    }
}

impl Source for Images {
    fn names(&self) -> ImagesResult<Vec<String>> {
        let is_file = |name: &String| matches!(self.directory.size(name), Ok(Some(_)));
        let there = self.directory.names()?.into_iter();
        let there = there.filter(|name| is_file(name) && !self.files.contains_key(name));
        Ok(there.chain(self.files.keys().cloned()).collect())
    }

    fn open(&self, name: &str) -> ImagesResult<Option<Blob>> {
        match self.files.get(name) {
            Some(blob) => Ok(Some(blob.clone())),
            None => self.directory.open(name),
        }
    }

    fn size(&self, name: &str) -> ImagesResult<Option<u64>> {
        match self.files.get(name) {
            Some(blob) => Ok(Some(blob.len())),
            None => self.directory.size(name),
        }
    }

    fn parent(&self) -> ImagesResult<Option<Box<dyn Source>>> {
        self.directory.parent()
    }
}

/// The means by which the pages of a capture are read.
#[derive(Clone, Debug)]
struct Reader {
    memory: Arc<Memory>,
    course: Arc<Course>,
    /// The first error.
    failed: Arc<Mutex<Option<PagesError>>>,
}

/// The bytes of a pages file.
#[derive(Debug)]
struct Pages {
    laid_out: LaidOut,
    reader: Reader,
}

impl ReadAt for Pages {
    fn size(&self) -> u64 {
        self.laid_out.size
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let Self { laid_out, reader: Reader { memory, course, failed } } = self;
        let holders = memory.holders();
        if holders.are_taken() {
            return Err(io::Error::other("the capture has ended, and the pages are gone"));
        }
        let is_it = |pid: u32| PageObject::Task(pid) == laid_out.object;
        let task = holders.tasks().iter().find(|task| is_it(task.inner));
        let task = task.map(|task| task.pages());
        let read = laid_out.read_at(&memory.recording, task, offset, buffer, course);
        read.map_err(|error| {
            let words = io::Error::other(error.to_string());
            failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            words
        })
    }
}

/// The number of the first pages file, as in a directory that receives pages. CRIU's own files have
/// smaller ones.
const FIRST: u32 = 0x1_0001;
