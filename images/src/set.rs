//! Sets of images: a checkpoint, a pre-dump, or a copy of either.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock};

use crate::aside::is_interrupted;
use crate::bpf::Summaries;
use crate::error::{Error, ErrorKind, Result};
use crate::files::FileTable;
use crate::kept::Bytes;
use crate::kind;
use crate::proto::{CgroupEntry, InventoryEntry, SeccompEntry};
use crate::source::{Directory, Source};
use crate::store::Store;
use crate::tree::Tree;
use crate::working_set::WorkingSet;

/// The images of one dump. A set owns what has been read; tasks, files and memory borrow from it.
///
/// Images are read when first needed. Images of the whole set (tree, files, seccomp, cgroups) and
/// small images of tasks are then kept, so a change of their files goes unnoticed. Other images are
/// read by each call that asks for them.
///
/// ```
/// use criu_images::ImageSet;
///
/// let set = ImageSet::open("tests/data/pipeline")?;
/// assert_eq!(set.inventory().img_version, 2);
/// println!("{}", set.checkpoint()?.tree());
/// # Ok::<(), criu_images::Error>(())
/// ```
pub struct ImageSet {
    store: Store,
    inventory: InventoryEntry,
    tree: OnceLock<Tree>,
    files: OnceLock<FileTable>,
    seccomp: OnceLock<SeccompEntry>,
    cgroup: OnceLock<CgroupEntry>,
    summaries: Mutex<Summaries>,
}

impl ImageSet {
    /// Opens the images in a directory and reads their inventory.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if the directory cannot be read; [`ErrorKind::Malformed`] if an edit of it
    /// was killed and [`recover`](crate::edit::recover) has to complete the edit; those of
    /// [`new`](Self::new).
    pub fn open(directory: impl Into<PathBuf>) -> Result<Self> {
        let directory = directory.into();
        Self::new(Directory::open(&directory)?).map_err(|error| match error.kind() {
            ErrorKind::Missing if is_interrupted(&directory) => {
                let what = "was put aside by a killed edit: edit::recover completes the edit";
                Error::new(kind::INVENTORY.file, ErrorKind::Malformed(what))
            }
            _ => error,
        })
    }

    /// Opens the images of a source and reads their inventory.
    ///
    /// # Errors
    /// [`ErrorKind::Missing`] if there is no inventory, as after a failed dump;
    /// [`ErrorKind::Version`] if the version of the images is unknown; those of parsing an image.
    pub fn new(source: impl Source + 'static) -> Result<Self> {
        let store = Store::new(Box::new(source));
        let inventory: InventoryEntry = store.single(kind::INVENTORY, 0)?;
        if !(1..=3).contains(&inventory.img_version) {
            let kind = ErrorKind::Version(inventory.img_version);
            return Err(Error::new(kind::INVENTORY.file, kind));
        }
        Ok(Self {
            store,
            inventory,
            tree: OnceLock::new(),
            files: OnceLock::new(),
            seccomp: OnceLock::new(),
            cgroup: OnceLock::new(),
            summaries: Mutex::default(),
        })
    }

    /// Facts about the whole set, such as the version of its images: `inventory.img`.
    pub fn inventory(&self) -> &InventoryEntry {
        &self.inventory
    }

    /// Names of all files of the set, images or not.
    ///
    /// # Errors
    /// [`ErrorKind::Io`].
    pub fn names(&self) -> Result<Vec<String>> {
        self.store.names()
    }

    /// Bytes of one image, for [`Image::parse`](crate::Image::parse); `None` if the set does not
    /// have the image. Pages are read through [`Memory`](crate::memory::Memory) instead.
    ///
    /// # Errors
    /// [`ErrorKind::Io`]; [`ErrorKind::NotAFile`]; [`ErrorKind::TooLarge`] above
    /// [`IMAGE`](crate::bounds::IMAGE).
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        Ok(self.store.read(name)?.map(Bytes::into_vec))
    }

    /// Reads the working set beside the images, which a lazy restore may have recorded. Returns
    /// `None` if there is none.
    ///
    /// # Errors
    /// The errors of [`WorkingSet::of`]. Nothing but a lazy restore needs the file.
    pub fn working_set(&self) -> Result<Option<WorkingSet>> {
        WorkingSet::of(self.store.level().source())
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Tasks of the set. A pre-dump does not have any.
    pub(crate) fn tree(&self) -> Result<&Tree> {
        cached(&self.tree, || Tree::read(&self.store))
    }

    /// Open files of all tasks.
    pub(crate) fn files(&self) -> Result<&FileTable> {
        cached(&self.files, || FileTable::read(&self.store))
    }

    /// Seccomp filters of all threads; empty if the set does not have the image.
    pub(crate) fn seccomp(&self) -> Result<&SeccompEntry> {
        cached(&self.seccomp, || Ok(self.store.optional(kind::SECCOMP, 0)?.unwrap_or_default()))
    }

    /// Summaries of the seccomp filters, made when first asked for.
    pub(crate) fn summaries(&self) -> &Mutex<Summaries> {
        &self.summaries
    }

    /// Cgroups of all threads; empty if the set does not have the image.
    pub(crate) fn cgroup(&self) -> Result<&CgroupEntry> {
        cached(&self.cgroup, || Ok(self.store.optional(kind::CGROUP, 0)?.unwrap_or_default()))
    }
}

impl fmt::Debug for ImageSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = self.store.level().source();
        f.debug_tuple("ImageSet").field(&source).finish()
    }
}

/// Returns the value of a cell, and makes the value first if needed. Two threads may both make a
/// value; the first one stored is kept.
fn cached<T>(cell: &OnceLock<T>, make: impl FnOnce() -> Result<T>) -> Result<&T> {
    match cell.get() {
        Some(value) => Ok(value),
        None => {
            let value = make()?;
            Ok(cell.get_or_init(|| value))
        }
    }
}
