//! The directory or archive that holds a record and its files.

use std::ffi::CStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use criu_images::source::Blob;
use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{self, AtFlags, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{Mode, SFlag, fstatat};

use super::engines::MANIFEST;
use super::file::is_local;
use crate::archive::Archive;
use crate::beside::{DIRECTORY, LISTED};
use crate::bounds;
use crate::error::{Error, ErrorKind, Fault, Result};
use crate::member::MemberKind;
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

    /// Lists everything below the record's directory that is no directory: the path, and true for a
    /// regular file. A file whose name is not UTF-8 is listed with a replacement in its name, as no
    /// regular file.
    ///
    /// # Errors
    /// [`ErrorKind::Io`]; [`ErrorKind::TooMany`] above [`MEMBERS`](crate::bounds::MEMBERS), and for
    /// directories that are nested more than 64 deep.
    pub fn files(&self) -> Result<Vec<(String, bool)>> {
        let mut found = Vec::new();
        match &self.place {
            Place::Directory(directory) => {
                let listed = list(directory, "", 0, &mut found);
                listed.map_err(|fault| Error::new(&*self.name, fault))?;
            }
            Place::Archive(archive, folder) => {
                let top = if folder.is_empty() { String::new() } else { format!("{folder}/") };
                for member in archive.members() {
                    let Some(path) = member.path().strip_prefix(&top) else { continue };
                    match member.kind() {
                        MemberKind::Directory => {}
                        MemberKind::File | MemberKind::HardLink(_) => {
                            found.push((path.to_owned(), true));
                        }
                        _ => found.push((path.to_owned(), false)),
                    }
                }
            }
        }
        found.sort_unstable();
        Ok(found)
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

/// Adds what is in a directory to a list.
fn list(
    held: &OwnedFd,
    path: &str,
    depth: usize,
    found: &mut Vec<(String, bool)>,
) -> Result<(), Fault> {
    if depth > MAX_DEPTH {
        let limit = MAX_DEPTH as u64;
        return Err(
            Fault::from(ErrorKind::TooMany { what: "levels of directories", limit }).of(path)
        );
    }
    let mut directory = Dir::openat(held, ".", LISTED, Mode::empty()).map_err(fault)?;
    let mut below = Vec::new();
    for entry in directory.iter() {
        let entry = entry.map_err(fault)?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let limit = bounds::MEMBERS.get();
        if (found.len() + below.len()) as u64 >= limit {
            return Err(ErrorKind::TooMany { what: "files", limit }.into());
        }
        // Not every file system tells the kind of an entry.
        let kind = match entry.file_type() {
            Some(kind) => kind,
            None => kind_of(held, name)?,
        };
        let known = name.to_str();
        let path = path::join(path, &name.to_string_lossy());
        match (kind, known) {
            (Type::Directory, Ok(name)) => below.push((path, name.to_owned())),
            (kind, known) => found.push((path, kind == Type::File && known.is_ok())),
        }
    }
    for (path, name) in below {
        let inner = openat2(held, &*name, how(DIRECTORY)).map_err(fault)?;
        list(&inner, &path, depth + 1, found)?;
    }
    Ok(())
}

fn kind_of(directory: &OwnedFd, name: &CStr) -> Result<Type, Fault> {
    let found = fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(fault)?;
    Ok(match SFlag::from_bits_truncate(found.st_mode & SFlag::S_IFMT.bits()) {
        SFlag::S_IFREG => Type::File,
        SFlag::S_IFDIR => Type::Directory,
        _ => Type::Symlink,
    })
}

fn fault(error: Errno) -> Fault {
    io::Error::from(error).into()
}

/// Stays below the directory, and follows no link.
fn how(flags: OFlag) -> OpenHow {
    OpenHow::new()
        .flags(flags)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS)
}

/// Deepest directory below the record's.
const MAX_DEPTH: usize = 64;

/// Names of manifests, the most telling one first.
const MANIFESTS: &[&str] = &[super::RECORD, MANIFEST];
