//! Working sets on disk.

use std::fs::{File, Permissions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;

use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::WorkingSet;
use super::check_size;

impl WorkingSet {
    /// Writes the file into a directory, for example a [`Directory`](crate::source::Directory) of
    /// images. The file has mode 0600. An earlier file, or a link at its name, is replaced when the
    /// new file is complete.
    ///
    /// A writer that is killed leaves a file `.working-set.bin.*`. The file is not synchronized:
    /// a working set that is lost costs nothing but time.
    ///
    /// # Errors
    /// The errors of creating, writing and renaming a file; an error above
    /// [`WORKING_SET`](crate::bounds::WORKING_SET).
    pub fn save(&self, directory: &impl AsFd) -> io::Result<()> {
        let bytes = self.to_bytes();
        check_size(bytes.len() as u64).map_err(io::Error::other)?;
        let directory = directory.as_fd();
        let random = RandomState::new().hash_one(std::process::id());
        let new = format!(".{}.{random:016x}", Self::FILE);
        let file = openat(directory, &*new, NEW, Mode::S_IRUSR | Mode::S_IWUSR)?;
        let write = || -> io::Result<()> {
            let mut file = File::from(file);
            // The umask takes nothing away.
            file.set_permissions(Permissions::from_mode(0o600))?;
            file.write_all(&bytes)?;
            Ok(renameat(directory, &*new, directory, Self::FILE)?)
        };
        write().inspect_err(|_| {
            let _ = unlinkat(directory, &*new, UnlinkatFlags::NoRemoveDir);
        })
    }
}

const NEW: OFlag = OFlag::O_WRONLY
    .union(OFlag::O_CREAT)
    .union(OFlag::O_EXCL)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);
