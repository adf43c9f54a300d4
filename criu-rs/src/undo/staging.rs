//! A private directory for criu, in place of one that others can write.

use std::collections::HashSet;
use std::ffi::{CStr, CString};
use std::hash::{BuildHasher, Hasher};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, readlinkat, renameat};
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmodat, fstatat};
use nix::unistd::{UnlinkatFlags, geteuid, linkat, symlinkat, unlinkat};

use super::images_dir::{INVENTORY, PARENT, is_image, list};
use super::private::{Private, Unmade, remove_links};
use crate::error::{Error, Result};
use crate::value::{Role, look_at};

/// A new directory of mode 0700 inside a directory that others can write. Criu writes into the new
/// one, and the results are moved to their names when they are complete.
///
/// A rename replaces a link that somebody has planted, and does not follow it. Dropped, the value
/// moves logs to their names, and removes everything else together with the new directory. A
/// process that is killed leaves the new directory behind. If images are linked there, the next
/// operation that frees pages in them removes these links.
#[derive(Debug)]
pub(crate) struct Staging {
    outer: OwnedFd,
    /// The path of the outer directory, for messages.
    shown: PathBuf,
    inner: Private,
    name: CString,
    /// The text of the link `parent` as the outer directory gets it.
    parent: Mutex<Option<CString>>,
    /// Others may read the images as far as criu has let them.
    keeps_modes: AtomicBool,
    /// The images are at their names.
    is_delivered: AtomicBool,
}

impl Staging {
    /// Makes the new directory.
    ///
    /// # Errors
    /// The directory cannot be made. [`Error::Place`] if it is not a private one afterwards: the
    /// file system keeps no owners and modes, or another user has put something in its place.
    pub(crate) fn make(outer: OwnedFd, shown: PathBuf) -> Result<Self> {
        let (name, inner) = with_unused_name(&outer).map_err(|unmade| {
            let what = format!("make a private directory in {}", shown.display());
            unmade.error(what, shown.clone())
        })?;
        Ok(Self {
            outer,
            shown,
            inner,
            name,
            parent: Mutex::new(None),
            keeps_modes: AtomicBool::new(false),
            is_delivered: AtomicBool::new(false),
        })
    }

    /// Removes the links to images that killed processes have left in their private directories.
    pub(crate) fn remove_left_links(outer: &OwnedFd) {
        // Directories that cannot be cleaned stay, and a look at the images will tell.
        for name in list(outer).unwrap_or_default() {
            if name.to_bytes().starts_with(PREFIX.as_bytes()) {
                let _ = remove_links(outer, &name);
            }
        }
    }

    /// Returns the new directory.
    pub(crate) fn directory(&self) -> &OwnedFd {
        &self.inner.directory
    }

    /// Notes the text that the link `parent` gets in the outer directory. In the new directory the
    /// link may have another text.
    pub(crate) fn name_parent(&self, text: CString) {
        *self.parent.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
    }

    /// Leaves the modes of the images as criu makes them. By default nobody else may read an image,
    /// as nobody could in the new directory. The user who restores a tree in a user namespace is
    /// another user.
    pub(crate) fn keep_modes(&self) {
        self.keeps_modes.store(true, Ordering::Relaxed);
    }

    /// Links images of the outer directory into the new one, where nobody else can replace them.
    ///
    /// # Errors
    /// [`Error::Place`] for a name that is no file of this user, and a system's error if a file
    /// cannot be linked.
    pub(crate) fn link_images(&self, is_image: impl Fn(&CStr) -> bool) -> Result<()> {
        let listed = list(&self.outer)
            .map_err(|source| Error::system(format!("list {}", self.shown.display()), source))?;
        for name in listed {
            if !is_image(&name) {
                continue;
            }
            let flags = AtFlags::empty();
            linkat(&self.outer, name.as_c_str(), self.directory(), name.as_c_str(), flags)
                .map_err(|source| {
                    let name = name.to_string_lossy();
                    let shown = self.shown.display();
                    Error::system(format!("link {shown}/{name} into a private directory"), source)
                })?;
            // Looked at where nobody can change it any more. The new link counts, too.
            look_at(self.directory(), &self.shown, &name, Role::LinkedFile)?;
        }
        Ok(())
    }

    /// Makes the link to the parent images in the new directory.
    ///
    /// # Errors
    /// The link cannot be made.
    pub(crate) fn link_parent(&self, path: &str) -> Result<()> {
        symlinkat(path, self.directory(), PARENT)
            .map_err(|source| Error::system("make a link to the parent images", source))
    }

