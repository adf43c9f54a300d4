//! A new directory that nobody else can look into, in a directory that others may write.

use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, Flock, FlockArg, OFlag, openat};
use nix::sys::stat::{Mode, fstat, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, geteuid, unlinkat};

use super::images_dir::{PARENT, list};
use crate::error::Error;
use crate::value::{PlaceError, PlaceProblem};

/// A directory of mode 0700 that this process has made, and that it opened once. It is locked as
/// long as this value lives, on file systems with such locks.
#[derive(Debug)]
pub(super) struct Private {
    pub(super) directory: OwnedFd,
    _lock: Option<Flock<OwnedFd>>,
}

impl Private {
    /// Makes a directory. With `trusted`, nobody else can write the outer directory, and the new
    /// one may have any owner and mode.
    ///
    /// # Errors
    /// `EEXIST` for a name that is taken. `EPERM` if another directory has come to the name
    /// meanwhile. After other errors than `EEXIST` an empty directory at the name is removed.
    pub(super) fn make(outer: &OwnedFd, name: &CStr, trusted: bool) -> Result<Self, Unmade> {
        mkdirat(outer, name, Mode::S_IRWXU)?;
        Self::open(outer, name, trusted).inspect_err(|_| {
            let _ = unlinkat(outer, name, UnlinkatFlags::RemoveDir);
        })
    }

    /// Opens a directory that was just made.
    ///
    /// The owner of the outer directory can put another directory of this user in its place. Such a
    /// directory has other permissions, has files in it, or is locked.
    fn open(outer: &OwnedFd, name: &CStr, trusted: bool) -> Result<Self, Unmade> {
        let directory = openat(outer, name, flags(), Mode::empty())?;
        let (uid, mode) = owner_and_mode(&directory)?;
        if !trusted && !is_private(uid, mode) {
            return Err(Unmade::NoOwners { uid, mode: mode.bits() });
        }
        match (list(&directory)?.is_empty(), lock(&directory)) {
            (false, _) | (_, Err(Errno::EWOULDBLOCK)) => Err(Errno::EPERM.into()),
            (true, lock) => Ok(Self { directory, _lock: lock.ok() }),
        }
    }
}

/// The reason why there is no private directory.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unmade {
    /// The system refused.
    System(Errno),
    /// The new directory has another owner or mode.
    NoOwners { uid: u32, mode: u32 },
}

impl From<Errno> for Unmade {
    fn from(source: Errno) -> Self {
        Self::System(source)
    }
}

impl Unmade {
    /// Returns the error of an operation that needed the directory at `path`.
    pub(super) fn error(self, what: String, path: PathBuf) -> Error {
        match self {
            Self::System(source) => Error::system(what, source),
            Self::NoOwners { uid, mode } => {
                PlaceError { path, problem: PlaceProblem::NoOwners { uid, mode } }.into()
            }
        }
    }
}

/// Removes the second links to images that a killed process has left in its private directory.
///
/// A file is removed only if it is the file that has the same name in the outer directory, so
/// nothing is lost even if somebody has put another directory at the name. Directories that are in
/// use are locked, and are left alone.
pub(super) fn remove_links(outer: &OwnedFd, name: &CStr) -> nix::Result<()> {
    let directory = openat(outer, name, flags(), Mode::empty())?;
    let names = list(&directory)?;
    // An empty one may have been made right now.
    let (uid, mode) = owner_and_mode(&directory)?;
    if names.is_empty() || !is_private(uid, mode) {
        return Ok(());
    }
    let _lock = lock(&directory)?;
    let inode = |directory: &OwnedFd, name: &CStr| {
        let stat = fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW).ok()?;
        Some((stat.st_dev, stat.st_ino))
    };
    let mut links = 0;
    for name in names.iter().filter(|name| name.as_c_str() != PARENT) {
        let linked = inode(&directory, name);
        if linked.is_some() && linked == inode(outer, name) {
            unlinkat(&directory, name.as_c_str(), UnlinkatFlags::NoRemoveDir)?;
            links += 1;
        }
    }
    // The link to the parent leads to a descriptor of the process that was killed.
    if links > 0 && list(&directory)?.iter().all(|name| name.as_c_str() == PARENT) {
        let _ = unlinkat(&directory, PARENT, UnlinkatFlags::NoRemoveDir);
    }
    match unlinkat(outer, name, UnlinkatFlags::RemoveDir) {
        Err(Errno::ENOTEMPTY | Errno::EEXIST) => Ok(()),
        result => result,
    }
}

