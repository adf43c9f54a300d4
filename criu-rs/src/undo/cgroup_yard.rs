//! The cgroup mounts that a criu killed during a restore leaves in its work directory.

use std::collections::HashSet;
use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use nix::mount::{MntFlags, umount2};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::images_dir::list;
use crate::sys::proc_link;

/// A guard of a work directory during a restore. CRIU mounts the cgroup hierarchies of the tasks
/// there (its "cgroup yard"), and unmounts them when it ends by itself.
///
/// Dropped without [`CgroupYard::keep`], the guard unmounts the yards that are new. With such a
/// mount in place, a recursive removal of the directory would reach into the machine's cgroups.
#[derive(Debug)]
pub(crate) struct CgroupYard {
    directory: OwnedFd,
    before: HashSet<CString>,
    kept: bool,
}

impl CgroupYard {
    /// Notes the names in the directory.
    pub(crate) fn watch(directory: OwnedFd) -> Self {
        let before = list(&directory).unwrap_or_default();
        Self { directory, before, kept: false }
    }

    /// Ends the guard, since the restore is complete.
    pub(crate) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for CgroupYard {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        let is_yard = |name: &&CString| name.to_bytes().starts_with(PREFIX);
        let now = list(&self.directory).unwrap_or_default();
        for name in now.difference(&self.before).filter(is_yard) {
            let name: &CStr = name;
            let place = proc_link(self.directory.as_fd()).join(OsStr::from_bytes(name.to_bytes()));
            let _ = umount2(&place, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW);
            let _ = unlinkat(&self.directory, name, UnlinkatFlags::RemoveDir);
        }
    }
}

/// The beginning of a yard's name.
const PREFIX: &[u8] = b".criu.cgyard.";
