//! A place for mounts that end with this process.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::{Mutex, PoisonError};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::statfs::{TMPFS_MAGIC, statfs};

use super::error::{Error, Result};
use crate::host::MountInfo;

/// A folder for the mounts of one restore. They end with this process, even if it is killed.
///
/// The folder lies in a small tmpfs that covers a folder of this process in `/proc`. When the
/// process has ended, its folders in `/proc` are gone, and the kernel detaches what is mounted on
/// them, in every mount namespace. CRIU needs mounts that it sees by a path, so a detached mount or
/// a mount in a private mount namespace does not serve a CRIU that runs elsewhere, as a service
/// does.
#[derive(Debug)]
pub(crate) struct Shelf {
    pub(crate) path: PathBuf,
    /// The mount point of the tmpfs, which all shelves of this process share.
    base: PathBuf,
    owner: u32,
}

/// The tmpfs of this process.
#[derive(Debug)]
struct Shared {
    /// The process that has mounted the tmpfs. A forked child has no tmpfs yet.
    owner: u32,
    shelves: usize,
    /// The number of the last shelf.
    last: u64,
}

static SHARED: Mutex<Shared> = Mutex::new(Shared { owner: 0, shelves: 0, last: 0 });

impl Shelf {
    /// Makes an empty folder.
    pub(crate) fn new() -> Result<Self> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if shared.owner != process::id() {
            *shared = Shared { owner: process::id(), shelves: 0, last: 0 };
        }
        let base = base().map_err(|source| Error::path("find this process in", "/proc", source))?;
        // Another thread may have a mount namespace of its own, without the tmpfs.
        let is_mounted = statfs(&base).is_ok_and(|found| found.filesystem_type() == TMPFS_MAGIC);
        if shared.shelves == 0 || !is_mounted {
            mount_tmpfs(&base)?;
        }
        shared.last += 1;
        let path = base.join(shared.last.to_string());
        let made = fs::create_dir(&path);
        made.map_err(|source| Error::path("make the directory", &path, source))?;
        shared.shelves += 1;
        Ok(Self { path, base, owner: shared.owner })
    }
}

impl Drop for Shelf {
    fn drop(&mut self) {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        // A forked child has a copy of this value, but the mounts are not its own.
        if self.owner != process::id() || shared.owner != self.owner {
            return;
        }
        let mounts = MountInfo::all("thread-self").unwrap_or_default();
        for mount in mounts.iter().rev().filter(|mount| mount.point.starts_with(&self.path)) {
            detach(&mount.point);
        }
        // Not recursively: a mount that could not be detached shows the container's files.
        let folders = || fs::read_dir(&self.path).into_iter().flatten().flatten();
        for folder in folders().map(|entry| entry.path()) {
            for empty in fs::read_dir(&folder).into_iter().flatten().flatten() {
                let _ = fs::remove_dir(empty.path());
            }
            let _ = fs::remove_dir(folder);
        }
        let _ = fs::remove_dir(&self.path);
        shared.shelves = shared.shelves.saturating_sub(1);
        if shared.shelves == 0 {
            detach(&self.base);
        }
    }
}

fn detach(path: &Path) {
    let _ = umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW);
}

/// The folder that the tmpfs covers: the network of this process's first thread. Its content is
/// that of `/proc/self/net`, and nobody reads it there.
fn base() -> io::Result<PathBuf> {
    let own = fs::read_link("/proc/self")?;
    Ok(Path::new("/proc").join(&own).join("task").join(&own).join("net"))
}

fn mount_tmpfs(at: &Path) -> Result<()> {
    let none = None::<&str>;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("tmpfs"), at, Some("tmpfs"), flags, Some("mode=755,size=1m"))
        .map_err(|source| Error::path("mount a file system at", at, source))?;
    // Nobody else gets the mounts that are made in it.
    mount(none, at, none, MsFlags::MS_PRIVATE, none)
        .inspect_err(|_| detach(at))
        .map_err(|source| Error::path("make private", at, source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_is_of_this_process() {
        let base = base().unwrap();
        assert!(base.is_dir());
        assert!(base.to_string_lossy().contains(&format!("/{}/task/", process::id())));
    }
}
