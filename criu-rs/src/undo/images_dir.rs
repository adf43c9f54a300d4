//! The images directory of a dump, and its cleanup after a failure.

use std::collections::HashSet;
use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use criu_images::kind::Kind;
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, renameat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::private::{Private, Unmade};
use crate::error::{Error, Result};
use crate::value::CopyNotice;

/// A guard of an images directory during a dump.
///
/// Dropped without [`ImagesDir::keep`], the guard removes the images written meanwhile, so that a
/// partial dump does not pass for a checkpoint. It also puts earlier images back.
#[derive(Debug)]
pub(crate) struct ImagesDir {
    directory: OwnedFd,
    before: HashSet<CString>,
    /// The directory [`ASIDE`], if images of an earlier checkpoint are in it. It is opened once:
    /// somebody may put another one at its name meanwhile.
    aside: Option<Private>,
    /// The names of these images.
    earlier: Vec<CString>,
    kept: bool,
}

impl ImagesDir {
    /// Notes the files in the directory. With `overwrite` it sets the images of an earlier
    /// checkpoint aside. With `trusted`, nobody else can write the directory.
    ///
    /// # Errors
    /// [`Error::CheckpointExists`] without `overwrite`. `EEXIST` if an interrupted run has left
    /// images aside. [`Error::Place`] on a file system that keeps no owners, without `trusted`.
    pub(crate) fn watch(
        directory: OwnedFd,
        name: PathBuf,
        overwrite: bool,
        trusted: bool,
    ) -> Result<Self> {
        let read = |source: Errno| Error::system(format!("list {}", name.display()), source);
        let mut entries = list(&directory).map_err(read)?;
        // An empty one holds no checkpoint.
        if entries.contains(ASIDE) {
            match unlinkat(&directory, ASIDE, UnlinkatFlags::RemoveDir) {
                Ok(()) => entries.remove(ASIDE),
                Err(Errno::ENOTEMPTY | Errno::EEXIST) => false,
                Err(source) => {
                    let aside = name.join(OsStr::from_bytes(ASIDE.to_bytes()));
                    let what = format!("remove {}, which is in the way", aside.display());
                    return Err(Error::system(what, source));
                }
            };
        }
        if entries.contains(ASIDE) {
            // A process that died in an overwriting dump left it. A person has to decide which
            // images are the right ones.
            let what = format!(
                "dump into {}: an interrupted run left the earlier checkpoint in {} there; \
                 move it back, or remove it",
                name.display(),
                ASIDE.to_string_lossy()
            );
            return Err(Error::system(what, Errno::EEXIST));
        }
        if entries.contains(INVENTORY) && !overwrite {
            return Err(Error::CheckpointExists { directory: name });
        }
        let mut guard =
            Self { directory, before: entries, aside: None, earlier: Vec::new(), kept: false };
        // A page server may have made the link to the parent for the images to come.
        if overwrite && guard.before.iter().any(|name| is_criu_s(name) && name.as_c_str() != PARENT)
        {
            guard.set_aside(trusted).map_err(|unmade| {
                unmade.error(format!("set the checkpoint in {} aside", name.display()), name)
            })?;
        }
        Ok(guard)
    }

    fn set_aside(&mut self, trusted: bool) -> Result<(), Unmade> {
        let made = Private::make(&self.directory, ASIDE, trusted)?;
        let folder = &self.aside.insert(made).directory;
        let images: Vec<CString> = self.before.iter().filter(|n| is_criu_s(n)).cloned().collect();
        for name in images {
            renameat(&self.directory, name.as_c_str(), folder, name.as_c_str())?;
            self.before.remove(&name);
            self.earlier.push(name);
        }
        Ok(())
    }

    /// Ends the guard, since the dump is complete. The new images stay, the replaced ones are
    /// removed.
    pub(crate) fn keep(mut self) {
        self.kept = true;
        if let Some(folder) = &self.aside {
            for name in &self.earlier {
                let flags = UnlinkatFlags::NoRemoveDir;
                let _ = unlinkat(&folder.directory, name.as_c_str(), flags);
            }
            let _ = unlinkat(&self.directory, ASIDE, UnlinkatFlags::RemoveDir);
        }
    }
}

impl Drop for ImagesDir {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        for name in list(&self.directory).unwrap_or_default() {
            if is_image(&name) && !self.before.contains(&name) {
                let _ = unlinkat(&self.directory, name.as_c_str(), UnlinkatFlags::NoRemoveDir);
            }
        }
        if let Some(folder) = &self.aside {
            let (from, to) = (&folder.directory, &self.directory);
            for name in &self.earlier {
                let _ = renameat(from, name.as_c_str(), to, name.as_c_str());
            }
            let _ = unlinkat(&self.directory, ASIDE, UnlinkatFlags::RemoveDir);
        }
    }
}

/// The names in a directory.
pub(crate) fn list(directory: &OwnedFd) -> nix::Result<HashSet<CString>> {
    // Opened again, since a duplicate would share the reading position of the original.
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut entries = Dir::openat(directory.as_fd(), ".", flags, Mode::empty())?;
    entries
        .iter()
        .map(|entry| entry.map(|entry| entry.file_name().to_owned()))
        .filter(|name| !matches!(name.as_deref().map(CStr::to_bytes), Ok(b"." | b"..")))
        .collect()
}

