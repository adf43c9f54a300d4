//! Archives in a directory, with what their metadata says.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use criu_archive::Archive;
use criu_archive::metadata::{Metadata, Time};
use criu_images::source::Blob;
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};

use crate::kubelet::container::Container;
use crate::kubelet::text::short;

/// A file in a directory of checkpoints.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Name in the directory.
    pub name: OsString,
    /// Size in bytes.
    pub size: u64,
    /// Time of the last change of the file, which nobody can set.
    pub changed: Time,
    /// Set if a file `NAME.keep` is beside the file.
    pub is_pinned: bool,
    /// Set if a process had the file open.
    pub is_open: bool,
    /// The checkpoint, or the reason why the file is none.
    pub stored: Result<Stored, String>,
    pub(super) mark: Mark,
}

/// A checkpoint of a container in a pod, as its metadata says.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Stored {
    /// The container.
    pub container: Container,
    /// Identifier of the pod; empty if the metadata has none.
    pub pod_uid: String,
    /// Time of the checkpoint, or else of the last write to the file.
    pub time: Time,
    /// Name of the engine that wrote the archive.
    pub engine: &'static str,
}

impl Stored {
    /// Reads the metadata of an archive.
    pub(in crate::kubelet) fn read(file: File, written: (i64, i64)) -> Result<Self, String> {
        let said = |error: criu_archive::Error| short(&error.kind().to_string());
        let blob = Blob::try_from(file).map_err(|error| error.to_string())?;
        let archive = Archive::new("archive", blob).map_err(said)?;
        if archive.sets().next().is_none() {
            return Err("has no images".to_owned());
        }
        let top = archive.folder("");
        let metadata = Metadata::of("archive", &top);
        let identity = metadata.identity().map_err(said)?;
        let names = [&identity.namespace, &identity.pod, &identity.container];
        if names.iter().any(|name| name.is_empty()) {
            return Err("names no container of a pod".to_owned());
        }
        let container = Container::new(names[0], names[1], names[2])
            .map_err(|_| "names a container that Kubernetes does not allow".to_owned())?;
        let checkpointed = metadata.config().map_err(said)?.and_then(|config| config.checkpointed);
        // A time that is still to come would make the archive the newest for ever.
        let now = Time::from(std::time::SystemTime::now());
        let checkpointed = checkpointed.filter(|time| !time.is_zero() && *time <= now);
        Ok(Self {
            container,
            pod_uid: identity.pod_uid,
            time: checkpointed.unwrap_or_else(|| time(written).min(now)),
            engine: metadata.engine().map_err(said)?.word(),
        })
    }
}

/// Returns the bytes that are free without some files. A file that keeps another name keeps its
/// bytes, and one with several of these names counts once.
pub(super) fn freed<'e>(entries: impl Iterator<Item = &'e Entry>) -> u64 {
    let mut files: BTreeMap<(u64, u64), (u64, &Entry)> = BTreeMap::new();
    for entry in entries {
        files.entry(entry.mark.id()).or_insert((0, entry)).0 += 1;
    }
    let gone = files.into_values().filter(|(names, entry)| *names >= entry.mark.links);
    gone.map(|(_, entry)| entry.size).fold(0, u64::saturating_add)
}

/// Properties of a file that tell if it is still the same.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Mark {
    device: u64,
    inode: u64,
    /// Number of names that the file has, here and in other directories.
    links: u64,
    size: i64,
    written: (i64, i64),
    changed: (i64, i64),
}

impl Mark {
    /// Reads the properties of a name. A link is not followed.
    pub(super) fn of(directory: &impl AsFd, name: &OsString) -> nix::Result<Self> {
        let stat = fstatat(directory, name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW)?;
        Ok(Self::new(&stat))
    }

    /// Returns the device and the inode.
    pub(super) fn id(&self) -> (u64, u64) {
        (self.device, self.inode)
    }

    /// Tells if the file is the same one except that another name of it is gone.
    pub(super) fn lost_a_name(&self, before: &Self) -> bool {
        let Self { links, changed, .. } = *self;
        links < before.links && *self == Self { links, changed, ..*before }
    }

    fn new(stat: &FileStat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            links: stat.st_nlink,
            size: stat.st_size,
            written: (stat.st_mtime, stat.st_mtime_nsec),
            changed: (stat.st_ctime, stat.st_ctime_nsec),
        }
    }
}

/// Tells if a mark `NAME.keep` is beside a file. A link is a mark, too, wherever it leads.
pub(super) fn is_pinned(directory: &impl AsFd, name: &OsString) -> nix::Result<bool> {
    let mut mark = name.clone();
    mark.push(KEEP);
    match fstatat(directory, mark.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(_) => Ok(true),
        Err(Errno::ENOENT) => Ok(false),
        // Such a name can have no mark.
        Err(Errno::ENAMETOOLONG) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Reads an entry. `None` for a mark, and for a name that is gone.
pub(super) fn read(directory: &OwnedFd, name: OsString) -> io::Result<Option<Entry>> {
    if name.to_string_lossy().ends_with(KEEP) {
        return Ok(None);
    }
    let stat = match fstatat(directory, name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(Errno::ENOENT) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
    let mut entry = Entry {
        size: u64::try_from(stat.st_size).unwrap_or(0),
        changed: time((stat.st_ctime, stat.st_ctime_nsec)),
        is_pinned: is_pinned(directory, &name)?,
        is_open: false,
        stored: Err("is no file".to_owned()),
        mark: Mark::new(&stat),
        name,
    };
    if kind == SFlag::S_IFLNK {
        entry.stored = Err("is a link".to_owned());
    } else if kind == SFlag::S_IFDIR {
        entry.stored = Err("is a directory".to_owned());
    } else if kind == SFlag::S_IFREG {
        entry.stored = look(directory, &entry);
    }
    Ok(Some(entry))
}

/// Reads the metadata of the file, if it is still the same.
fn look(directory: &OwnedFd, entry: &Entry) -> Result<Stored, String> {
    // A FIFO that has come in the meantime is not waited for.
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = openat(directory, entry.name.as_os_str(), flags, Mode::empty());
    let file = file.map_err(|error| format!("cannot be opened: {}", error.desc()))?;
    let stat = fstat(&file).map_err(|error| error.desc().to_owned())?;
    if Mark::new(&stat) != entry.mark {
        return Err("has changed while it was looked at".to_owned());
    }
    Stored::read(File::from(file), (stat.st_mtime, stat.st_mtime_nsec))
}

/// Names of a directory in their order.
pub(super) fn names(directory: &OwnedFd) -> io::Result<Vec<OsString>> {
    use std::os::unix::ffi::OsStringExt;

    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut list = Dir::openat(directory, ".", flags, Mode::empty())?;
    let mut names = Vec::new();
    for entry in list.iter() {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(OsString::from_vec(name));
        }
        if names.len() > MOST {
            return Err(io::Error::other("has more than 100000 entries"));
        }
    }
    names.sort_unstable();
    Ok(names)
}

fn time((seconds, nanos): (i64, i64)) -> Time {
    let nanos = u32::try_from(nanos).unwrap_or(0);
    Time::new(seconds, nanos).unwrap_or(Time::ZERO)
}

/// The end of the name of a mark.
const KEEP: &str = ".keep";
/// The most entries of a directory.
const MOST: usize = 100_000;