/// Locks a directory. A file system without such locks gives another error than `EWOULDBLOCK`.
fn lock(directory: &OwnedFd) -> nix::Result<Flock<OwnedFd>> {
    let again = directory.try_clone().map_err(|_| Errno::EMFILE)?;
    Flock::lock(again, FlockArg::LockExclusiveNonblock).map_err(|(_, source)| source)
}

fn owner_and_mode(directory: &OwnedFd) -> nix::Result<(u32, Mode)> {
    let stat = fstat(directory)?;
    let all = Mode::S_IRWXU | Mode::S_IRWXG | Mode::S_IRWXO;
    Ok((stat.st_uid, Mode::from_bits_truncate(stat.st_mode) & all))
}

fn is_private(uid: u32, mode: Mode) -> bool {
    uid == geteuid().as_raw() && mode == Mode::S_IRWXU
}

fn flags() -> OFlag {
    OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn another_directory_at_the_name_is_not_taken_for_the_new_one() {
        let path = std::env::temp_dir().join(format!("criu-rs-another-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        let other = path.join("other");
        fs::create_dir_all(&other).unwrap();
        let outer = OwnedFd::from(File::open(&path).unwrap());
        let refused = Err(Unmade::System(Errno::EPERM));
        let open = || Private::open(&outer, c"other", false).map(|_| ());
        let set_mode = |mode| fs::set_permissions(&other, PermissionsExt::from_mode(mode)).unwrap();
        set_mode(0o755);
        assert_eq!(open(), Err(Unmade::NoOwners { uid: geteuid().as_raw(), mode: 0o755 }));
        Private::open(&outer, c"other", true).unwrap();
        set_mode(0o700);
        open().unwrap();
        fs::write(other.join("inventory.img"), "old").unwrap();
        assert_eq!(open(), refused);
        fs::remove_file(other.join("inventory.img")).unwrap();
        let first = Private::open(&outer, c"other", false).unwrap();
        assert_eq!(open(), refused);
        drop(first);
        open().unwrap();
        fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn only_second_links_are_removed_from_a_directory_that_was_left() {
        let path = std::env::temp_dir().join(format!("criu-rs-left-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        let outer = OwnedFd::from(File::open(&path).unwrap());
        fs::write(path.join("pages-1.img"), "pages").unwrap();
        let make = |name: &CStr| {
            let made = Private::make(&outer, name, false).unwrap();
            let inner = path.join(name.to_str().unwrap());
            fs::hard_link(path.join("pages-1.img"), inner.join("pages-1.img")).unwrap();
            (made, inner)
        };
        let (used, inner) = make(c"used");
        assert_eq!(remove_links(&outer, c"used"), Err(Errno::EWOULDBLOCK));
        assert!(inner.join("pages-1.img").exists());
        drop(used);
        std::os::unix::fs::symlink("/proc/1/fd/3", inner.join("parent")).unwrap();
        remove_links(&outer, c"used").unwrap();
        assert!(!inner.exists());
        let (other, inner) = make(c"other");
        drop(other);
        fs::write(inner.join("core-1.img"), "of another checkpoint").unwrap();
        remove_links(&outer, c"other").unwrap();
        assert!(!inner.join("pages-1.img").exists() && inner.join("core-1.img").exists());
        assert_eq!(fs::read(path.join("pages-1.img")).unwrap(), b"pages");
        fs::remove_dir_all(path).unwrap();
    }
}