/// Returns true if a file of this name is part of a checkpoint. Logs are not, so they stay.
pub(super) fn is_image(name: &CStr) -> bool {
    let name = name.to_bytes();
    name.ends_with(b".img")
        || matches!(name, b"parent" | b"stats-dump" | b"irmap-cache")
        || name == CopyNotice::FILE.as_bytes()
}

/// Returns true if CRIU or this crate gives a file of a checkpoint this name. Other files may end
/// in `.img`, too: the images of disks do.
fn is_criu_s(name: &CStr) -> bool {
    let known = |name: &str| Kind::of_file(name).is_some();
    let is_ours = name.to_bytes() == CopyNotice::FILE.as_bytes();
    is_image(name) && (name == PARENT || is_ours || name.to_str().is_ok_and(known))
}

/// The link to the parent images.
pub(crate) const PARENT: &CStr = c"parent";

/// The image that makes a directory a checkpoint.
pub(super) const INVENTORY: &CStr = c"inventory.img";

/// The directory for earlier images while a dump overwrites them.
const ASIDE: &CStr = c".criu-rs-earlier";

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::path::Path;

    fn scratch(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("criu-rs-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        path
    }

    fn watch(path: &Path, overwrite: bool) -> Result<ImagesDir> {
        ImagesDir::watch(File::open(path).unwrap().into(), path.into(), overwrite, false)
    }

    fn names(path: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_failed_dump_leaves_logs_and_earlier_files() {
        let path = scratch("failed");
        fs::write(path.join("notes.img"), "mine").unwrap();
        let guard = watch(&path, false).unwrap();
        for name in ["inventory.img", "pages-1.img", "stats-dump", "dump.log"] {
            fs::write(path.join(name), "x").unwrap();
        }
        std::os::unix::fs::symlink("../0", path.join("parent")).unwrap();
        drop(guard);
        assert_eq!(names(&path), ["dump.log", "notes.img"]);
        fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn a_checkpoint_is_overwritten_only_when_asked_and_comes_back_after_a_failure() {
        let path = scratch("overwrite");
        fs::write(path.join("inventory.img"), "old").unwrap();
        fs::write(path.join("core-7.img"), "old").unwrap();
        assert!(matches!(watch(&path, false), Err(Error::CheckpointExists { .. })));
        assert_eq!(names(&path), ["core-7.img", "inventory.img"]);

        let guard = watch(&path, true).unwrap();
        assert_eq!(names(&path), [".criu-rs-earlier"]);
        let refused = watch(&path, true).unwrap_err().to_string();
        assert!(refused.contains("interrupted run"), "{refused}");
        fs::write(path.join("inventory.img"), "new").unwrap();
        drop(guard);
        assert_eq!(names(&path), ["core-7.img", "inventory.img"]);
        assert_eq!(fs::read(path.join("inventory.img")).unwrap(), b"old");

        let guard = watch(&path, true).unwrap();
        fs::write(path.join("inventory.img"), "new").unwrap();
        guard.keep();
        assert_eq!(names(&path), ["inventory.img"]);
        assert_eq!(fs::read(path.join("inventory.img")).unwrap(), b"new");
        fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn an_empty_directory_for_earlier_images_holds_no_checkpoint() {
        let path = scratch("aside");
        fs::write(path.join("inventory.img"), "old").unwrap();
        let aside = path.join(".criu-rs-earlier");
        fs::create_dir(&aside).unwrap();
        drop(watch(&path, true).unwrap());
        assert_eq!(names(&path), ["inventory.img"]);
        // Somebody else's link to a directory.
        std::os::unix::fs::symlink("/tmp", &aside).unwrap();
        let refused = watch(&path, true).unwrap_err().to_string();
        assert!(refused.contains("in the way"), "{refused}");
        fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn only_images_that_were_set_aside_are_removed() {
        let path = scratch("only");
        fs::write(path.join("inventory.img"), "old").unwrap();
        let guard = watch(&path, true).unwrap();
        let other = path.join(".criu-rs-earlier/core-1.img");
        fs::write(&other, "of another checkpoint").unwrap();
        guard.keep();
        assert_eq!(fs::read(other).unwrap(), b"of another checkpoint");
        fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn the_image_of_a_disk_stays_when_a_checkpoint_is_overwritten() {
        let path = scratch("disk");
        for name in ["inventory.img", "core-7.img", "tmpfs-dev-50.tar.gz.img", "disk.img"] {
            fs::write(path.join(name), "old").unwrap();
        }
        let guard = watch(&path, true).unwrap();
        assert_eq!(names(&path), [".criu-rs-earlier", "disk.img"]);
        fs::write(path.join("inventory.img"), "new").unwrap();
        guard.keep();
        assert_eq!(names(&path), ["disk.img", "inventory.img"]);
        fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn the_parent_that_a_page_server_has_named_stays() {
        let path = scratch("parent");
        std::os::unix::fs::symlink("../0", path.join("parent")).unwrap();
        watch(&path, true).unwrap().keep();
        assert_eq!(names(&path), ["parent"]);
        fs::write(path.join("inventory.img"), "old").unwrap();
        watch(&path, true).unwrap().keep();
        assert!(names(&path).is_empty());
        fs::remove_dir_all(path).unwrap();
    }
}
