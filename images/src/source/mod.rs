//! Sources of the bytes of a set: a directory, an archive, or memory.
//!
//! Names are plain file names. The sources here follow no symbolic link except `parent`, the
//! format's own way to the previous set. They refuse an image that is not a regular file.

mod directory;
mod map;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use memmap2::Mmap;
use nix::errno::Errno;
use nix::unistd::{Whence, lseek};

use crate::error::{ErrorKind, Result};
pub use directory::Directory;
pub use map::Mapped;

/// A holder of the files of a set.
pub trait Source: fmt::Debug + Send + Sync {
    /// Lists the names of all files, in no particular order.
    ///
    /// # Errors
    /// [`ErrorKind::Io`].
    fn names(&self) -> Result<Vec<String>>;

    /// Opens a file; `None` if there is no file of this name.
    ///
    /// # Errors
    /// [`ErrorKind::Io`],
    /// [`ErrorKind::NotAFile`].
    fn open(&self, name: &str) -> Result<Option<Blob>>;

    /// Returns the size of a file in bytes; `None` if there is no file of this name. Opens the file
    /// unless the source can tell otherwise.
    ///
    /// # Errors
    /// The errors of [`open`](Self::open).
    fn size(&self, name: &str) -> Result<Option<u64>> {
        Ok(self.open(name)?.map(|blob| blob.len()))
    }

    /// Opens the parent set, which holds the pages that this set leaves to it; `None` if there is
    /// no parent set.
    ///
    /// # Errors
    /// [`ErrorKind::Io`]; [`ErrorKind::Chain`] if
    /// the parent is a set that already led here.
    fn parent(&self) -> Result<Option<Box<dyn Source>>>;
}

/// A source that several owners share.
impl<S: Source + ?Sized> Source for Arc<S> {
    fn names(&self) -> Result<Vec<String>> {
        (**self).names()
    }

    fn open(&self, name: &str) -> Result<Option<Blob>> {
        (**self).open(name)
    }

    fn size(&self, name: &str) -> Result<Option<u64>> {
        (**self).size(name)
    }

    fn parent(&self) -> Result<Option<Box<dyn Source>>> {
        (**self).parent()
    }
}

/// Bytes that can be read at any place: those of a member of a compressed archive, or of a blob in
/// a registry. A reader may be used by several threads at once.
pub trait ReadAt: fmt::Debug + Send + Sync {
    /// Number of bytes.
    fn size(&self) -> u64;

    /// Fills `buf` from `offset` on.
    ///
    /// # Errors
    /// The errors of the place where the bytes are; `UnexpectedEof` if the bytes end before `buf`
    /// is full.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()>;
}

/// Bytes of one file, read on demand. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Blob(Inner);

#[derive(Clone, Debug)]
enum Inner {
    /// `len` bytes of a file, from an offset on.
    File {
        file: Arc<File>,
        start: u64,
        len: u64,
    },
    Memory(Arc<[u8]>),
    Mapped(Arc<Mmap>),
    /// `len` bytes of something else, from an offset on.
    Other {
        bytes: Arc<dyn ReadAt>,
        start: u64,
        len: u64,
    },
}

impl Blob {
    /// Makes a blob of other bytes.
    pub fn new(bytes: impl ReadAt + 'static) -> Self {
        let len = bytes.size();
        Self(Inner::Other { bytes: Arc::new(bytes), start: 0, len })
    }

    /// Makes a blob of a part of a file. `start + len` must fit into a `u64`.
    pub(crate) fn part(file: Arc<File>, start: u64, len: u64) -> Self {
        Self(Inner::File { file, start, len })
    }

    /// Returns `len` of the bytes, from `start` on; `None` if there are not so many bytes.
    #[must_use]
    pub fn slice(&self, start: u64, len: u64) -> Option<Self> {
        if start.checked_add(len)? > self.len() {
            return None;
        }
        Some(Self(match &self.0 {
            Inner::File { file, start: base, .. } => {
                Inner::File { file: Arc::clone(file), start: base.checked_add(start)?, len }
            }
            Inner::Other { bytes, start: base, .. } => {
                Inner::Other { bytes: Arc::clone(bytes), start: base.checked_add(start)?, len }
            }
            Inner::Memory(_) | Inner::Mapped(_) => {
                Inner::Other { bytes: Arc::new(self.clone()), start, len }
            }
        }))
    }

    /// Number of bytes at the time when the file was opened.
    pub fn len(&self) -> u64 {
        match &self.0 {
            Inner::File { len, .. } | Inner::Other { len, .. } => *len,
            Inner::Memory(bytes) => bytes.len() as u64,
            Inner::Mapped(bytes) => bytes.len() as u64,
        }
    }

    /// The file to read from, and the offset of the first byte; `None` if the bytes are in memory.
    pub(crate) fn file(&self) -> Option<(&File, u64)> {
        match &self.0 {
            Inner::File { file, start, .. } => Some((file, *start)),
            _ => None,
        }
    }

