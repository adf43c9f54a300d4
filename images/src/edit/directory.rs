//! Edits of the images in a directory.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

use super::apply::edit;
use super::{Edit, Edited};
use crate::aside::{beside, image_beside, is_interrupted};
use crate::error::WriteError;
use crate::kind;
use crate::set::ImageSet;

/// Edits the images in a directory.
///
/// Makes all changes or none. The new images are written beside the old ones. Then the inventory is
/// put aside, and nobody takes the directory for a checkpoint. The inventory comes back when every
/// new image is in its place.
///
/// An edit that fails or is killed before the inventory is put aside leaves the old images. The
/// next edit, or [`recover`], completes an edit that is killed after that.
///
/// The second of two edits at once waits for the first.
///
/// # Errors
/// The errors of opening the set and of [`edit`](super::edit()), and [`WriteError::Write`].
pub fn edit_directory(
    directory: impl AsRef<Path>,
    edits: &[Edit],
) -> Result<Vec<Edited>, WriteError> {
    let place = Place::lock(directory.as_ref())?;
    place.recover()?;
    let edited = edit(&ImageSet::open(directory.as_ref())?, edits)?;
    let written = edited.iter().try_for_each(|image| place.write(image));
    let committed = written.and_then(|()| place.keep());
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
/// An error if the directory cannot be read or written.
pub fn recover(directory: impl AsRef<Path>) -> io::Result<bool> {
    Place::lock(directory.as_ref())?.recover()
}

/// A directory of images, locked against other edits.
struct Place {
    path: PathBuf,
    handle: Flock<File>,
}

impl Place {
    fn lock(path: &Path) -> io::Result<Self> {
        let handle = Flock::lock(File::open(path)?, FlockArg::LockExclusive);
        let handle = handle.map_err(|(_, errno)| io::Error::from(errno))?;
        Ok(Self { path: path.into(), handle })
    }

    /// Writes a new image beside the old one.
    fn write(&self, image: &Edited) -> io::Result<()> {
        let (old, new) =
            (self.path.join(&image.name), self.path.join(beside(OsStr::new(&image.name))));
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(new)?;
        file.write_all(&image.bytes)?;
        // The new image gets the permissions of the old one.
        file.set_permissions(fs::symlink_metadata(old)?.permissions())?;
        file.sync_all()
    }

    /// Puts the new images in place of the old ones.
    fn keep(&self) -> io::Result<()> {
        let waiting = self.waiting()?;
        if waiting.len() > 1 {
            let inventory = OsStr::new(kind::INVENTORY.file);
            let old = self.path.join(inventory);
            // From here on the edit can only be completed.
            if waiting.iter().any(|name| name == inventory) {
                fs::remove_file(old)?;
            } else {
                fs::rename(old, self.path.join(beside(inventory)))?;
            }
            self.handle.sync_all()?;
        }
        self.complete()
    }

    /// Renames the waiting images, the inventory last.
    fn complete(&self) -> io::Result<()> {
        let mut waiting = self.waiting()?;
        waiting.sort_by_key(|name| name == kind::INVENTORY.file);
        for name in &waiting {
            if name == kind::INVENTORY.file {
                self.handle.sync_all()?;
            }
            fs::rename(self.path.join(beside(name)), self.path.join(name))?;
        }
        if waiting.is_empty() { Ok(()) } else { self.handle.sync_all() }
    }

    fn recover(&self) -> io::Result<bool> {
        if is_interrupted(&self.path) {
            return self.complete().map(|()| true);
        }
        let waiting = self.waiting()?;
        for name in &waiting {
            fs::remove_file(self.path.join(beside(name)))?;
        }
        Ok(!waiting.is_empty())
    }

    /// Returns the names of the images that have a new one beside them.
    fn waiting(&self) -> io::Result<Vec<OsString>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let name = entry?.file_name();
            names.extend(image_beside(&name));
        }
        Ok(names)
    }
}
