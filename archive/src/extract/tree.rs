//! A directory that is filled under another name, and renamed when it is complete.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat2, renameat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{linkat, symlinkat, syncfs};

use crate::beside::{DIRECTORY, LISTED, above, beside, sync};
use crate::path;

/// A directory in the making. Dropping it removes everything.
#[derive(Debug)]
pub(crate) struct Tree {
    root: OwnedFd,
    /// Directory that holds this one. Held: a path that comes to lead elsewhere changes nothing.
    above: OwnedFd,
    /// Name in the making, and at the end.
    new: OsString,
    name: OsString,
    is_kept: bool,
    /// The last folder that was opened, with its path.
    folder: Option<(String, OwnedFd)>,
}

impl Tree {
    /// Makes an empty directory beside a path, which must be that of nothing or of an empty
    /// directory.
    pub(crate) fn beside(path: &Path) -> io::Result<Self> {
        let no_name = || io::Error::other("has no name of its own; name a new directory");
        let name = path.file_name().ok_or_else(no_name)?.to_owned();
        let above = above(path)?;
        is_free(&above, &name)?;
        let new = beside(&name);
        mkdirat(&above, &*new, Mode::S_IRWXU)?;
        let root = open(&above, &new, DIRECTORY);
        let root = root.inspect_err(|_| drop(remove(&above, &new)))?;
        Ok(Self { root, above, new, name, is_kept: false, folder: None })
    }

    /// Makes a directory, and those above it.
    pub(crate) fn make_directory(&mut self, path: &str) -> io::Result<()> {
        let mut made = String::new();
        for part in path.split('/') {
            let (above, name) = (self.reach(&made)?, OsStr::new(part));
            match mkdirat(above, name, Mode::S_IRWXU) {
                // Made for a member in it.
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(error) => return Err(error.into()),
            }
            path::push(&mut made, part);
        }
        // A member that is there and no directory is not opened.
        self.reach(path).map(drop)
    }

    /// Makes a file.
    pub(crate) fn make_file(&mut self, path: &str) -> io::Result<File> {
        let (folder, name) = self.folder_of(path)?;
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
        let how = how(flags).mode(Mode::S_IRUSR | Mode::S_IWUSR);
        Ok(openat2(folder, name, how)?.into())
    }

    /// Makes a symbolic link.
    pub(crate) fn link(&mut self, path: &str, target: &[u8]) -> io::Result<()> {
        let (folder, name) = self.folder_of(path)?;
        Ok(symlinkat(OsStr::from_bytes(target), folder, name)?)
    }

    /// Gives a file another name.
    pub(crate) fn same(&mut self, path: &str, other: &str) -> io::Result<()> {
        let (folder, name) = self.folder_of(path)?;
        let folder = folder.as_fd().try_clone_to_owned()?;
        let (to, new) = self.folder_of(other)?;
        // A symbolic link gets the other name itself.
        Ok(linkat(folder, name, to, new, AtFlags::empty())?)
    }

    /// Opens a directory in order to change its attributes.
    pub(crate) fn open_directory(&mut self, path: &str) -> io::Result<File> {
        let (folder, name) = self.folder_of(path)?;
        Ok(openat2(folder, name, how(LISTED))?.into())
    }

    /// Gives the directory its name, once all in it is on the disk.
    pub(crate) fn keep(mut self) -> io::Result<()> {
        // One call for all files. It also writes what other programs wrote to the file system.
        syncfs(open(&self.root, OsStr::new("."), LISTED)?)?;
        // Replaces an empty directory, and nothing else.
        renameat(&self.above, &*self.new, &self.above, &*self.name)?;
        self.is_kept = true;
        // The new name, too. All is in its place by now.
        sync(&self.above);
        Ok(())
    }

    /// Opens the folder of a member, which is made if it is not there.
    fn folder_of<'p>(&mut self, path: &'p str) -> io::Result<(&OwnedFd, &'p OsStr)> {
        let (folder, name) = path::split(path);
        if !folder.is_empty() && self.folder.as_ref().is_none_or(|(open, _)| open != folder) {
            match self.reach(folder) {
                Err(error) if error.raw_os_error() == Some(Errno::ENOENT as i32) => {
                    self.make_directory(folder)?;
                }
                reached => drop(reached?),
            }
        }
        Ok((self.reach(folder)?, OsStr::new(name)))
    }

    /// Opens a folder that is there.
    fn reach(&mut self, folder: &str) -> io::Result<&OwnedFd> {
        if folder.is_empty() {
            return Ok(&self.root);
        }
        if self.folder.as_ref().is_none_or(|(open, _)| open != folder) {
            let opened = openat2(&self.root, folder, how(DIRECTORY))?;
            self.folder = Some((folder.to_owned(), opened));
        }
        Ok(self.folder.as_ref().map_or(&self.root, |(_, open)| open))
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        if !self.is_kept {
            let _ = remove(&self.above, &self.new);
        }
    }
}

/// Fails unless nothing has a name, or an empty directory.
fn is_free(above: &OwnedFd, name: &OsStr) -> io::Result<()> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut directory = match Dir::openat(above, name, flags, Mode::empty()) {
        Ok(directory) => directory,
        Err(Errno::ENOENT) => return Ok(()),
        Err(Errno::ENOTDIR | Errno::ELOOP) => return Err(taken("exists and is not a directory")),
        Err(error) => return Err(error.into()),
    };
    for entry in directory.iter() {
        if ![c".", c".."].contains(&entry?.file_name()) {
            return Err(taken("is not empty; name a new directory"));
        }
    }
    Ok(())
}

fn taken(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::AlreadyExists, why)
}

/// Removes a directory with everything in it. No link is followed.
fn remove(above: &OwnedFd, name: &OsStr) -> io::Result<()> {
    let held = format!("/proc/self/fd/{}", above.as_raw_fd());
    fs::remove_dir_all(Path::new(&held).join(name))
}

fn open(above: &OwnedFd, name: &OsStr, flags: OFlag) -> io::Result<OwnedFd> {
    Ok(openat2(above, name, how(flags))?)
}

/// Opening that leaves no directory and follows no link.
fn how(flags: OFlag) -> OpenHow {
    let inside = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS;
    OpenHow::new().flags(flags).resolve(inside)
}
