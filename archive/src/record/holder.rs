//! The directory or archive that holds a record and its files.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use criu_images::source::Blob;
use nix::errno::Errno;
use nix::fcntl::{self, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::Mode;

use super::file::is_local;
use crate::archive::Archive;
use crate::beside::DIRECTORY;
use crate::error::{Error, ErrorKind, Fault, Result};
use crate::path;

/// The directory or archive that holds a record and its files. A directory is held: its files are
/// those of this directory even if its path comes to lead elsewhere.
#[derive(Clone, Debug)]
pub struct Holder {
    name: String,
    place: Place,
}

#[derive(Clone, Debug)]
enum Place {
    Directory(Arc<OwnedFd>),
    /// An archive, and the folder in it.
    Archive(Archive, String),
}

impl Holder {
    /// Opens a directory, or an archive. In an archive the record may be in a folder.
    ///
    /// # Errors
    /// [`ErrorKind::Io`]; the errors of [`Archive::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let fail = |error| Error::new(path.to_string_lossy(), ErrorKind::Io(error));
        if !fs::metadata(path).map_err(fail)?.is_dir() {
            return Ok(Self::archive(&Archive::open(path)?));
        }
        let opened = fcntl::open(path, DIRECTORY, Mode::empty());
        let place = Place::Directory(Arc::new(opened.map_err(|error| fail(error.into()))?));
        Ok(Self { name: path.to_string_lossy().into_owned(), place })
    }

    /// Takes an archive. If there is no manifest at its top, the folder counts that has the only
    /// one.
    #[must_use]
    pub fn archive(archive: &Archive) -> Self {
        let found = |name| {
            let folders: Vec<&str> = archive.index().folders(name).collect();
            match folders[..] {
                _ if folders.contains(&"") => Some(String::new()),
                [only] => Some(only.to_owned()),
                _ => None,
            }
        };
        let folder = MANIFESTS.iter().find_map(|name| found(*name)).unwrap_or_default();
        let place = Place::Archive(archive.clone(), folder);
        Self { name: archive.name().to_owned(), place }
    }

    /// Path of the directory or archive.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The archive, if it is one.
    pub fn in_archive(&self) -> Option<&Archive> {
        match &self.place {
            Place::Directory(_) => None,
            Place::Archive(archive, _) => Some(archive),
        }
    }

    /// Opens a file by its path from the record's directory; `None` if there is none. No symbolic
    /// link is followed.
    ///
    /// # Errors
    /// [`ErrorKind::NotAFile`] for anything but a regular file; [`ErrorKind::Refused`] for a path
    /// that leads out; [`ErrorKind::Io`].
    pub fn bytes(&self, path: &str) -> Result<Option<Blob>> {
        if !is_local(path) {
            return Err(self.fault(path, ErrorKind::Refused("its path leads out")));
        }
        match &self.place {
            Place::Directory(directory) => {
                let found = regular(directory, path);
                found.map_err(|kind| self.fault(path, kind))
            }
            Place::Archive(archive, folder) => {
                let path = path::join(folder, path);
                if archive.member(&path).is_none() {
                    return Ok(None);
                }
                archive.bytes(&path).map(Some)
            }
        }
    }

    /// Makes the error of a file here.
    pub(super) fn fault(&self, path: &str, fault: impl Into<Fault>) -> Error {
        Error::new(&*self.name, fault.into().of(path))
    }
}

/// Opens a regular file below a directory.
fn regular(directory: &OwnedFd, path: &str) -> Result<Option<Blob>, ErrorKind> {
    // A FIFO without a writer does not block.
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = match openat2(directory, path, how(flags)) {
        Ok(file) => File::from(file),
        Err(Errno::ENOENT) => return Ok(None),
        // A link, a socket, and a file where a folder should be.
        Err(Errno::ELOOP | Errno::ENXIO | Errno::ENOTDIR) => return Err(ErrorKind::NotAFile),
        Err(error) => return Err(io::Error::from(error).into()),
    };
    if !file.metadata()?.is_file() {
        return Err(ErrorKind::NotAFile);
    }
    Ok(Some(Blob::try_from(file)?))
}

/// Stays below the directory, and follows no link.
fn how(flags: OFlag) -> OpenHow {
    OpenHow::new()
        .flags(flags)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS)
}

/// Names of manifests, the most telling one first.
const MANIFESTS: &[&str] = &[super::RECORD];
