//! A set of images: one checkpoint, one pre-dump, or a copy of either.

use std::fmt;
use std::path::PathBuf;
use std::sync::OnceLock;

use crate::aside::is_interrupted;
use crate::error::{Error, ErrorKind, Result};
use crate::files::FileTable;
use crate::kind;
use crate::proto::{CgroupEntry, InventoryEntry, SeccompEntry};
use crate::source::{Directory, Source};
use crate::store::Store;
use crate::tree::Tree;

/// The images of one dump. It owns what has been read; everything else borrows from it.
///
/// What belongs to the whole set is read once, when it is first wanted; what belongs to one task is
/// read by the call that asks for it.
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
}

impl ImageSet {
    /// Opens the images in a directory.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when the directory cannot be read; [`ErrorKind::Malformed`] while it waits for
    /// [`recover`](crate::edit::recover); those of [`new`](Self::new).
    pub fn open(directory: impl Into<PathBuf>) -> Result<Self> {
        let directory = directory.into();
        Self::new(Directory::open(&directory)?).map_err(|error| match error.kind() {
            ErrorKind::Missing if is_interrupted(&directory) => {
                let what = "is aside, since an edit was killed: edit::recover completes it";
                Error::new(kind::INVENTORY.file, ErrorKind::Malformed(what))
            }
            _ => error,
        })
    }

    /// Opens the images that a source holds, and reads their inventory.
    ///
    /// # Errors
    /// [`ErrorKind::Missing`] when there is no inventory, as after a failed dump;
    /// [`ErrorKind::Version`] when its layout is unknown; those of any image.
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
        })
    }

    /// What is true of the whole set.
    pub fn inventory(&self) -> &InventoryEntry {
        &self.inventory
    }

    /// The names of all files of the set.
    ///
    /// # Errors
    /// [`ErrorKind::Io`].
    pub fn names(&self) -> Result<Vec<String>> {
        self.store.names()
    }

    /// The bytes of one image, for [`Image::parse`]; `None` when the set lacks it. Not for pages.
    ///
    /// # Errors
    /// [`ErrorKind::Io`]; [`ErrorKind::NotAFile`]; [`ErrorKind::TooLarge`] above
    /// [`IMAGE`](crate::bounds::IMAGE).
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        self.store.read(name)
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// The tasks. A pre-dump has none.
    pub(crate) fn tree(&self) -> Result<&Tree> {
        cached(&self.tree, || Tree::read(&self.store))
    }

    /// The open files of all tasks.
    pub(crate) fn files(&self) -> Result<&FileTable> {
        cached(&self.files, || FileTable::read(&self.store))
    }

    /// The seccomp filters of all threads; none when the set lacks the image.
    pub(crate) fn seccomp(&self) -> Result<&SeccompEntry> {
        cached(&self.seccomp, || Ok(self.store.optional(kind::SECCOMP, 0)?.unwrap_or_default()))
    }

    /// The cgroups of all threads; none when the set lacks the image.
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

/// A value made once. Two threads may both make it; one wins.
fn cached<T>(cell: &OnceLock<T>, make: impl FnOnce() -> Result<T>) -> Result<&T> {
    match cell.get() {
        Some(value) => Ok(value),
        None => {
            let value = make()?;
            Ok(cell.get_or_init(|| value))
        }
    }
}
