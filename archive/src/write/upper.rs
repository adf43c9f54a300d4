//! The changes in a root file system, as an overlay mount keeps them.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::OFlag;
use nix::sys::stat::{major, minor};
use rustix::fs::{lgetxattr, llistxattr};
use rustix::io::Errno;

use super::headers::{BLOCK, Described, Kind, empty_file};
use crate::error::{Error, ErrorKind, Fault, Result};
use crate::watch::Watch;

/// Writes the changes that the upper directory of an overlay mount holds as a layer, the
/// `rootfs-diff.tar` of engines: files with owners, modes and extended attributes, whiteouts for
/// files that are gone, and opaque whiteouts for directories whose old content is gone. Sockets are
/// left out, because a tar archive has none. `watch` is called with the bytes of content that have
/// been written, and can stop the work.
///
/// The directory must not change while the layer is written. Links in the directory are not
/// followed.
///
/// # Errors
/// [`ErrorKind::Io`]; [`ErrorKind::Write`]; [`ErrorKind::Stopped`]; [`ErrorKind::Changed`] for a
/// file that is shorter than it was at the beginning; [`ErrorKind::Unsupported`] for a directory
/// that overlayfs has renamed and for a file whose content is elsewhere, with the options
/// `redirect_dir` and `metacopy`.
pub fn upper_layer<W: Write>(upper: &Path, out: W, watch: Watch<'_>) -> Result<W> {
    let name = upper.to_string_lossy().into_owned();
    let mut layer = Layer { name, out, watch, done: 0, first: HashMap::new() };
    // Paths in the archive, which sort a directory before its content.
    let mut waiting = BTreeMap::from([(Vec::new(), upper.to_path_buf())]);
    while let Some((path, place)) = waiting.pop_first() {
        if layer.entry(&path, &place)? {
            for name in layer.names(&path, &place)? {
                let mut inner = path.clone();
                inner.extend(name.as_bytes());
                waiting.insert(inner, place.join(name));
            }
        }
    }
    layer.put(&[0; 2 * BLOCK])?;
    Ok(layer.out)
}

/// A layer that is being written.
struct Layer<'w, W> {
    name: String,
    out: W,
    watch: Watch<'w>,
    done: u64,
    /// The first names of files that have several, by device and inode.
    first: HashMap<(u64, u64), Vec<u8>>,
}

