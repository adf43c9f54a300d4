//! A directory of checkpoints.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::open::open_files;
use super::plan::Plan;
use super::stored::{Entry, Mark, freed, is_pinned, names, read};

/// A directory of checkpoints, which stays the same one whatever becomes of its path.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    fd: OwnedFd,
}

/// The files that were deleted, and those that were not.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Removed {
    /// Names of the files that were deleted.
    pub names: Vec<OsString>,
    /// Bytes that are free now. A file that keeps another name keeps its bytes.
    pub bytes: u64,
    /// Names of files that somebody else deleted in the meantime.
    pub gone: Vec<OsString>,
    /// Files that were left, with the reason: they have changed, have got a mark, were opened, or
    /// cannot be deleted.
    pub left: Vec<(OsString, String)>,
}

impl Directory {
    /// Opens a directory.
    ///
    /// # Errors
    /// The directory is missing, or may not be read.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref();
        let mut options = File::options();
        let flags = OFlag::O_DIRECTORY.bits();
        let fd = options.read(true).custom_flags(flags).open(path)?.into();
        Ok(Self { path: path.to_owned(), fd })
    }

    /// Returns the path that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the metadata of all files. Of a packed archive the whole is read. Marks are left out.
    ///
    /// # Errors
    /// The directory cannot be read, or has more than 100,000 entries.
    pub fn read(&self) -> io::Result<Vec<Entry>> {
        let names = names(&self.fd)?;
        let all = names.iter().cloned().collect();
        let mut entries = Vec::new();
        for name in names {
            entries.extend(read(&self.fd, name)?);
        }
        let open = open_files(&all);
        for entry in &mut entries {
            entry.is_open = open.contains(&entry.mark.id());
        }
        Ok(entries)
    }

    /// Deletes the files that a plan of this directory wants to go. Each is looked at again: a file
    /// that has changed, that has a mark now or is open now, is left.
    pub fn remove(&self, plan: &Plan) -> Removed {
        let mut removed = Removed::default();
        let names: BTreeSet<OsString> = plan.removals().map(|row| row.entry.name.clone()).collect();
        let open = open_files(&names);
        let mut deleted: Vec<&Entry> = Vec::new();
        let mut lost = BTreeSet::new();
        for entry in plan.removals().map(|row| &row.entry) {
            let result = if open.contains(&entry.mark.id()) {
                Err("a process has it open".to_owned())
            } else {
                self.remove_one(entry, lost.contains(&entry.mark.id()))
            };
            match result {
                Ok(true) => {
                    removed.names.push(entry.name.clone());
                    deleted.push(entry);
                    lost.insert(entry.mark.id());
                }
                Ok(false) => removed.gone.push(entry.name.clone()),
                Err(why) => removed.left.push((entry.name.clone(), why)),
            }
        }
        removed.bytes = freed(deleted.into_iter());
        removed
    }

    /// Deletes a file. Returns false if it is gone. `lost` is set if another name of the file was
    /// deleted before, which changes the file's properties.
    fn remove_one(&self, entry: &Entry, lost: bool) -> Result<bool, String> {
        let said = |error: Errno| error.desc().to_owned();
        match Mark::of(&self.fd, &entry.name) {
            Ok(mark) if mark == entry.mark || (lost && mark.lost_a_name(&entry.mark)) => {}
            Ok(_) => return Err("it has changed".to_owned()),
            Err(Errno::ENOENT) => return Ok(false),
            Err(error) => return Err(said(error)),
        }
        if is_pinned(&self.fd, &entry.name).map_err(said)? {
            return Err("it has a .keep mark now".to_owned());
        }
        match unlinkat(&self.fd, entry.name.as_os_str(), UnlinkatFlags::NoRemoveDir) {
            Ok(()) => Ok(true),
            Err(Errno::ENOENT) => Ok(false),
            Err(error) => Err(said(error)),
        }
    }
}
