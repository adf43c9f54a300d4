//! A directory of images.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{self, AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};

use crate::error::{Error, ErrorKind, Fault, Result};
use crate::source::{Blob, Source};

/// A directory of images, as `criu dump -D` fills it. The directory is opened once and held: its
/// files are those of this directory even if its path comes to lead elsewhere.
#[derive(Clone, Debug)]
pub struct Directory {
    path: PathBuf,
    directory: Arc<OwnedFd>,
    /// Device and inode of this directory, and of the directories whose `parent` led here.
    passed: Vec<(u64, u64)>,
}

impl Directory {
    /// Opens a directory by its path.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if the path cannot be reached or is not a directory.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let opened = fcntl::open(&path, HELD, Mode::empty()).map_err(fault);
        let reached = opened.and_then(|opened| Self::reach(path.clone(), opened, Vec::new()));
        reached.map_err(|fault| Error::new(path.to_string_lossy(), fault))
    }

    /// Takes a directory that is open.
    pub(crate) fn held(path: impl Into<PathBuf>, directory: OwnedFd) -> Result<Self> {
        let path = path.into();
        let reached = Self::reach(path.clone(), directory, Vec::new());
        reached.map_err(|fault| Error::new(path.to_string_lossy(), fault))
    }

    fn reach(
        path: PathBuf,
        directory: OwnedFd,
        mut passed: Vec<(u64, u64)>,
    ) -> Result<Self, Fault> {
        let found = fstat(&directory).map_err(fault)?;
        let id = (found.st_dev, found.st_ino);
        if passed.contains(&id) {
            return Err(ErrorKind::Chain(passed.len()).into());
        }
        passed.push(id);
        Ok(Self { path, directory: Arc::new(directory), passed })
    }

    /// Path by which the directory was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a regular file and returns its size in bytes.
    pub(crate) fn open_file(&self, name: &str) -> Result<Option<(File, u64)>> {
        let fail = |fault: Fault| Error::new(name, fault);
        if !is_plain(name) {
            return Err(fail(ErrorKind::NotAFile.into()));
        }
        // Links are not followed, and a fifo without a writer does not block.
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
        let file = match openat(&self.directory, name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::ENOENT) => return Ok(None),
            // A link, and a socket.
            Err(Errno::ELOOP | Errno::ENXIO) => return Err(fail(ErrorKind::NotAFile.into())),
            Err(error) => return Err(fail(fault(error))),
        };
        let found = fstat(&file).map_err(|error| fail(fault(error)))?;
        let size = regular(&found).map_err(|kind| fail(kind.into()))?;
        Ok(Some((File::from(file), size)))
    }

    /// Opens the directory that `parent` leads to; `None` if there is no `parent`.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if `parent` leads to no directory; [`ErrorKind::Chain`] if it leads to a
    /// directory that already led here.
    pub fn parent_directory(&self) -> Result<Option<Self>> {
        let name = "parent";
        let fail = |fault: Fault| Error::new(name, fault);
        match openat(&self.directory, name, HELD, Mode::empty()) {
            Ok(parent) => {
                let parent = Self::reach(self.path.join(name), parent, self.passed.clone());
                parent.map(Some).map_err(fail)
            }
            // The link is there, but leads nowhere.
            Err(Errno::ENOENT) if !self.is_there(name) => Ok(None),
            Err(error) => Err(fail(fault(error))),
        }
    }

    fn is_there(&self, name: &str) -> bool {
        let found = fstatat(&self.directory, name, AtFlags::AT_SYMLINK_NOFOLLOW);
        !matches!(found, Err(Errno::ENOENT))
    }
}

/// The directory as a place to open files from (`O_PATH`).
impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

impl Source for Directory {
    fn names(&self) -> Result<Vec<String>> {
        let read = || -> nix::Result<Vec<String>> {
            let mut names = Vec::new();
            // Opened anew: a position in the held directory would be shared.
            let mut directory = Dir::openat(&self.directory, ".", LISTED, Mode::empty())?;
            for entry in directory.iter() {
                let entry = entry?;
                // No image has a name that is not UTF-8.
                let name = entry.file_name().to_str().ok();
                names.extend(name.filter(|name| is_plain(name)).map(str::to_owned));
            }
            Ok(names)
        };
        read().map_err(|error| Error::new(self.path.to_string_lossy(), fault(error)))
    }

    fn open(&self, name: &str) -> Result<Option<Blob>> {
        let file = self.open_file(name)?;
        Ok(file.map(|(file, len)| Blob::part(Arc::new(file), 0, len)))
    }

    fn size(&self, name: &str) -> Result<Option<u64>> {
        let fail = |fault: Fault| Error::new(name, fault);
        if !is_plain(name) {
            return Err(fail(ErrorKind::NotAFile.into()));
        }
        match fstatat(&self.directory, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(found) => regular(&found).map(Some).map_err(|kind| fail(kind.into())),
            Err(Errno::ENOENT) => Ok(None),
            Err(error) => Err(fail(fault(error))),
        }
    }

    fn parent(&self) -> Result<Option<Box<dyn Source>>> {
        let parent = self.parent_directory()?;
        Ok(parent.map(|parent| Box::new(parent) as Box<dyn Source>))
    }
}

/// Returns true for the name of a file in the directory itself.
fn is_plain(name: &str) -> bool {
    !name.contains('/') && name != "." && name != ".."
}

/// Returns the size of a regular file.
fn regular(found: &FileStat) -> Result<u64, ErrorKind> {
    if found.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFREG.bits() {
        Ok(u64::try_from(found.st_size).unwrap_or(0))
    } else {
        Err(ErrorKind::NotAFile)
    }
}

fn fault(error: Errno) -> Fault {
    io::Error::from(error).into()
}

/// Flags of a directory that is only a place to open files from.
const HELD: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);
const LISTED: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);
