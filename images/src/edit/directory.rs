//! Edits of images in the place where they are.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

use super::{Edit, Edited, edit};
use crate::aside::{beside, image_beside, is_interrupted};
use crate::error::WriteError;
use crate::kind;
use crate::set::ImageSet;

/// Edits the images in a directory.
///
/// All or none: the new images are written beside the old ones and kept, then the inventory is put aside, without
/// which the directory is no checkpoint, to anybody; it comes back when every new image is in its place. An edit that
/// fails, or is killed before that, leaves the old images; one that is killed in between is completed by the next,
/// or by [`recover`].
///
/// Of two edits at once the second waits.
///
/// # Errors
/// Those of opening the set, of [`edit`](super::edit()), and [`WriteError::Write`].
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
        // What has been decided cannot be taken back: then the error stands, and `recover` is for later.
        let _ = place.recover();
        return Err(error.into());
    }
    Ok(edited)
}

/// Completes an edit that was killed while it put images in their places, and removes what one left that was killed
/// before; whether there was anything of either.
///
/// # Errors
/// When the directory cannot be read or written.
pub fn recover(directory: impl AsRef<Path>) -> io::Result<bool> {
    Place::lock(directory.as_ref())?.recover()
}

/// A directory of images that nobody else edits.
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
        // Whoever may read the old one may read the new one, and nobody else.
        file.set_permissions(fs::symlink_metadata(old)?.permissions())?;
        file.sync_all()
    }

    /// Puts the new images in the places of the old ones.
    fn keep(&self) -> io::Result<()> {
        let waiting = self.waiting()?;
        if waiting.len() > 1 {
            let inventory = OsStr::new(kind::INVENTORY.file);
            let old = self.path.join(inventory);
            // From here on there is no way back.
            if waiting.iter().any(|name| name == inventory) {
                fs::remove_file(old)?;
            } else {
                fs::rename(old, self.path.join(beside(inventory)))?;
            }
            self.handle.sync_all()?;
        }
        self.complete()
    }

    /// Renames what waits, the inventory last.
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

    /// The names of the images that have a new one beside them.
    fn waiting(&self) -> io::Result<Vec<OsString>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let name = entry?.file_name();
            names.extend(image_beside(&name));
        }
        Ok(names)
    }
}
