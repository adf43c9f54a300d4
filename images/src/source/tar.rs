//! Sets in tar archives, read in place.

mod header;
mod members;
mod records;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::fcntl::OFlag;

use crate::error::{Error, ErrorKind, Fault, Result};
use crate::kind::INVENTORY;
use crate::source::{Blob, Source};
use header::Sort;
use members::Members;

/// A folder of a tar archive. Opening reads the archive's headers once. Images, pages included, are
/// then read from their places in the archive. Compressed archives have to be unpacked first.
///
/// ```no_run
/// use criu_images::ImageSet;
/// use criu_images::source::Tar;
///
/// // As Podman exports a container: the images are in a folder.
/// let set = ImageSet::new(Tar::open("/tmp/container.tar")?.folder("checkpoint"))?;
/// println!("{}", set.checkpoint()?.tree());
/// # Ok::<(), criu_images::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Tar {
    archive: Arc<Index>,
    /// Path of the folder from the root of the archive.
    folder: Box<str>,
    /// Folders whose `parent` led to this one.
    passed: Vec<Box<str>>,
}

/// Members of an archive, by folder and name.
#[derive(Debug)]
struct Index {
    path: PathBuf,
    file: Arc<File>,
    members: BTreeMap<Place, Member>,
}

/// Folder from the root of the archive, and name in the folder.
type Place = (Box<str>, Box<str>);

#[derive(Clone, Debug)]
enum Member {
    File {
        start: u64,
        size: u64,
    },
    /// Target of a symbolic link. Hard links to a symbolic link share the target.
    Link(Arc<[u8]>),
    Other,
    Sparse,
}

impl Tar {
    /// Opens the top folder of an archive.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if the file cannot be read; [`ErrorKind::NotAFile`] for a pipe, because an
    /// archive is read at any place; [`ErrorKind::Compressed`]; [`ErrorKind::Malformed`] if the
    /// file is not a tar archive; [`ErrorKind::Truncated`] if the archive ends inside a file;
    /// [`ErrorKind::TooMany`] above [`MEMBERS`](crate::bounds::MEMBERS) or
    /// [`NAMES`](crate::bounds::NAMES); [`ErrorKind::TooLarge`] for a name, and for PAX records of
    /// a member, above 1 MiB. A member with a name above 4096 bytes is passed over.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let archive = Index::read(path);
        let archive = archive.map_err(|fault| Error::new(path.to_string_lossy(), fault))?;
        Ok(Self { archive: Arc::new(archive), folder: "".into(), passed: Vec::new() })
    }

    /// Returns a folder of the archive by its path.
    #[must_use]
    pub fn folder(&self, path: &str) -> Self {
        let folder = normal(path.as_bytes()).unwrap_or_else(|| path.to_owned());
        Self { folder: folder.into(), ..self.clone() }
    }

    /// Paths of the folders that have an inventory, so may be a set.
    pub fn sets(&self) -> impl Iterator<Item = String> {
        let names = self.archive.members.keys().filter(|(_, name)| &**name == INVENTORY.file);
        names.map(|(folder, _)| folder.to_string())
    }

    fn member(&self, name: &str) -> Option<&Member> {
        self.archive.members.get(&(self.folder.clone(), name.into()))
    }
}

impl Index {
    fn read(path: &Path) -> Result<Self, Fault> {
        // Without waiting: nobody may write to a FIFO.
        let flags = OFlag::O_NONBLOCK.bits();
        let mut file = File::options().read(true).custom_flags(flags).open(path)?;
        let found = file.metadata()?;
        if !found.is_file() {
            return Err(ErrorKind::NotAFile.into());
        }
        let total = found.len();
        let mut head = [0; 6];
        let read = (&file).take(6).read(&mut head)?;
        if let Some(program) = head.get(..read).and_then(compressor) {
            return Err(ErrorKind::Compressed(program).into());
        }
        file.rewind()?;
        let mut members = BTreeMap::new();
        // The path may lead to another file by now.
        let mut found = Members::new(file.try_clone()?, total);
        while let Some(one) = found.next()? {
            // Names that lead out of the archive are skipped.
            let Some(place) = normal(&one.name).and_then(place) else {
                continue;
            };
            let member = match one.sort {
                Sort::File => Member::File { start: one.start, size: one.size },
                Sort::SymbolicLink => Member::Link(one.link.into()),
                // A hard link: another name of an earlier member.
                Sort::HardLink => {
                    let target = normal(&one.link).and_then(self::place);
                    let target = target.and_then(|target| members.get(&target).cloned());
                    target.unwrap_or(Member::Other)
                }
                Sort::Sparse => Member::Sparse,
                _ => Member::Other,
            };
            // Of several members with one name the last counts, as when the archive is unpacked.
            members.insert(place, member);
        }
        Ok(Self { path: path.to_owned(), file: Arc::new(file), members })
    }
}

