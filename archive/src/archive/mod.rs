//! An archive of a checkpoint, read in place.

mod folder;

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use criu_images::kind::INVENTORY;
use criu_images::source::Blob;
use nix::fcntl::OFlag;

use crate::error::{Error, ErrorKind, Fault, Result};
use crate::index::Index;
use crate::member::{Member, MemberKind};
use crate::packing::{Packing, compressor};
use crate::path;
use crate::tar::Seeking;

pub use folder::Folder;

/// A tar archive with a checkpoint, as engines export it. Opening reads the headers once. Members
/// are then read from their places in the archive. Cheap to clone.
///
/// # Rules
///
/// An archive is refused, with the name of the member and the reason, if programs could disagree
/// about its members, or if a name leads out:
///
/// - names, and targets of hard links, that are absolute, have `..`, are not UTF-8, have a zero
///   byte or more than 4,096 bytes;
/// - two members of one name, except directories; a member that lies in a member which is not a
///   directory;
/// - hard links to a member that does not come before, and to hard links;
/// - sizes below 0, or past the end; a size, name or target that two descriptions give differently;
///   content of directories, links and devices; a description of no member, or two of one member;
/// - bytes behind the end that are not zero.
///
/// Other members are listed, but not read as files, and [extracted](Archive::extract) neither:
/// symbolic links that lead out, devices, FIFOs, sparse files, and kinds that tar does not define.
/// A `parent` link of a set may lead to another folder of the archive.
#[derive(Clone, Debug)]
pub struct Archive(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    packing: Packing,
    /// The unpacked archive.
    bytes: Blob,
    index: Index,
}

impl Archive {
    /// Opens an archive by its path.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if the file cannot be read; [`ErrorKind::NotAFile`] for a pipe, because an
    /// archive is read at any place; the errors of [`new`](Self::new).
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let name = path.to_string_lossy();
        let bytes = open(path).map_err(|fault| Error::new(&*name, fault))?;
        Self::new(name, bytes)
    }

    /// Opens an archive whose bytes are anywhere. Errors call the archive by `name`.
    ///
    /// # Errors
    /// [`ErrorKind::Compressed`]; [`ErrorKind::NotAnArchive`]; [`ErrorKind::Malformed`],
    /// [`ErrorKind::Value`] and [`ErrorKind::Unsupported`] for broken headers;
    /// [`ErrorKind::Truncated`] if the archive ends inside a member; [`ErrorKind::TooMany`] above
    /// [`MEMBERS`](crate::bounds::MEMBERS) or [`NAMES`](crate::bounds::NAMES);
    /// [`ErrorKind::TooLarge`] for a name, and for PAX records of a member, above 1 MiB.
    pub fn new(name: impl Into<String>, bytes: Blob) -> Result<Self> {
        let name = name.into();
        match read(&bytes) {
            Ok(index) => Ok(Self(Arc::new(Inner { name, packing: Packing::Plain, bytes, index }))),
            Err(fault) => Err(Error::new(name, fault)),
        }
    }

    /// Name of the archive, as its errors say it.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Form in which the archive is packed.
    pub fn packing(&self) -> Packing {
        self.0.packing
    }

    /// All members, by folder and name.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.0.index.iter()
    }

    /// Finds a member by its path from the root of the archive.
    pub fn member(&self, path: &str) -> Option<&Member> {
        let (folder, name) = path::split(path);
        self.0.index.find(folder, name)
    }

    /// Returns the bytes of a member. A hard link has the bytes of the member that it names.
    ///
    /// # Errors
    /// [`ErrorKind::Missing`]; [`ErrorKind::NotAFile`] for a member without content;
    /// [`ErrorKind::Unsupported`] for a sparse one.
    pub fn bytes(&self, path: &str) -> Result<Blob> {
        let fail = |kind: ErrorKind| self.fail(path, kind);
        let member = self.member(path).ok_or_else(|| fail(ErrorKind::Missing))?;
        let member = self.0.index.with_content(member).ok_or_else(|| fail(ErrorKind::Missing))?;
        match member.kind() {
            MemberKind::File => {
                let (need, left) = (member.size, self.0.bytes.len().saturating_sub(member.start));
                let bytes = self.0.bytes.slice(member.start, member.size);
                bytes.ok_or_else(|| fail(ErrorKind::Truncated { need, left }))
            }
            MemberKind::Sparse => Err(fail(ErrorKind::Unsupported("sparse files in archives"))),
            _ => Err(fail(ErrorKind::NotAFile)),
        }
    }

    /// Returns a folder of the archive by its path, as the source of an
    /// [`ImageSet`](criu_images::ImageSet).
    #[must_use]
    pub fn folder(&self, path: &str) -> Folder {
        let path = path::normal(path.as_bytes()).unwrap_or_else(|| path.to_owned());
        Folder::new(self.clone(), path)
    }

    /// Paths of the folders that have an inventory, so may be a set.
    pub fn sets(&self) -> impl Iterator<Item = String> {
        self.0.index.folders(INVENTORY.file).map(str::to_owned)
    }

    pub(crate) fn index(&self) -> &Index {
        &self.0.index
    }

    pub(crate) fn fail(&self, member: &str, kind: ErrorKind) -> Error {
        Error::new(self.name(), Fault::from(kind).of(member))
    }
}

fn open(path: &Path) -> Result<Blob, Fault> {
    // Without waiting: nobody may write to a FIFO.
    let file = File::options().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(ErrorKind::NotAFile.into());
    }
    Ok(Blob::try_from(file)?)
}

fn read(bytes: &Blob) -> Result<Index, Fault> {
    let mut head = [0; 6];
    let len = usize::try_from(bytes.len()).unwrap_or(usize::MAX).min(head.len());
    let (head, _) = head.split_at_mut(len);
    bytes.read_at(0, head)?;
    if let Some(program) = compressor(head) {
        return Err(ErrorKind::Compressed(program).into());
    }
    Index::read(Seeking::new(bytes))
}
