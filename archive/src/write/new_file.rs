//! Files that appear only when they are complete.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{self, AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstatat};
use nix::unistd::{UnlinkatFlags, linkat, unlinkat};

use crate::beside::{above, beside, sync};

/// A file in the making, which takes the place of another one at the end. The directory is held: a
/// path that comes to lead elsewhere changes nothing.
///
/// The file has no name until then, so that nothing is left of a program that is killed. On file
/// systems that have no such files it has a hidden name beside the one that it replaces.
#[derive(Debug)]
pub(crate) struct NewFile {
    file: File,
    directory: OwnedFd,
    /// Hidden name of the file, if it has one.
    new: Option<OsString>,
    name: OsString,
}

impl NewFile {
    /// Begins a file with mode 0600. A link at the path is replaced and not followed. A device, a
    /// FIFO or a directory there is an error.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        let name = path.file_name().ok_or_else(|| io::Error::other("is not a file"))?.to_owned();
        let directory = above(path)?;
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        match fstatat(&directory, &*name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Err(Errno::ENOENT) => {}
            Err(error) => return Err(error.into()),
            Ok(old) if is(&old, SFlag::S_IFREG) || is(&old, SFlag::S_IFLNK) => {}
            Ok(old) if is(&old, SFlag::S_IFDIR) => return Err(Errno::EISDIR.into()),
            Ok(_) => return Err(io::Error::other("is no regular file, and is not replaced")),
        }
        // It gets its name through /proc.
        let unnamed = Path::new(DESCRIPTORS).exists();
        let unnamed = unnamed.then(|| openat(&directory, ".", UNNAMED, mode).ok()).flatten();
        if let Some(file) = unnamed {
            return Ok(Self { file: File::from(file), directory, new: None, name });
        }
        let new = beside(&name);
        let file = File::from(openat(&directory, &*new, NEW, mode)?);
        Ok(Self { file, directory, new: Some(new), name })
    }

    /// Puts the file in its place, once its bytes are on the disk.
    pub(crate) fn keep(mut self) -> io::Result<()> {
        self.file.sync_all()?;
        let new = match self.new.take() {
            Some(new) => new,
            None => {
                let (new, from) = (beside(&self.name), self.file.as_raw_fd());
                let from = format!("{DESCRIPTORS}/{from}");
                let follow = AtFlags::AT_SYMLINK_FOLLOW;
                linkat(fcntl::AT_FDCWD, &*from, &self.directory, &*new, follow)?;
                new
            }
        };
        let renamed = renameat(&self.directory, &*new, &self.directory, &*self.name);
        if renamed.is_err() {
            self.new = Some(new);
        }
        renamed?;
        // The new name, too. The file is in its place by now.
        sync(&self.directory);
        Ok(())
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if let Some(new) = &self.new {
            let _ = unlinkat(&self.directory, &**new, UnlinkatFlags::NoRemoveDir);
        }
    }
}

fn is(found: &FileStat, kind: SFlag) -> bool {
    found.st_mode & SFlag::S_IFMT.bits() == kind.bits()
}

const DESCRIPTORS: &str = "/proc/self/fd";
const UNNAMED: OFlag = OFlag::O_WRONLY.union(OFlag::O_TMPFILE).union(OFlag::O_CLOEXEC);
const NEW: OFlag = OFlag::O_WRONLY
    .union(OFlag::O_CREAT)
    .union(OFlag::O_EXCL)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);