impl<W: Write> Layer<'_, W> {
    /// Writes an entry. Returns true for a directory, whose content comes next; `path` ends with a
    /// slash then, except for the root.
    fn entry(&mut self, path: &[u8], place: &Path) -> Result<bool> {
        let fail = |error| self.fail(path, ErrorKind::Io(error));
        let found = fs::symlink_metadata(place).map_err(fail)?;
        let kind = found.file_type();
        let attributes = attributes(place).map_err(fail)?;
        let overlay = |name: &str| {
            let of_overlay = |(key, _): &&(String, Vec<u8>)| {
                OVERLAY.iter().any(|prefix| key.strip_prefix(prefix) == Some(name))
            };
            attributes.iter().find(of_overlay).map(|(_, value)| &**value)
        };
        let is_device = kind.is_char_device() && found.rdev() == 0;
        if is_device || (kind.is_file() && overlay("whiteout").is_some()) {
            let at = path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
            let (folder, gone) = path.split_at_checked(at).unwrap_or_default();
            return self.put(&empty_file(&[folder, b".wh.", gone].concat())).map(|()| false);
        }
        for (name, why) in ELSEWHERE {
            if overlay(name).is_some() {
                return Err(self.fail(path, ErrorKind::Unsupported(why)));
            }
        }
        let kept: Vec<_> = attributes
            .iter()
            .filter(|(key, _)| !OVERLAY.iter().any(|prefix| key.starts_with(prefix)))
            .map(|(key, value)| (format!("SCHILY.xattr.{key}"), value.clone()))
            .collect();
        let is_emptied = overlay("opaque") == Some(b"y");
        let mut described = Described {
            name: path,
            link: &[],
            kind: Kind::File,
            mode: found.mode(),
            uid: found.uid().into(),
            gid: found.gid().into(),
            modified: u64::try_from(found.mtime()).unwrap_or(0),
            size: 0,
            device: (0, 0),
        };
        if kind.is_dir() {
            let path = if path.is_empty() { &b"./"[..] } else { path };
            described.name = path;
            described.kind = Kind::Directory;
            self.put(&described.headers_with(&kept))?;
            if is_emptied {
                self.put(&empty_file(&[path, b".wh..wh..opq"].concat()))?;
            }
            return Ok(true);
        }
        if kind.is_socket() {
            return Ok(false);
        }
        if found.nlink() > 1 {
            let key = (found.dev(), found.ino());
            if let Some(first) = self.first.get(&key).cloned() {
                (described.kind, described.link) = (Kind::HardLink, &first);
                return self.put(&described.headers()).map(|()| false);
            }
            self.first.insert(key, path.to_vec());
        }
        if kind.is_file() {
            described.size = found.len();
            self.put(&described.headers_with(&kept))?;
            return self.content(path, place, &found).map(|()| false);
        }
        let target;
        if kind.is_symlink() {
            let fail = |error| self.fail(path, ErrorKind::Io(error));
            target = fs::read_link(place).map_err(fail)?.into_os_string().into_vec();
            (described.kind, described.link) = (Kind::SymbolicLink, &target);
        } else if kind.is_fifo() {
            described.kind = Kind::Fifo;
        } else {
            let is_block = kind.is_block_device();
            described.kind = if is_block { Kind::BlockDevice } else { Kind::CharacterDevice };
            described.device = (major(found.rdev()), minor(found.rdev()));
        }
        self.put(&described.headers_with(&kept)).map(|()| false)
    }

    /// Writes the bytes of a file.
    fn content(&mut self, path: &[u8], place: &Path, found: &Metadata) -> Result<()> {
        let mut file = self.open(path, place, found)?;
        let (size, mut at) = (found.len(), 0);
        let mut piece = vec![0; usize::try_from(size).unwrap_or(PIECE).clamp(1, PIECE)];
        while at < size {
            let wanted = usize::try_from(size - at).unwrap_or(PIECE).min(piece.len());
            let (piece, _) = piece.split_at_mut(wanted);
            let read = file.read(piece).map_err(|error| self.fail(path, ErrorKind::Io(error)))?;
            if read == 0 {
                return Err(self.fail(path, ErrorKind::Changed { before: size, now: at }));
            }
            self.put(piece.get(..read).unwrap_or_default())?;
            at += read as u64;
            self.done += read as u64;
            if (self.watch)(self.done).is_break() {
                return Err(Error::new(&*self.name, ErrorKind::Stopped));
            }
        }
        let fill = usize::try_from(size.next_multiple_of(BLOCK as u64) - size).unwrap_or(0);
        self.put([0; BLOCK].get(..fill).unwrap_or_default())
    }

    /// Opens a file, which has to be the one that was found.
    fn open(&self, path: &[u8], place: &Path, found: &Metadata) -> Result<File> {
        let fail = |error| self.fail(path, ErrorKind::Io(error));
        let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
        let file = OpenOptions::new().read(true).custom_flags(flags).open(place).map_err(fail)?;
        let now = file.metadata().map_err(fail)?;
        if (now.dev(), now.ino()) != (found.dev(), found.ino()) {
            return Err(fail(io::Error::other("another file has its name by now")));
        }
        Ok(file)
    }

    /// Returns the names in a directory: those of directories with a slash.
    fn names(&self, path: &[u8], place: &Path) -> Result<Vec<OsString>> {
        let read = || -> io::Result<Vec<OsString>> {
            let mut names = Vec::new();
            for entry in fs::read_dir(place)? {
                let entry = entry?;
                let mut name = entry.file_name();
                if entry.file_type()?.is_dir() {
                    name.push("/");
                }
                names.push(name);
            }
            Ok(names)
        };
        read().map_err(|error| self.fail(path, ErrorKind::Io(error)))
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        let fail = |error| Error::new(&*self.name, ErrorKind::Write(error));
        self.out.write_all(bytes).map_err(fail)
    }

    fn fail(&self, path: &[u8], kind: ErrorKind) -> Error {
        Error::new(&*self.name, Fault::from(kind).of(String::from_utf8_lossy(path)))
    }
}

/// Reads the extended attributes of a file. File systems without them have none.
fn attributes(place: &Path) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut names = vec![0; LIST];
    let len = match llistxattr(place, &mut names) {
        Ok(len) => len,
        Err(Errno::NOTSUP) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    names.truncate(len);
    let mut all = Vec::new();
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; VALUE];
        match lgetxattr(place, name, &mut value) {
            Ok(len) => value.truncate(len),
            // Gone, or of a security module that does not show its own.
            Err(Errno::NODATA | Errno::NOTSUP) => continue,
            Err(error) => return Err(error.into()),
        }
        // Names in records are text.
        all.push((String::from_utf8_lossy(name).into_owned(), value));
    }
    all.sort();
    Ok(all)
}

/// Beginnings of the names of the attributes that overlayfs keeps.
const OVERLAY: [&str; 2] = ["trusted.overlay.", "user.overlay."];

/// Attributes of files whose content is not in the upper directory.
const ELSEWHERE: [(&str, &str); 2] = [
    ("redirect", "a directory that overlayfs has renamed: its option redirect_dir is on"),
    ("metacopy", "a file without its content: the option metacopy of overlayfs is on"),
];

/// Bytes that are read at once.
const PIECE: usize = 1 << 20;

/// Largest list of names, and largest value, of extended attributes in Linux.
const LIST: usize = 64 << 10;
const VALUE: usize = 64 << 10;
