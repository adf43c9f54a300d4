//! Sets in tar archives, read in place.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::tar::{Archive, Entry, EntryType};

use crate::error::{Error, ErrorKind, Fault, Result};
use crate::source::{Blob, Source};
use crate::text::Text;

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
    /// Names of the folders from the root of the archive.
    folder: Vec<String>,
    /// Folders whose `parent` led to this one.
    passed: Vec<Vec<String>>,
}

/// Members of an archive, by folder and name.
#[derive(Debug)]
struct Index {
    path: PathBuf,
    file: Arc<File>,
    members: BTreeMap<(Vec<String>, String), Member>,
}

#[derive(Clone, Debug)]
enum Member {
    File {
        start: u64,
        size: u64,
    },
    /// Target of a symbolic link.
    Link(Vec<u8>),
    Other,
    Sparse,
}

impl Tar {
    /// Opens the top folder of an archive.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if the file cannot be read; [`ErrorKind::NotAFile`] for a pipe, because an
    /// archive is read at any place; [`ErrorKind::Compressed`]; [`ErrorKind::Malformed`] if the
    /// file is not a tar archive; [`ErrorKind::Truncated`] if the archive ends inside a file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let archive = Index::read(path);
        let archive = archive.map_err(|fault| Error::new(path.to_string_lossy(), fault))?;
        Ok(Self { archive: Arc::new(archive), folder: Vec::new(), passed: Vec::new() })
    }

    /// Returns a folder of the archive by its path.
    #[must_use]
    pub fn folder(&self, path: &str) -> Self {
        let folder = components(path.as_bytes()).unwrap_or_else(|| vec![path.to_owned()]);
        Self { folder, ..self.clone() }
    }

    /// Paths of the folders that have an inventory, so may be a set.
    pub fn sets(&self) -> impl Iterator<Item = String> {
        let names = self.archive.members.keys().filter(|(_, name)| name == "inventory.img");
        names.map(|(folder, _)| folder.join("/"))
    }

    fn member(&self, name: &str) -> Option<&Member> {
        self.archive.members.get(&(self.folder.clone(), name.to_owned()))
    }
}

impl Index {
    fn read(path: &Path) -> Result<Self, Fault> {
        let file = File::open(path)?;
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
        let mut members = BTreeMap::new();
        // Buffered: a header has 512 bytes, and the content between headers is skipped.
        let mut archive = Archive::new(BufReader::new(File::open(path)?));
        for entry in archive.entries_with_seek()? {
            let mut entry = entry.map_err(|error| match error.raw_os_error() {
                None if members.is_empty() => ErrorKind::Malformed(NO_ARCHIVE).into(),
                _ => Fault::from(unreadable(error)),
            })?;
            // A sparse file has its own name in an extension, beside the name in the header.
            let sparse = sparse(&mut entry)?;
            let name = sparse.clone().unwrap_or_else(|| entry.path_bytes().into_owned());
            // Names that lead out of the archive are skipped.
            let Some((folder, name)) = components(&name).and_then(last) else {
                continue;
            };
            let member = match Member::of(&entry) {
                // A hard link: another name of an earlier member.
                Member::Other if entry.header().entry_type() == EntryType::Link => {
                    let target = entry.link_name_bytes().and_then(|name| components(&name));
                    let place = target.and_then(last);
                    place.and_then(|place| members.get(&place).cloned()).unwrap_or(Member::Other)
                }
                _ if sparse.is_some() => Member::Sparse,
                member => member,
            };
            if let Member::File { start, size } = member {
                let left = total.saturating_sub(start);
                if size > left {
                    return Err(ErrorKind::Truncated { need: size, left }.into());
                }
            }
            // Of several members with one name the last counts, as when the archive is unpacked.
            members.insert((folder, name), member);
        }
        Ok(Self { path: path.to_owned(), file: Arc::new(file), members })
    }
}

impl Member {
    fn of(entry: &Entry<'_, impl Read>) -> Self {
        match entry.header().entry_type() {
            EntryType::GNUSparse => Self::Sparse,
            EntryType::Regular | EntryType::Continuous => {
                Self::File { start: entry.raw_file_position(), size: entry.size() }
            }
            EntryType::Symlink => {
                let link = entry.link_name_bytes();
                Self::Link(link.map(|link| link.into_owned()).unwrap_or_default())
            }
            _ => Self::Other,
        }
    }
}

/// Name of a sparse file in a POSIX archive; `None` for other files. The bytes of a sparse file
/// begin with a map, so they cannot be read in place.
fn sparse(entry: &mut Entry<'_, impl Read>) -> Result<Option<Vec<u8>>, Fault> {
    let mut name = None;
    let plain = entry.path_bytes().into_owned();
    for one in entry.pax_extensions().map_err(unreadable)?.into_iter().flatten() {
        let one = one.map_err(unreadable)?;
        match one.key_bytes() {
            b"GNU.sparse.name" => name = Some(one.value_bytes().to_vec()),
            key if key.starts_with(b"GNU.sparse.") => name = name.or_else(|| Some(plain.clone())),
            _ => {}
        }
    }
    Ok(name)
}

/// Escapes the archive's own bytes in an error, which the tar crate quotes as they are.
fn unreadable(error: io::Error) -> io::Error {
    if error.raw_os_error().is_some() {
        return error;
    }
    let text = error.to_string();
    let shown: String = text.chars().take(MAX_QUOTED).collect();
    io::Error::new(error.kind(), Text(shown.as_bytes()).to_string())
}

/// Longest text of a tar error that is shown, in characters.
const MAX_QUOTED: usize = 120;

fn last(mut folder: Vec<String>) -> Option<(Vec<String>, String)> {
    let name = folder.pop()?;
    Some((folder, name))
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

/// Splits a path into its parts; `None` if it leads upwards or is not UTF-8.
fn components(path: &[u8]) -> Option<Vec<String>> {
    let parts = path.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b"."));
    let parts = parts.map(|part| match part {
        b".." => None,
        part => std::str::from_utf8(part).ok().map(str::to_owned),
    });
    parts.collect()
}

impl Source for Tar {
    fn names(&self) -> Result<Vec<String>> {
        let members = self.archive.members.keys();
        let here = members.filter(|(folder, _)| *folder == self.folder);
        Ok(here.map(|(_, name)| name.clone()).collect())
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
        let mut folder = self.folder.clone();
        if target.starts_with(b"/") {
            return Err(outside());
        }
        for part in target.split(|byte| *byte == b'/') {
            match part {
                b"" | b"." => {}
                b".." => {
                    folder.pop().ok_or_else(outside)?;
                }
                part => folder.push(String::from_utf8_lossy(part).into_owned()),
            }
        }
        let mut passed = self.passed.clone();
        passed.push(self.folder.clone());
        if passed.contains(&folder) {
            return Err(Error::new(name, ErrorKind::Chain(passed.len())));
        }
        let archive = Arc::clone(&self.archive);
        Ok(Some(Box::new(Self { archive, folder, passed })))
    }
}
