//! Mounts and mount points that CRIU needs when it restores a container.

use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::{fs, thread};

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::statvfs::{FsFlags, statvfs};

use super::container::{Bind, Container};
use super::error::{Error, Result};
use super::root::Root;
use crate::host::MountInfo;

/// Mounts the container's root at `at`: CRIU wants a root that is a mount point.
pub(crate) fn mount_root(rootfs: &Path, at: &Path) -> Result<()> {
    let none = None::<&str>;
    mount_at(at, "mount the root file system at", || {
        mount(Some(rootfs), at, none, MsFlags::MS_BIND | MsFlags::MS_REC, none)
    })?;
    // Nobody else gets the mounts that are made in it from here on.
    let private = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
    mount(none, at, none, private, none).map_err(|source| Error::path("make private", at, source))
}

/// Makes a mount read-only, as CRIU 4.1 forgets to do with a root. Mounts in it stay as they are.
pub(crate) fn make_read_only(at: &Path) -> Result<()> {
    let failed = |source| Error::path("make read-only", at, source);
    let known = [
        (FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
        (FsFlags::ST_NODEV, MsFlags::MS_NODEV),
        (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
        (FsFlags::ST_NOATIME, MsFlags::MS_NOATIME),
        (FsFlags::ST_NODIRATIME, MsFlags::MS_NODIRATIME),
        (FsFlags::ST_RELATIME, MsFlags::MS_RELATIME),
    ];
    let has = statvfs(at).map_err(failed)?.flags();
    let kept = known.into_iter().filter(|(flag, _)| has.contains(*flag)).map(|(_, flag)| flag);
    let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    let flags = kept.fold(flags, |all, flag| all | flag);
    let none = None::<&str>;
    mount(none, at, none, flags, none).map_err(failed)
}

/// Mounts a directory at `at` without the mounts below it. In another user namespace the kernel
/// does not let CRIU uncover what these hide. Returns false if there are no mounts below the
/// directory, and mounts nothing then.
pub(crate) fn mount_alone(source: &Path, at: &Path) -> Result<bool> {
    let failed = |error| Error::path("find the source of a mount", source, error);
    let full = source.canonicalize().map_err(failed)?;
    let mounts = MountInfo::all("thread-self").map_err(failed)?;
    if !mounts.iter().any(|mount| mount.point != full && mount.point.starts_with(&full)) {
        return Ok(false);
    }
    let none = None::<&str>;
    mount_at(at, "mount what a bind mount shows at", || {
        mount(Some(source), at, none, MsFlags::MS_BIND, none)
    })?;
    Ok(true)
}

/// Mounts an empty directory at `at`, for masked directories. It is a file system of its own: a
/// later dump saves it with the container.
pub(crate) fn mount_empty(at: &Path) -> Result<()> {
    mount_at(at, "mount an empty file system at", || {
        let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        let flags = flags | MsFlags::MS_NOEXEC;
        mount(Some("tmpfs"), at, Some("tmpfs"), flags, Some("mode=555,size=4k"))
    })
}

fn mount_at(
    at: &Path,
    doing: &'static str,
    mount: impl FnOnce() -> Result<(), Errno>,
) -> Result<()> {
    make_directory(at)?;
    mount().map_err(|source| Error::path(doing, at, source))
}

pub(crate) fn make_directory(at: &Path) -> Result<()> {
    fs::create_dir(at).map_err(|source| Error::path("make the directory", at, source))
}

/// Makes mount points that are missing in a root file system, as a runtime does when it creates the
/// container.
///
/// Bind mounts are mounted on the way, because a mount point may be below one of them. A thread
/// with a mount namespace of its own does that, and the mounts go with this namespace.
pub(crate) fn mount_points(container: &Container, root: &Path) -> Result<()> {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let failed = |source: Errno| Error::path("prepare the mounts of", root, source);
            unshare(CloneFlags::CLONE_NEWNS).map_err(failed)?;
            let none = None::<&str>;
            let private = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
            mount(none, "/", none, private, none).map_err(failed)?;
            let inside = Root::open(root).map_err(|source| Error::path("open", root, source))?;
            // CRIU makes mount points below these when it mounts them.
            let mut own: Vec<&Path> = Vec::new();
            for (destination, bind) in container.mounts() {
                if destination.as_os_str().is_empty() {
                    return Err(Error::unsupported("mounts", "a mount has no destination"));
                }
                if own.iter().any(|above| destination != *above && destination.starts_with(above)) {
                    continue;
                }
                mount_point(&inside, destination, bind.as_ref())?;
                if bind.is_none() {
                    own.push(destination);
                }
            }
            Ok(())
        });
        let panicked = || Error::path("prepare the mounts of", root, Errno::EFAULT);
        thread.join().unwrap_or_else(|_| Err(panicked()))
    })
}

fn mount_point(root: &Root, destination: &Path, bind: Option<&Bind>) -> Result<()> {
    let make = |is_directory| {
        let made = root.make(destination, is_directory);
        made.map_err(|source| Error::path("make the mount point", destination, source))
    };
    let Some(bind) = bind else { return make(true).map(drop) };
    let source = &bind.source;
    let meta = fs::metadata(source);
    let meta = meta.map_err(|error| Error::path("find the source of a mount", source, error))?;
    let point = make(meta.is_dir())?;
    let target = format!("/proc/self/fd/{}", point.as_fd().as_raw_fd());
    let none = None::<&str>;
    // A mount point must not be made in a mount that is not shown later.
    let below = if bind.is_recursive { MsFlags::MS_REC } else { MsFlags::empty() };
    let flags = MsFlags::MS_BIND | below;
    mount(Some(source), target.as_str(), none, flags, none)
        .map_err(|error| Error::path("mount what a bind mount shows,", source, error))
}