/// Name of the program that unpacks a file, by the file's magic.
fn compressor(head: &[u8]) -> Option<&'static str> {
    let magics: [(&[u8], _); 6] = [
        (&[0x1f, 0x8b], "gzip"),
        (&[0x28, 0xb5, 0x2f, 0xfd], "zstd"),
        (b"\xfd7zXZ", "xz"),
        (b"BZh", "bzip2"),
        (&[0x04, 0x22, 0x4d, 0x18], "lz4"),
        (b"LZIP", "lzip"),
    ];
    let found = magics.iter().find(|(magic, _)| head.starts_with(magic));
    found.map(|(_, program)| *program)
}

const NO_ARCHIVE: &str = "is not a tar archive";

/// Returns a path without `.`, doubled slashes and a slash at an end; `None` if the path leads
/// upwards or is not UTF-8.
fn normal(path: &[u8]) -> Option<String> {
    let mut normal = String::new();
    for part in std::str::from_utf8(path).ok()?.split('/') {
        match part {
            "" | "." => {}
            ".." => return None,
            part => push(&mut normal, part),
        }
    }
    Some(normal)
}

/// Splits a path into folder and name; `None` for the root of the archive.
fn place(path: String) -> Option<Place> {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", &path));
    (!name.is_empty()).then(|| (folder.into(), name.into()))
}

fn push(path: &mut String, part: &str) {
    if !path.is_empty() {
        path.push('/');
    }
    path.push_str(part);
}

impl Source for Tar {
    fn names(&self) -> Result<Vec<String>> {
        let members = self.archive.members.range((self.folder.clone(), "".into())..);
        let here = members.map(|(place, _)| place).take_while(|place| place.0 == self.folder);
        Ok(here.map(|(_, name)| name.to_string()).collect())
    }

    fn open(&self, name: &str) -> Result<Option<Blob>> {
        match self.member(name) {
            None => Ok(None),
            Some(&Member::File { start, size }) => {
                Ok(Some(Blob::part(Arc::clone(&self.archive.file), start, size)))
            }
            Some(Member::Sparse) => {
                let what = "sparse files in archives";
                Err(Error::new(name, ErrorKind::Unsupported(what)))
            }
            Some(Member::Link(_) | Member::Other) => Err(Error::new(name, ErrorKind::NotAFile)),
        }
    }

    /// Finds the folder of the same archive that `parent` leads to.
    fn parent(&self) -> Result<Option<Box<dyn Source>>> {
        let name = "parent";
        let Some(Member::Link(target)) = self.member(name) else {
            return Ok(None);
        };
        let outside = || {
            let kind = ErrorKind::Malformed("leads out of the archive");
            Error::new(format!("{}: {name}", self.archive.path.display()), kind)
        };
        let mut folder = self.folder.to_string();
        if target.starts_with(b"/") {
            return Err(outside());
        }
        for part in target.split(|byte| *byte == b'/') {
            match part {
                b"" | b"." => {}
                b".." if folder.is_empty() => return Err(outside()),
                b".." => folder.truncate(folder.rfind('/').unwrap_or(0)),
                part => push(&mut folder, &String::from_utf8_lossy(part)),
            }
        }
        let folder = Box::from(folder);
        let mut passed = self.passed.clone();
        passed.push(self.folder.clone());
        if passed.contains(&folder) {
            return Err(Error::new(name, ErrorKind::Chain(passed.len())));
        }
        let archive = Arc::clone(&self.archive);
        Ok(Some(Box::new(Self { archive, folder, passed })))
    }
}
