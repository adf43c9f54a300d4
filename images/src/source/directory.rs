//! A directory of images.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Fault, Result};
use crate::source::{Blob, Source};

/// A directory of images, as `criu dump -D` fills it.
#[derive(Clone, Debug)]
pub struct Directory {
    path: PathBuf,
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
        Self::reach(path.clone(), Vec::new()).map_err(|f| Error::new(path.to_string_lossy(), f))
    }

    fn reach(path: PathBuf, mut passed: Vec<(u64, u64)>) -> Result<Self, Fault> {
        let found = fs::metadata(&path)?;
        if !found.is_dir() {
            return Err(io::Error::from(io::ErrorKind::NotADirectory).into());
        }
        let id = (found.dev(), found.ino());
        if passed.contains(&id) {
            return Err(ErrorKind::Chain(passed.len()).into());
        }
        passed.push(id);
        Ok(Self { path, passed })
    }

    /// Path of the directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a regular file and returns its size in bytes.
    pub(crate) fn open_file(&self, name: &str) -> Result<Option<(File, u64)>> {
        let fail = |fault: Fault| Error::new(name, fault);
        if name.contains('/') || name == ".." || name == "." {
            return Err(fail(ErrorKind::NotAFile.into()));
        }
        let opened = OpenOptions::new()
            .read(true)
            // Links are not followed, and a fifo without a writer does not block.
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(self.path.join(name));
        let file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
                return Err(fail(ErrorKind::NotAFile.into()));
            }
            Err(error) => return Err(fail(error.into())),
        };
        let found = file.metadata().map_err(|error| fail(error.into()))?;
        if !found.is_file() {
            return Err(fail(ErrorKind::NotAFile.into()));
        }
        Ok(Some((file, found.len())))
    }

    /// Opens the directory that `parent` leads to.
    pub(crate) fn parent_directory(&self) -> Result<Option<Self>> {
        let name = "parent";
        let path = self.path.join(name);
        if matches!(fs::symlink_metadata(&path), Err(e) if e.kind() == io::ErrorKind::NotFound) {
            return Ok(None);
        }
        let parent = Self::reach(path, self.passed.clone());
        parent.map(Some).map_err(|fault| Error::new(name, fault))
    }
}

impl Source for Directory {
    fn names(&self) -> Result<Vec<String>> {
        let read = || -> io::Result<Vec<String>> {
            let mut names = Vec::new();
            for entry in fs::read_dir(&self.path)? {
                // No image has a name that is not UTF-8.
                names.extend(entry?.file_name().into_string());
            }
            Ok(names)
        };
        read().map_err(|error| Error::new(self.path.to_string_lossy(), error))
    }

    fn open(&self, name: &str) -> Result<Option<Blob>> {
        let file = self.open_file(name)?;
        Ok(file.map(|(file, len)| Blob::part(Arc::new(file), 0, len)))
    }

    fn parent(&self) -> Result<Option<Box<dyn Source>>> {
        let parent = self.parent_directory()?;
        Ok(parent.map(|parent| Box::new(parent) as Box<dyn Source>))
    }
}
