//! Mounts that a killed restore has left in a directory.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::error::{Error, Result};
use crate::host::MountInfo;
use crate::sys::proc_link;

/// Unmounts what a restore that was killed has left in a runtime's state directory. Call it before
/// that directory is removed recursively.
///
/// runc, youki and earlier versions of this crate bind the container's root file system to
/// `criu-root` below their state directory while CRIU restores; crun does so in the bundle, which
/// is a `state` for this function, too. If the runtime is killed then, the
/// mount stays, and a recursive removal of the directory deletes the container's files. A
/// [`ContainerRestore`](super::ContainerRestore) of this crate mounts nothing there, and
/// [`RestorePlan::prepare`](super::RestorePlan::prepare) calls this function.
///
/// Mounts at `criu-root`, `criu-empty` and `criu-mount-NUMBER` in the directory are unmounted, and
/// so are the cgroup hierarchies that CRIU mounts at `.criu.cgyard.*`, there or in a directory
/// below, such as runc's `criu.work`. Their mount points are removed if they are empty. Links are
/// not followed below `state`, and other mounts and files stay. Returns the mount points.
///
/// Do not call it while another process restores the container.
///
/// ```no_run
/// let state = "/run/my-runtime/web";
/// for mount in criu_rs::oci::clean_up(state)? {
///     eprintln!("a restore was killed: unmounted {}", mount.display());
/// }
/// std::fs::remove_dir_all(state)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`Error::Path`] if the mounts cannot be read or one cannot be unmounted. Do not remove the
/// directory then. A directory that does not exist is no error.
pub fn clean_up(state: impl AsRef<Path>) -> Result<Vec<PathBuf>> {
    let state = match state.as_ref().canonicalize() {
        Ok(state) => state,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(Error::path("find the directory", state.as_ref(), source)),
    };
    let mounts = MountInfo::all("thread-self")
        .map_err(|source| Error::path("read", "/proc/thread-self/mountinfo", source))?;
    let mut cleaned = Vec::new();
    // The kernel lists a mount after the mounts below it.
    for mount in mounts.iter().rev().filter(|mount| is_leftover(&mount.point, &state)) {
        let unmounted = unmount(&mount.point);
        let unmounted = unmounted.map_err(|source| Error::path("unmount", &mount.point, source))?;
        if unmounted && !cleaned.contains(&mount.point) {
            cleaned.push(mount.point.clone());
        }
    }
    for name in fs::read_dir(&state).into_iter().flatten().flatten() {
        if is_leftover(&name.path(), &state) {
            // Only an empty directory is removed, and no link.
            let _ = fs::remove_dir(name.path());
        }
    }
    Ok(cleaned)
}

/// Says whether a mount point has the place and the name of a restore's.
fn is_leftover(point: &Path, state: &Path) -> bool {
    let Ok(below) = point.strip_prefix(state) else { return false };
    let name = point.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let numbered = |rest: &str| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit());
    let is_own = ["criu-root", "criu-empty"].contains(&name)
        || name.strip_prefix("criu-mount-").is_some_and(numbered);
    match below.components().count() {
        1 => is_own || name.starts_with(YARD),
        2 => name.starts_with(YARD),
        _ => false,
    }
}

/// Unmounts the topmost mount at a place with everything below it, and removes the directory
/// there if it is empty. Returns false if nothing is mounted at the place.
fn unmount(point: &Path) -> io::Result<bool> {
    let (Some(above), Some(name)) = (point.parent(), point.file_name()) else {
        return Err(Errno::EINVAL.into());
    };
    // Somebody may put a link in the place of the directory meanwhile.
    let mut options = File::options();
    let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_PATH;
    let above = options.read(true).custom_flags(flags).open(above)?;
    let path = proc_link(above.as_fd()).join(name);
    make_private(&above, name)?;
    match umount2(&path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
        Ok(()) => {
            let _ = unlinkat(&above, name, UnlinkatFlags::RemoveDir);
            Ok(true)
        }
        // A mount over the directory that holds it hides this one.
        Err(Errno::EINVAL | Errno::ENOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Makes the mount at a place private, with all mounts below it. A mount that goes below a shared
/// mount also goes below its peers: these are the container's own mounts, of which runc binds
/// copies.
fn make_private(above: &File, name: &OsStr) -> io::Result<()> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let Ok(point) = openat(above, name, flags, Mode::empty()) else { return Ok(()) };
    let (none, private) = (None::<&str>, MsFlags::MS_PRIVATE | MsFlags::MS_REC);
    match mount(none, &proc_link(point.as_fd()), none, private, none) {
        // Nothing is mounted there.
        Ok(()) | Err(Errno::EINVAL) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The beginning of the name of CRIU's cgroup mounts.
const YARD: &str = ".criu.cgyard.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_mounts_of_a_restore_are_leftovers() {
        let state = Path::new("/run/it");
        let is = |point: &str| is_leftover(Path::new(point), state);
        for point in [
            "/run/it/criu-root",
            "/run/it/criu-empty",
            "/run/it/criu-mount-12",
            "/run/it/.criu.cgyard.a1B2c3",
            "/run/it/criu.work/.criu.cgyard.a1B2c3",
        ] {
            assert!(is(point), "{point}");
        }
        for point in [
            "/run/it",
            "/run/it/rootfs",
            "/run/it/criu-mount-",
            "/run/it/criu-mount-x",
            "/run/it/rootfs/criu-root",
            "/run/it/a/b/.criu.cgyard.a1B2c3",
            "/run/it2/criu-root",
            "/run/criu-root",
        ] {
            assert!(!is(point), "{point}");
        }
    }
}
