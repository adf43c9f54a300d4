//! The places on this host at which a restore finds the files of the images.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use criu_images::proto::MntEntry;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::Mode;

use super::Saved;

/// The places of files: the root of this host, or the directories that a restore mounts.
pub(super) struct Places {
    /// The mounts of the tree's own mount namespaces, each with the directory on this host that is
    /// mounted there. `None` if the restore makes the content.
    mounts: HashMap<u32, (PathBuf, Option<PathBuf>)>,
    own_namespace: bool,
}

/// A file on this host, found without following links out of its root.
pub(super) struct Place {
    fd: OwnedFd,
}

impl Places {
    pub(super) fn new(saved: &Saved<'_>) -> Self {
        let mut mounts = HashMap::new();
        for namespace in saved.checkpoint.namespaces().unwrap_or_default() {
            let Ok(Some(all)) = namespace.mounts() else { continue };
            for mount in all.iter() {
                let point = PathBuf::from(OsStr::from_bytes(&mount.entry.mountpoint));
                mounts.insert(mount.entry.mnt_id, (point, outside(saved, mount.entry)));
            }
        }
        let own_namespace = !mounts.is_empty();
        Self { mounts, own_namespace }
    }

    /// Finds the directory in which a path is looked up, and the path from there. `None` if the
    /// restore makes the file system, or if its place is not known.
    fn split(&self, path: &Path, mount: i32) -> Option<(PathBuf, PathBuf)> {
        if !self.own_namespace {
            return Some((PathBuf::from("/"), path.to_owned()));
        }
        let (point, place) = self.mounts.get(&u32::try_from(mount).ok()?)?;
        let path = Path::new("/").join(path);
        let below = path.strip_prefix(point).ok()?;
        Some((place.clone()?, below.to_owned()))
    }

    /// Finds a file of the images on this host. `None` if the restore makes the file system.
    pub(super) fn find(&self, path: &Path, mount: i32) -> Option<io::Result<Place>> {
        let (root, below) = self.split(path, mount)?;
        Some(Place::open(&root, &below))
    }
}

impl Place {
    fn open(root: &Path, below: &Path) -> io::Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
        if root == Path::new("/") {
            return Ok(Self { fd: open(&root.join(below), flags, Mode::empty())? });
        }
        let directory = open(root, flags | OFlag::O_DIRECTORY, Mode::empty())?;
        if below.as_os_str().is_empty() {
            return Ok(Self { fd: directory });
        }
        let how = OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_IN_ROOT);
        Ok(Self { fd: openat2(&directory, below, how)? })
    }

    /// The file as a path of this process.
    pub(super) fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.fd.as_raw_fd()).into()
    }

    pub(super) fn metadata(&self) -> io::Result<Metadata> {
        fs::metadata(self.path())
    }

    /// Returns the facts about the file system, if they can be read.
    pub(super) fn file_system(&self) -> Option<nix::sys::statvfs::Statvfs> {
        nix::sys::statvfs::fstatvfs(&self.fd).ok()
    }
}

/// The directory on this host that a restore mounts.
fn outside(saved: &Saved<'_>, mount: &MntEntry) -> Option<PathBuf> {
    let opts = &saved.look.opts;
    let path = |bytes: &[u8]| PathBuf::from(OsStr::from_bytes(bytes));
    if let Some(key) = &mount.ext_key {
        let start = [b"mnt[", &key[..], b"]:"].concat();
        return opts.external.iter().find_map(|text| Some(path(text.strip_prefix(&start[..])?)));
    }
    // The root of the tree is a directory of this host, as is what is bound to another name.
    let is_root = mount.mountpoint == b"/";
    Some(path(opts.root.as_deref().filter(|_| is_root)?))
}
