//! The mounts of a mount namespace.

use std::collections::HashMap;

use crate::error::{Error, ErrorKind, Result};
use crate::kind;
use crate::proto::{Fstype, MntEntry};
use crate::store::Store;
use crate::text::Text;

/// The mounts of a mount namespace, as a tree. [`view::Mounts`](crate::view::Mounts) shows them
/// like findmnt(8).
#[derive(Clone, Debug, PartialEq)]
pub struct Mounts {
    entries: Vec<MntEntry>,
    /// Indices of entries with their depths. Each mount is followed by the mounts below it.
    order: Vec<(usize, usize)>,
}

/// A mount.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Mount<'a> {
    /// All fields that the set has of the mount.
    pub entry: &'a MntEntry,
    /// Distance from the root of the tree.
    pub depth: usize,
}

impl Mounts {
    pub(crate) fn read(store: &Store, id: u32) -> Result<Option<Self>> {
        let name = kind::MNTS.file_name(id.into());
        let mut entries: Vec<MntEntry> = Vec::new();
        store.for_each(kind::MNTS, id.into(), |mount| {
            entries.push(mount);
            Ok(())
        })?;
        if entries.is_empty() {
            return Ok(None);
        }
        let order = order(&entries).map_err(|kind| Error::new(name, kind))?;
        Ok(Some(Self { entries, order }))
    }

    /// Iterates over the mounts, each followed by the mounts below it. Mounts with the same parent
    /// come in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = Mount<'_>> {
        let find = |&(index, depth): &(usize, usize)| {
            Some(Mount { entry: self.entries.get(index)?, depth })
        };
        self.order.iter().filter_map(find)
    }
}

fn order(entries: &[MntEntry]) -> Result<Vec<(usize, usize)>, ErrorKind> {
    let mut known = HashMap::new();
    for (index, entry) in entries.iter().enumerate() {
        if known.insert(entry.mnt_id, index).is_some() {
            return Err(ErrorKind::Malformed("a mount id occurs twice"));
        }
    }
    let mut below: HashMap<u32, Vec<usize>> = HashMap::new();
    let mut waiting = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        let is_root =
            !known.contains_key(&entry.parent_mnt_id) || entry.parent_mnt_id == entry.mnt_id;
        if is_root {
            waiting.push((index, 0));
        } else {
            below.entry(entry.parent_mnt_id).or_default().push(index);
        }
    }
    let id = |index: &usize| entries.get(*index).map(|entry| entry.mnt_id);
    let mut order = Vec::with_capacity(entries.len());
    while let Some((index, depth)) = waiting.pop() {
        order.push((index, depth));
        let mut children = id(&index).and_then(|id| below.remove(&id)).unwrap_or_default();
        children.sort_by_key(|index| std::cmp::Reverse(id(index)));
        waiting.extend(children.into_iter().map(|child| (child, depth + 1)));
    }
    if order.len() == entries.len() {
        Ok(order)
    } else {
        Err(ErrorKind::Malformed("mounts form a loop"))
    }
}

impl<'a> Mount<'a> {
    /// Returns the mount point, seen from the root of the namespace.
    pub fn target(&self) -> Text<'a> {
        Text(&self.entry.mountpoint)
    }

    /// Returns the source: a device, or a name for a file system without a device.
    pub fn source(&self) -> Text<'a> {
        Text(&self.entry.source)
    }

    /// Returns the kind of file system, such as `ext4`.
    pub fn fs(&self) -> Text<'a> {
        let number = i32::try_from(self.entry.fstype).ok();
        let name: &[u8] = match number.and_then(|number| Fstype::try_from(number).ok()) {
            Some(Fstype::Proc) => b"proc",
            Some(Fstype::Sysfs) => b"sysfs",
            Some(Fstype::Devtmpfs) => b"devtmpfs",
            Some(Fstype::BinfmtMisc) => b"binfmt_misc",
            Some(Fstype::Tmpfs) => b"tmpfs",
            Some(Fstype::Devpts) => b"devpts",
            Some(Fstype::Simfs) => b"simfs",
            Some(Fstype::Pstore) => b"pstore",
            Some(Fstype::Securityfs) => b"securityfs",
            Some(Fstype::Fusectl) => b"fusectl",
            Some(Fstype::Debugfs) => b"debugfs",
            Some(Fstype::Cgroup) => b"cgroup",
            Some(Fstype::Aufs) => b"aufs",
            Some(Fstype::Mqueue) => b"mqueue",
            Some(Fstype::Fuse) => b"fuse",
            Some(Fstype::Overlayfs) => b"overlay",
            Some(Fstype::Autofs) => b"autofs",
            Some(Fstype::Tracefs) => b"tracefs",
            Some(Fstype::Cgroup2) => b"cgroup2",
            Some(Fstype::Auto | Fstype::Unsupported) | None => {
                self.entry.fsname.as_deref().unwrap_or(b"unknown")
            }
        };
        Text(name)
    }

    /// Returns the options of the mount and of the file system, separated by commas.
    pub fn options(&self) -> String {
        let flags = self.entry.flags | self.entry.sb_flags.unwrap_or(0);
        let mut words = vec![if flags & MS_RDONLY != 0 { "ro" } else { "rw" }.to_owned()];
        let set = FLAGS.iter().filter(|(bit, _)| flags & bit != 0);
        words.extend(set.map(|(_, word)| (*word).to_owned()));
        let own = Text(&self.entry.options).to_string();
        words.extend(own.split(',').filter(|word| !word.is_empty()).map(str::to_owned));
        words.join(",")
    }

    /// Returns the key of an external mount, for which a restore must be given a place.
    pub fn external(&self) -> Option<Text<'a>> {
        self.entry.ext_key.as_deref().map(Text)
    }
}

// From mount(2).
const MS_RDONLY: u32 = 1;
const FLAGS: [(u32, &str); 8] = [
    (1 << 1, "nosuid"),
    (1 << 2, "nodev"),
    (1 << 3, "noexec"),
    (1 << 4, "sync"),
    (1 << 7, "dirsync"),
    (1 << 10, "noatime"),
    (1 << 11, "nodiratime"),
    (1 << 21, "relatime"),
];
