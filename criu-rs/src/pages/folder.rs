//! A directory that is held, and the files that are made in it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use criu_images::source::Directory;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{Mode, fstat};
use nix::unistd::{UnlinkatFlags, geteuid, linkat, unlinkat};

use super::error::PagesError;
#[cfg(feature = "instant")]
use crate::sys::random;

/// A directory that receives files. It is opened once: later files are made in this directory even
/// if its path comes to lead elsewhere. No link in it is followed, except the one to the parent.
#[derive(Debug)]
pub(super) struct Folder {
    directory: Directory,
    /// The mode of files that are made, before the umask.
    mode: Mode,
}

/// The device and the inode of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity(u64, u64);

impl Identity {
    pub(super) fn of(file: &File) -> io::Result<Self> {
        let found = file.metadata()?;
        Ok(Self(found.dev(), found.ino()))
    }
}

impl Folder {
    /// Opens a directory that exists.
    pub(super) fn open(path: &Path) -> Result<Self, PagesError> {
        fs::metadata(path).map_err(PagesError::file(path))?;
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        Ok(Self { directory: Directory::open(path)?, mode })
    }

    /// Makes files that others may read, as far as the umask allows.
    pub(super) fn let_others_read(&mut self) {
        self.mode |= Mode::S_IRGRP | Mode::S_IROTH;
    }

    /// Makes a directory, of a mode less the umask, and those above it. Returns `true` if it was
    /// not there.
    ///
    /// # Errors
    /// [`PagesError::File`], also if something else is there: a link, a file, or a directory of
    /// another user.
    pub(super) fn make(path: &Path, mode: u32) -> Result<bool, PagesError> {
        let failed = || PagesError::file(path);
        let mut builder = fs::DirBuilder::new();
        builder.mode(mode);
        if let Some(above) = path.parent().filter(|above| !above.as_os_str().is_empty()) {
            builder.recursive(true).create(above).map_err(PagesError::file(above))?;
        }
        let made = match builder.recursive(false).create(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            made => made.map(|()| true),
        };
        let made = made.map_err(failed())?;
        let found = fs::symlink_metadata(path).map_err(failed())?;
        if !found.is_dir() {
            return Err(failed()(io::ErrorKind::NotADirectory.into()));
        }
        if found.uid() != geteuid().as_raw() {
            let why = "the directory belongs to another user";
            return Err(failed()(io::Error::new(io::ErrorKind::PermissionDenied, why)));
        }
        Ok(made)
    }

    /// Checks that a directory is at its path, and no link, and belongs to this process's user.
    pub(super) fn check_own(&self) -> Result<(), PagesError> {
        let failed = || PagesError::file(self.path());
        let there = fs::symlink_metadata(self.path()).map_err(failed())?;
        let held = fstat(&self.directory).map_err(|error| failed()(error.into()))?;
        if (there.dev(), there.ino()) == (held.st_dev, held.st_ino)
            && held.st_uid == geteuid().as_raw()
        {
            return Ok(());
        }
        let why = "another directory has taken its place";
        Err(failed()(io::Error::new(io::ErrorKind::PermissionDenied, why)))
    }

    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Returns the images in the directory.
    pub(super) fn images(&self) -> &Directory {
        &self.directory
    }

    /// Returns a function that makes the error of a file.
    pub(super) fn failed(&self, name: &str) -> impl FnOnce(io::Error) -> PagesError + use<> {
        PagesError::file(self.place(name))
    }

    /// Returns the path of a file, for messages.
    pub(super) fn place(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Makes a file where nothing has its name. The file's mode is 0600, or 0644 if others may read
    /// it, less the umask. The error is `AlreadyExists` if something has the name.
    pub(super) fn create(&self, name: &str) -> io::Result<File> {
        let how = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
        self.open_file(name, how)
    }

    /// Opens a file that was made here to append to it.
    ///
    /// # Errors
    /// `NotFound` if another file has the name.
    pub(super) fn append(&self, name: &str, made: Identity) -> io::Result<File> {
        let file = self.open_file(name, OFlag::O_WRONLY | OFlag::O_APPEND | OFlag::O_NONBLOCK)?;
        if Identity::of(&file)? == made {
            return Ok(file);
        }
        let why = "the file has been replaced by another";
        Err(io::Error::new(io::ErrorKind::NotFound, why))
    }

    /// Makes a file without a name, to be written and read. Returns its path for errors, too.
    #[cfg(feature = "instant")]
    pub(super) fn unnamed(&self) -> Result<(File, PathBuf), PagesError> {
        let (path, mode) = (self.path(), Mode::S_IRUSR | Mode::S_IWUSR);
        let how = OFlag::O_RDWR | OFlag::O_CLOEXEC;
        let made = match openat(&self.directory, ".", how | OFlag::O_TMPFILE, mode) {
            // File systems without such files.
            Err(Errno::EOPNOTSUPP | Errno::EISDIR | Errno::ENOENT) => {
                let mut number = [0; 8];
                random::fill(&mut number).map_err(PagesError::file(path))?;
                let name = format!(".tape.{:016x}", u64::from_ne_bytes(number));
                let how = how | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW;
                let made = openat(&self.directory, &*name, how, mode);
                made.inspect(|_| self.remove(&name))
            }
            made => made,
        };
        let failed = |error: Errno| PagesError::file(path)(error.into());
        Ok((made.map_err(failed)?.into(), path.to_owned()))
    }

    fn open_file(&self, name: &str, how: OFlag) -> io::Result<File> {
        let how = how | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        Ok(openat(&self.directory, name, how, self.mode)?.into())
    }

    /// Returns `true` if something has the name.
    pub(super) fn has(&self, name: &str) -> bool {
        nix::sys::stat::fstatat(&self.directory, name, AtFlags::AT_SYMLINK_NOFOLLOW).is_ok()
    }

    /// Removes a file, if it is there.
    pub(super) fn remove(&self, name: &str) {
        let _ = unlinkat(&self.directory, name, UnlinkatFlags::NoRemoveDir);
    }

    /// Gives a file a name that no file has. The error is `AlreadyExists` otherwise. After an error
    /// this file does not have the name.
    ///
    /// A link is made only where nothing is. File systems without links get an empty file first,
    /// which only this end can have made, and that file is replaced.
    pub(super) fn rename_anew(&self, from: &str, to: &str) -> io::Result<()> {
        let here = &self.directory;
        match linkat(here, from, here, to, AtFlags::empty()) {
            Ok(()) => {
                let done = unlinkat(here, from, UnlinkatFlags::NoRemoveDir);
                done.inspect_err(|_| self.remove(to))?;
            }
            Err(Errno::EPERM | Errno::EOPNOTSUPP | Errno::ENOSYS) => {
                self.create(to)?;
                renameat(here, from, here, to).inspect_err(|_| self.remove(to))?;
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Waits until the names in the directory are on disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        let how = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        File::from(openat(&self.directory, ".", how, Mode::empty())?).sync_all()
    }
}
