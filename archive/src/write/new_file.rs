//! Files that appear only when they are complete.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::fcntl::{self, OFlag, openat, renameat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};

/// A file in the making, beside the one that it replaces. The directory is held: a path that comes
/// to lead elsewhere changes nothing. Dropped before it is kept, the file is gone.
#[derive(Debug)]
pub(crate) struct NewFile {
    file: File,
    directory: OwnedFd,
    /// Name under which the file is made; `None` once it has its own.
    new: Option<OsString>,
    name: OsString,
}

impl NewFile {
    /// Begins a file with mode 0600. A link at the path is replaced and not followed.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        let name = path.file_name().ok_or_else(|| io::Error::other("is not a file"))?.to_owned();
        let above = match path.parent() {
            Some(above) if above != Path::new("") => above,
            _ => Path::new("."),
        };
        let directory = fcntl::open(above, DIRECTORY, Mode::empty())?;
        let new = beside(&name);
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        let file = File::from(openat(&directory, &*new, NEW, mode)?);
        Ok(Self { file, directory, new: Some(new), name })
    }

    /// Puts the file in its place, once its bytes are on the disk.
    pub(crate) fn keep(mut self) -> io::Result<()> {
        self.file.sync_all()?;
        if let Some(new) = &self.new {
            renameat(&self.directory, &**new, &self.directory, &*self.name)?;
            self.new = None;
        }
        // The new name, too. Some file systems cannot.
        let _ = File::from(openat(&self.directory, ".", LISTED, Mode::empty())?).sync_all();
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

/// Name of a file in the making. Nobody can take all of these names beforehand.
fn beside(name: &OsStr) -> OsString {
    let random = RandomState::new().hash_one(std::process::id());
    let mut new = OsString::from(".");
    new.push(name);
    new.push(format!(".{random:016x}"));
    new
}

const DIRECTORY: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);
const LISTED: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);
const NEW: OFlag = OFlag::O_WRONLY
    .union(OFlag::O_CREAT)
    .union(OFlag::O_EXCL)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);