    /// Moves the images of a checkpoint to their names, before its tasks are let go or killed.
    ///
    /// # Errors
    /// An image cannot be moved, or there is no `inventory.img`.
    pub(crate) fn deliver_checkpoint(&self) -> Result<()> {
        if !self.listed()?.contains(INVENTORY) {
            let what = format!("move inventory.img to its place in {}", self.shown.display());
            return Err(Error::system(what, Errno::ENOENT));
        }
        self.deliver_images()
    }

    /// Moves images that are not at their names yet, and the statistics as far as that is possible:
    /// criu writes the statistics when the tasks are gone.
    ///
    /// # Errors
    /// An image cannot be moved.
    pub(crate) fn finish(&self) -> Result<()> {
        if !self.is_delivered.load(Ordering::Relaxed) {
            self.deliver_images()?;
        }
        for name in list(self.directory()).unwrap_or_default() {
            let _ = self.deliver(&name);
        }
        Ok(())
    }

    /// Moves the images to their names, `inventory.img` last: a part of a checkpoint must not pass
    /// for a checkpoint. A directory that somebody has put at a name is an error.
    ///
    /// # Errors
    /// An image cannot be moved.
    fn deliver_images(&self) -> Result<()> {
        let is_needed = |name: &CString| is_image(name) && !is_record(name);
        let mut names: Vec<CString> = self.listed()?.into_iter().filter(is_needed).collect();
        names.sort_unstable_by_key(|name| name.as_c_str() == INVENTORY);
        for name in names {
            self.deliver(&name).map_err(|source| {
                let name = name.to_string_lossy();
                Error::system(
                    format!("move {name} to its place in {}", self.shown.display()),
                    source,
                )
            })?;
        }
        self.is_delivered.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Returns the names in the new directory. Criu may have written images that an incomplete list
    /// lacks, so an error here must not pass for an empty directory.
    fn listed(&self) -> Result<HashSet<CString>> {
        list(self.directory()).map_err(|source| {
            let what = format!("list the private directory in {}", self.shown.display());
            Error::system(what, source)
        })
    }

    /// Moves one file, if it is a file, or the link to the parent images.
    fn deliver(&self, name: &CStr) -> nix::Result<()> {
        let stat = fstatat(self.directory(), name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
        if kind == SFlag::S_IFLNK && name == PARENT {
            let text = self.parent.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some(text) = text {
                let is_there = readlinkat(&self.outer, name);
                if is_there.is_ok_and(|found| found.as_bytes() == text.as_bytes()) {
                    return unlinkat(self.directory(), name, UnlinkatFlags::NoRemoveDir);
                }
                unlinkat(self.directory(), name, UnlinkatFlags::NoRemoveDir)?;
                symlinkat(text.as_c_str(), self.directory(), name)?;
            }
        } else if kind != SFlag::S_IFREG {
            return Ok(());
        } else if is_image(name) && !self.keeps_modes.load(Ordering::Relaxed) {
            let mode = Mode::from_bits_truncate(stat.st_mode);
            let own = Mode::S_IRUSR | Mode::S_IWUSR;
            // A service may have made the file as another user.
            let euid = geteuid();
            if !own.contains(mode) && (euid.is_root() || stat.st_uid == euid.as_raw()) {
                // The name is a file: nobody else can write in the new directory.
                fchmodat(self.directory(), name, mode & own, FchmodatFlags::FollowSymlink)?;
            }
        }
        renameat(self.directory(), name, &self.outer, name)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        for name in list(self.directory()).unwrap_or_default() {
            if !is_image(&name) {
                let _ = self.deliver(&name);
            }
            let _ = unlinkat(self.directory(), name.as_c_str(), UnlinkatFlags::NoRemoveDir);
        }
        // Not removed if somebody has moved it away meanwhile. It is empty then.
        let _ = unlinkat(self.outer.as_fd(), self.name.as_c_str(), UnlinkatFlags::RemoveDir);
    }
}

/// Says whether a file of a dump can be missing: no restore reads it.
fn is_record(name: &CStr) -> bool {
    matches!(name.to_bytes(), b"stats-dump" | b"irmap-cache")
}

/// Makes a directory with a name that nobody could foresee.
fn with_unused_name(outer: &OwnedFd) -> Result<(CString, Private), Unmade> {
    let mut tries = 0;
    loop {
        let number = std::hash::RandomState::new().build_hasher().finish();
        let name = CString::new(format!("{PREFIX}{number:016x}")).map_err(|_| Errno::EINVAL)?;
        match Private::make(outer, &name, false) {
            Ok(made) => return Ok((name, made)),
            Err(Unmade::System(Errno::EEXIST)) if tries < TRIES => tries += 1,
            Err(source) => return Err(source),
        }
    }
}

/// The beginning of the name of a private directory.
const PREFIX: &str = ".criu-rs-new-";

/// The number of names that are tried.
const TRIES: u32 = 16;

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;

    use nix::unistd::{Uid, setfsuid};

    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("criu-rs-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        path
    }

    fn staging(path: &Path) -> Staging {
        Staging::make(File::open(path).unwrap().into(), path.into()).unwrap()
    }

    fn write(staging: &Staging, name: &str) {
        let file = crate::sys::proc_link(staging.directory().as_fd()).join(name);
        fs::write(&file, "new").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    }

    fn names(path: &Path) -> Vec<String> {
        let entries = fs::read_dir(path).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_link_planted_meanwhile_is_replaced_and_not_followed() {
        let path = scratch("staged");
        let outside = path.join("outside");
        fs::write(&outside, "old").unwrap();
        let staging = staging(&path);
        for name in ["inventory.img", "stats-dump", "dump.log"] {
            write(&staging, name);
            symlink(&outside, path.join(name)).unwrap();
        }
        staging.finish().unwrap();
        drop(staging);
        assert_eq!(fs::read(&outside).unwrap(), b"old");
        for name in ["inventory.img", "stats-dump", "dump.log"] {
            let meta = fs::symlink_metadata(path.join(name)).unwrap();
            assert!(meta.is_file(), "{name}");
        }
        for name in ["inventory.img", "stats-dump"] {
            let mode = fs::metadata(path.join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "{name}");
        }
        assert_eq!(names(&path), ["dump.log", "inventory.img", "outside", "stats-dump"]);
        fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn a_failed_operation_leaves_its_log_alone() {
        let path = scratch("unstaged");
        let staging = staging(&path);
        for name in ["inventory.img", "pages-1.img", "stats-dump", "dump.log"] {
            write(&staging, name);
        }
        symlinkat("/nowhere", staging.directory(), "lazy-pages.socket").unwrap();
        drop(staging);
        assert_eq!(names(&path), ["dump.log"]);
        fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn a_file_system_that_keeps_no_owners_is_told_with_the_way_out() {
        let path = scratch("squashed");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        let outer = File::open(&path).unwrap();
        let is_root = geteuid().is_root();
        let nobody = Uid::from_raw(65534);
        // A server of NFS gives the new directory to nobody, as the kernel does here.
        let made = std::thread::spawn(move || {
            setfsuid(nobody);
            Staging::make(outer.into(), "/images".into())
        });
        let made = made.join().unwrap();
        assert!(is_root, "this test gives a directory to another user: run it as root");
        let error = made.unwrap_err().to_string();
        for part in ["/images", "user 65534, mode 700", "trust_directory"] {
            assert!(error.contains(part), "{error}");
        }
        assert!(names(&path).is_empty(), "{:?}", names(&path));
        fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn images_that_cannot_be_listed_are_no_checkpoint() {
        let path = scratch("unlisted");
        let mut staging = staging(&path);
        write(&staging, "core-1.img");
        let error = staging.deliver_checkpoint().unwrap_err().to_string();
        assert!(error.contains("inventory.img"), "{error}");
        write(&staging, "inventory.img");
        // No list can be made of a file.
        fs::write(path.join("file"), "").unwrap();
        let file = OwnedFd::from(File::open(path.join("file")).unwrap());
        let inner = std::mem::replace(&mut staging.inner.directory, file);
        assert!(staging.deliver_checkpoint().is_err());
        assert!(staging.finish().is_err());
        staging.inner.directory = inner;
        staging.deliver_checkpoint().unwrap();
        staging.finish().unwrap();
        drop(staging);
        assert_eq!(names(&path), ["core-1.img", "file", "inventory.img"]);
        fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn a_directory_planted_at_a_name_is_an_error() {
        let path = scratch("obstacle");
        let staging = staging(&path);
        write(&staging, "core-1.img");
        fs::create_dir(path.join("core-1.img")).unwrap();
        let error = staging.deliver_images().unwrap_err().to_string();
        assert!(error.contains("move core-1.img to its place"), "{error}");
        drop(staging);
        fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn the_link_to_the_parent_gets_its_own_text() {
        let path = scratch("staged-parent");
        let staging = staging(&path);
        symlinkat("/proc/1/fd/3", staging.directory(), PARENT).unwrap();
        staging.name_parent(c"../0".into());
        staging.deliver_images().unwrap();
        drop(staging);
        assert_eq!(fs::read_link(path.join("parent")).unwrap(), Path::new("../0"));
        fs::remove_dir_all(path).unwrap();
    }
}