    /// Returns the offset up to which the file has a hole, if it has one at `offset`. A hole reads
    /// as zeros and takes no room. `None` also if the file system does not tell.
    pub(crate) fn hole(&self, offset: u64) -> Option<u64> {
        let Inner::File { file, start, len } = &self.0 else { return None };
        let at = i64::try_from(start.checked_add(offset)?).ok()?;
        let next = match lseek(&**file, at, Whence::SeekData) {
            Ok(data) => u64::try_from(data).ok()?.checked_sub(*start)?.min(*len),
            // No data follows.
            Err(Errno::ENXIO) => *len,
            Err(_) => return None,
        };
        (next > offset).then_some(next)
    }

    /// The bytes, if they are in memory; `None` if they have to be read.
    pub fn bytes(&self) -> Option<&[u8]> {
        match &self.0 {
            Inner::File { .. } | Inner::Other { .. } => None,
            Inner::Memory(bytes) => Some(bytes),
            Inner::Mapped(bytes) => Some(bytes),
        }
    }

    /// Returns `true` if there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads all bytes into memory.
    ///
    /// # Errors
    /// [`ErrorKind::TooLarge`] if there are more than `limit` bytes; [`ErrorKind::Io`] with the
    /// errors of [`read_at`](Self::read_at).
    pub fn to_vec(&self, limit: u64) -> Result<Vec<u8>, ErrorKind> {
        let too_large = ErrorKind::TooLarge { size: self.len(), limit };
        let size = usize::try_from(self.len()).ok().filter(|_| self.len() <= limit);
        let mut bytes = vec![0; size.ok_or(too_large)?];
        self.read_at(0, &mut bytes).map_err(ErrorKind::Io)?;
        Ok(bytes)
    }

    /// Fills `buf` from `offset` on.
    ///
    /// # Errors
    /// The errors of pread(2), or of the [`ReadAt`]; `UnexpectedEof` if the bytes end before `buf`
    /// is full.
    pub fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(buf.len() as u64);
        if end.is_none_or(|end| end > self.len()) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match &self.0 {
            Inner::File { file, start, .. } => return file.read_exact_at(buf, start + offset),
            Inner::Other { bytes, start, .. } => return bytes.read_at(start + offset, buf),
            Inner::Memory(_) | Inner::Mapped(_) => {}
        }
        let start = usize::try_from(offset).ok();
        let rest = start.zip(self.bytes()).and_then(|(start, bytes)| bytes.get(start..));
        match rest.and_then(|rest| rest.get(..buf.len())) {
            Some(found) => buf.copy_from_slice(found),
            None => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
        Ok(())
    }
}

impl ReadAt for Blob {
    fn size(&self) -> u64 {
        self.len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        Blob::read_at(self, offset, buf)
    }
}

/// A regular file as it is now: the number of its bytes is asked for once.
impl TryFrom<File> for Blob {
    type Error = io::Error;

    fn try_from(file: File) -> io::Result<Self> {
        let len = file.metadata()?.len();
        Ok(Self::part(Arc::new(file), 0, len))
    }
}

impl From<Vec<u8>> for Blob {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Inner::Memory(bytes.into()))
    }
}

impl From<Mmap> for Blob {
    fn from(map: Mmap) -> Self {
        Self(Inner::Mapped(map.into()))
    }
}

/// A set in memory.
///
/// ```
/// use criu_images::source::InMemory;
/// use criu_images::{ErrorKind, ImageSet};
///
/// let mut files = InMemory::default();
/// files.insert("pages-1.img", vec![0; 4096]);
/// let error = ImageSet::new(files).unwrap_err();
/// assert_eq!(error.to_string(), "inventory.img: is missing");
/// ```
#[derive(Clone, Debug, Default)]
pub struct InMemory {
    files: BTreeMap<String, Blob>,
    parent: Option<Box<InMemory>>,
}

impl InMemory {
    /// Adds or replaces a file.
    pub fn insert(&mut self, name: impl Into<String>, bytes: impl Into<Vec<u8>>) {
        self.files.insert(name.into(), Blob::from(bytes.into()));
    }

    /// Removes a file.
    pub fn remove(&mut self, name: &str) {
        self.files.remove(name);
    }

    /// Sets the parent set.
    pub fn set_parent(&mut self, parent: InMemory) {
        self.parent = Some(Box::new(parent));
    }
}

impl Source for InMemory {
    fn names(&self) -> Result<Vec<String>> {
        Ok(self.files.keys().cloned().collect())
    }

    fn open(&self, name: &str) -> Result<Option<Blob>> {
        Ok(self.files.get(name).cloned())
    }

    fn parent(&self) -> Result<Option<Box<dyn Source>>> {
        let parent = self.parent.clone();
        Ok(parent.map(|parent| parent as Box<dyn Source>))
    }
}
