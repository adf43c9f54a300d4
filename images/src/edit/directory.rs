//! Edits of the images in a directory.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{self, AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{Mode, SFlag, fstatat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, fsync, unlinkat};

use super::apply::edit;
use super::lock::Lock;
use super::{Edit, Edited};
use crate::aside::{beside, image_beside};
use crate::error::WriteError;
use crate::kind;
use crate::set::ImageSet;
use crate::source::Directory;

/// Edits the images in a directory.
///
/// Makes all changes or none. The new images are written beside the old ones. Then the inventory is
/// put aside, and nobody takes the directory for a checkpoint. The inventory comes back when every
/// new image is in its place.
///
/// [Marks](Edit::MarkLazy) alone leave the inventory in its place, because a checkpoint is whole
/// with the marks of some tasks. If it is killed, some tasks are marked and others not.
///
/// An edit that fails or is killed before the inventory is put aside leaves the old images. The
/// next edit, or [`recover`], completes an edit that is killed after that.
///
/// The second of two edits at once waits for the first, for 10 seconds at most. The lock is a file
/// `.edit-lock` of mode 0600 in the directory. Those who can only read the directory cannot take
/// the lock.
///
/// # Errors
/// The errors of opening the set and of [`edit`](super::edit()), and [`WriteError::Write`], also if
/// another edit does not end in time.
pub fn edit_directory(
    directory: impl AsRef<Path>,
    edits: &[Edit],
) -> Result<Vec<Edited>, WriteError> {
    let place = Place::lock(directory.as_ref())?;
    place.recover()?;
    let images = Directory::held(directory.as_ref(), place.directory()?)?;
    let is_mark = |edit: &Edit| matches!(edit, Edit::MarkLazy);
    let edited = edit(&ImageSet::new(images)?, edits)?;
    let written = edited.iter().try_for_each(|image| place.write(image));
    let committed = written.and_then(|()| place.keep(!edits.iter().all(is_mark)));
    if let Err(error) = committed {
        // Once the inventory is put aside, this completes the edit. If that fails too, a later
        // `recover` can do it.
        let _ = place.recover();
        return Err(error.into());
    }
    Ok(edited)
}

/// Completes an edit that was killed while it put images in place. Removes the files of an edit
/// that was killed earlier. Returns true if there was such an edit.
///
/// # Errors
/// An error if the directory cannot be read or written, or if another edit does not end in 10
/// seconds.
pub fn recover(directory: impl AsRef<Path>) -> io::Result<bool> {
    Place::lock(directory.as_ref())?.recover()
}

/// A directory of images, held open and locked against other edits.
struct Place {
    lock: Lock,
}

impl Place {
    fn lock(path: &Path) -> io::Result<Self> {
        let directory = fcntl::open(path, DIRECTORY, Mode::empty())?;
        Ok(Self { lock: Lock::take(directory)? })
    }

    fn directory(&self) -> io::Result<OwnedFd> {
        self.lock.directory().try_clone_to_owned()
    }

    /// Writes a new image beside the old one.
    fn write(&self, image: &Edited) -> io::Result<()> {
        let name = OsStr::new(&image.name);
        let new =
            openat(self.lock.directory(), &*beside(name), NEW, Mode::S_IRUSR | Mode::S_IWUSR)?;
        let mut file = File::from(new);
        file.write_all(&image.bytes)?;
        // The new image gets the owner and the permissions of the old one.
        let old = fstatat(self.lock.directory(), name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        if old.st_mode & SFlag::S_IFMT.bits() != SFlag::S_IFREG.bits() {
            return Err(io::Error::other(format!("{}: is not a regular file", image.name)));
        }
        let owner = (Some(Uid::from_raw(old.st_uid)), Some(Gid::from_raw(old.st_gid)));
        match fchown(&file, owner.0, owner.1) {
            // Only root can give a file to another owner.
            Ok(()) | Err(Errno::EPERM) => {}
            Err(error) => return Err(error.into()),
        }
        file.set_permissions(Permissions::from_mode(old.st_mode & 0o7777))?;
        file.sync_all()
    }

    /// Puts the new images in place of the old ones; if `together`, all of them or none.
    fn keep(&self, together: bool) -> io::Result<()> {
        let waiting = self.waiting()?;
        if together && waiting.len() > 1 {
            let inventory = OsStr::new(kind::INVENTORY.file);
            // From here on the edit can only be completed.
            if waiting.iter().any(|name| name == inventory) {
                self.remove(inventory)?;
            } else {
                self.rename(inventory, &beside(inventory))?;
            }
            self.sync()?;
        }
        self.complete()
    }

    /// Renames the waiting images, the inventory last.
    fn complete(&self) -> io::Result<()> {
        let mut waiting = self.waiting()?;
        waiting.sort_by_key(|name| name == kind::INVENTORY.file);
        for name in &waiting {
            if name == kind::INVENTORY.file {
                self.sync()?;
            }
            self.rename(&beside(name), name)?;
        }
        if waiting.is_empty() { Ok(()) } else { self.sync() }
    }

    fn recover(&self) -> io::Result<bool> {
        let inventory = OsStr::new(kind::INVENTORY.file);
        // The edit was killed after the point of no return.
        if !self.has(inventory)? && self.has(&beside(inventory))? {
            return self.complete().map(|()| true);
        }
        let waiting = self.waiting()?;
        for name in &waiting {
            self.remove(&beside(name))?;
        }
        Ok(!waiting.is_empty())
    }

    /// Returns the names of the images that have a new one beside them.
    fn waiting(&self) -> io::Result<Vec<OsString>> {
        let mut names = Vec::new();
        // Opened anew: a position in the held directory would be shared.
        let mut listed = Dir::openat(self.lock.directory(), ".", DIRECTORY, Mode::empty())?;
        for entry in listed.iter() {
            let name = OsString::from_vec(entry?.file_name().to_bytes().to_vec());
            names.extend(image_beside(&name));
        }
        Ok(names)
    }

    fn has(&self, name: &OsStr) -> io::Result<bool> {
        match fstatat(self.lock.directory(), name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::ENOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn remove(&self, name: &OsStr) -> io::Result<()> {
        Ok(unlinkat(self.lock.directory(), name, UnlinkatFlags::NoRemoveDir)?)
    }

    fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        let directory = self.lock.directory();
        Ok(renameat(directory, from.as_bytes(), directory, to.as_bytes())?)
    }

    fn sync(&self) -> io::Result<()> {
        Ok(fsync(self.lock.directory())?)
    }
}

const DIRECTORY: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);
const NEW: OFlag = OFlag::O_WRONLY
    .union(OFlag::O_CREAT)
    .union(OFlag::O_EXCL)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);
