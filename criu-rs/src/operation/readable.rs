//! The refusal of images that the user who restores a tree in a user namespace may not read.

use std::os::fd::{AsFd, OwnedFd};

use criu_images::proto::UidGidExtent;
use criu_images::source::Directory;
use criu_images::{Checkpoint, ImageSet, NamespaceKind, kind};
use nix::fcntl::AtFlags;
use nix::sys::stat::{FileStat, fstatat};

use crate::diagnosis::{Cause, Failure};
use crate::error::{Error, Result};
use crate::sys::{fd, proc_link};

/// Refuses a restore whose tasks may not read their images: see [`first_unreadable`].
///
/// # Errors
/// [`Error::Failed`] with [`Cause::ImageUnreadable`].
pub(crate) fn refuse_unreadable(images: Option<&OwnedFd>) -> Result<()> {
    let Some(images) = images else { return Ok(()) };
    // CRIU will say what is wrong with images that are no set.
    let Ok(set) = ImageSet::open(proc_link(images.as_fd())) else { return Ok(()) };
    let found = set.checkpoint().ok().and_then(|saved| first_unreadable(saved, images));
    found.map_or(Ok(()), |seen| {
        let cause = Cause::ImageUnreadable;
        Err(Error::Failed(Box::new(Failure::not_asked("restore", cause, Some(seen)))))
    })
}

/// Returns the first of a directory and its pagemaps that the tasks may not read, with its mode
/// and owner, and the user who would read it. The directories of parent images come after.
///
/// CRIU restores a tree in a user namespace of its own as root of that namespace, who is another
/// user outside. That user's tasks open the pagemaps. Files with an access control list are left
/// out: CRIU will say if it cannot open them.
pub(crate) fn first_unreadable(saved: Checkpoint<'_>, images: impl AsFd) -> Option<String> {
    let reader = Reader::of(saved)?;
    let pagemaps: Vec<_> =
        saved.tasks().map(|task| kind::PAGEMAP.file_name(task.pid().into())).collect();
    let mut level = Directory::open(proc_link(images.as_fd())).ok();
    let mut shown = String::new();
    while let Some(directory) = level {
        let whole =
            if shown.is_empty() { "the images directory" } else { shown.trim_end_matches('/') };
        if let Some(why) = reader.lacks(&directory, ".", EXECUTE) {
            return Some(format!("{whole} {why}"));
        }
        let name = pagemaps.iter().find_map(|name| {
            let why = reader.lacks(&directory, name, READ)?;
            Some(format!("{shown}{name} {why}"))
        });
        if name.is_some() {
            return name;
        }
        shown += "parent/";
        level = directory.parent_directory().ok().flatten();
    }
    None
}

/// The root of a saved user namespace, as the namespace of this process numbers it.
struct Reader {
    user: u32,
    group: u32,
    users: Vec<UidGidExtent>,
    groups: Vec<UidGidExtent>,
}

impl Reader {
    /// Returns `None` if the root task has no user namespace of its own, or one without a root.
    fn of(saved: Checkpoint<'_>) -> Option<Self> {
        let namespaces = saved.root().namespaces().ok()?;
        let of_root = |of: &&_| namespaces.contains(of);
        let all = saved.namespaces().ok()?;
        let found = all.iter().find(|saved| {
            let namespace = saved.namespace();
            namespace.kind == NamespaceKind::User && !namespace.host && of_root(&&namespace)
        });
        let maps = found?.users().ok()??;
        let root = |map: &[UidGidExtent]| {
            map.iter().find(|range| range.first == 0 && range.count > 0).map(|of| of.lower_first)
        };
        let (user, group) = (root(&maps.uid_map)?, root(&maps.gid_map)?);
        Some(Self { user, group, users: maps.uid_map, groups: maps.gid_map })
    }

    /// Tells how the mode of a file keeps this user out. Returns `None` if it does not, or if the
    /// file is not there.
    fn lacks(&self, directory: &Directory, name: &str, wanted: u32) -> Option<String> {
        let stat = fstatat(directory, name, AtFlags::empty()).ok()?;
        let path = proc_link(directory.as_fd()).join(name);
        if self.may(&stat, wanted) || fd::has_access_list(&path) {
            return None;
        }
        let (mode, owner) = (stat.st_mode & 0o7777, stat.st_uid);
        let user = self.user;
        Some(format!(
            "has mode {mode:04o} and belongs to user {owner}, and CRIU reads as user {user}"
        ))
    }

    fn may(&self, stat: &FileStat, wanted: u32) -> bool {
        let holds = |ranges: &[UidGidExtent], id: u32| {
            ranges.iter().any(|of| id.checked_sub(of.lower_first).is_some_and(|at| at < of.count))
        };
        // The root of a namespace has all rights on files whose owner and group are in it.
        if holds(&self.users, stat.st_uid) && holds(&self.groups, stat.st_gid) {
            return true;
        }
        let bits = if stat.st_uid == self.user {
            stat.st_mode >> 6
        } else if stat.st_gid == self.group {
            stat.st_mode >> 3
        } else {
            stat.st_mode
        };
        bits & wanted != 0
    }
}

/// The bits of a mode that let others read a file, and enter a directory.
const READ: u32 = 0o4;
const EXECUTE: u32 = 0o1;
