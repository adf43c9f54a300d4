//! Checks of file watches (inotify, fanotify), whose files CRIU has to find again.

use std::cell::OnceCell;
use std::collections::{HashSet, VecDeque};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sys::stat::{major, minor};

use super::finding::{Finding, Severity};
use super::live::{Task, Tree};
use super::look::Look;
use super::need::Need;
use super::proc::{self, Fd, Mount};
use crate::diagnosis::Cause;
use crate::value::{Pid, Version};

pub(super) fn look(tree: &Tree, look: &Look<'_>) -> Vec<Finding> {
    let watching: Vec<_> = tree.fds().filter(|(_, fd)| is_watch(fd)).collect();
    if watching.is_empty() {
        return Vec::new();
    }
    let mut mounts: Vec<Mount> = tree.mounts().into_values().collect();
    mounts.extend(Mount::all(Pid::this()).unwrap_or_default());
    let searched = Searched { tree, look, files: OnceCell::new() };
    let finding = |(task, fd): (&Task, &Fd)| {
        let lost = fd.info.lines().filter_map(Watched::of);
        let finding = lost.filter_map(|watched| watched.finding(&mounts, &searched)).next();
        let what = "a file watch loses unread events, and events until the restore";
        let finding = finding.unwrap_or_else(|| Finding::new(Severity::Info, what));
        finding.pid(task.pid).fd(fd.number).path(&fd.link)
    };
    watching.into_iter().map(finding).collect()
}

/// Returns true if a descriptor watches files.
pub(super) fn is_watch(fd: &Fd) -> bool {
    ["anon_inode:inotify", "anon_inode:[fanotify]"].contains(&fd.name())
}

/// A watched inode: the device number of its file system, and its number.
struct Watched {
    device: (u64, u64),
    inode: u64,
}

impl Watched {
    /// Reads `inotify wd:1 ino:e49 sdev:16 mask:2 ...` and `fanotify ino:e49 sdev:16 ...`. `None`
    /// for a watched mount or file system, which CRIU finds by its number.
    fn of(line: &str) -> Option<Self> {
        let is_watch = line.starts_with("inotify ") || line.starts_with("fanotify ");
        let number = |key: &str| {
            let digits = line.split_whitespace().find_map(|word| word.strip_prefix(key))?;
            u64::from_str_radix(digits, 16).ok().filter(|_| is_watch)
        };
        // The kernel's own form of device numbers.
        let device = number("sdev:")?;
        Some(Self { device: (device >> 20, device & 0xf_ffff), inode: number("ino:")? })
    }

    fn finding(&self, mounts: &[Mount], searched: &Searched<'_>) -> Option<Finding> {
        let of = |mount: &&Mount| (u64::from(mount.dev.0), u64::from(mount.dev.1)) == self.device;
        let mount = mounts.iter().find(of)?;
        let fs = mount.fs.as_str();
        let is_overlay = fs == "overlay" && searched.look.version < Version::new(4, 3, 0);
        if !is_overlay && !WITHOUT_HANDLES.contains(&fs) {
            return None;
        }
        if searched.have(self) {
            return None;
        }
        let detail = format!("it watches a file on {fs}");
        if !is_overlay {
            return Some(Finding::blocks(Cause::FileWatch).detail(detail));
        }
        let needs = vec![Need::Line("--irmap-scan-path DIR".into())];
        let finding = Finding::needs(Cause::FileWatch, needs, false).detail(detail);
        Some(
            finding
                .hint("name the directory of the watched file as one to search, or use CRIU 4.3"),
        )
    }
}

/// The directories in which CRIU searches for a file that it cannot find otherwise.
struct Searched<'a> {
    tree: &'a Tree,
    look: &'a Look<'a>,
    /// The files in them, by device number and inode. Read when they are needed.
    files: OnceCell<HashSet<((u64, u64), u64)>>,
}

impl Searched<'_> {
    fn have(&self, watched: &Watched) -> bool {
        self.files.get_or_init(|| self.read()).contains(&(watched.device, watched.inode))
    }

    fn read(&self) -> HashSet<((u64, u64), u64)> {
        let named = self.look.opts.irmap_scan_paths.iter().map(|path| {
            Path::new(std::ffi::OsStr::new(std::str::from_utf8(path).unwrap_or_default())).into()
        });
        let all = named.chain(SEARCHED.iter().map(PathBuf::from));
        let root = self.tree.root().filter(|root| !self.tree.is_here("mnt", root));
        let place = |path: PathBuf| match root {
            Some(root) => {
                let inner = path.strip_prefix("/").unwrap_or(&path).to_owned();
                proc::of(root.pid, "root").join(inner)
            }
            None => path,
        };
        let mut waiting: VecDeque<PathBuf> = all.map(place).collect();
        let mut budget = MAX_SEARCHED;
        let mut files = HashSet::new();
        while let (Some(path), true) = (waiting.pop_front(), budget > 0) {
            budget -= 1;
            let Ok(meta) = fs::symlink_metadata(&path) else { continue };
            files.insert(((major(meta.dev()), minor(meta.dev())), meta.ino()));
            if meta.is_dir() {
                let entries = fs::read_dir(&path).into_iter().flatten().flatten();
                let room = budget.saturating_sub(waiting.len());
                waiting.extend(entries.map(|entry| entry.path()).take(room));
            }
        }
        files
    }
}

/// File systems that give no handle with which a file can be opened again.
const WITHOUT_HANDLES: &[&str] = &[
    "proc",
    "sysfs",
    "devpts",
    "debugfs",
    "tracefs",
    "mqueue",
    "securityfs",
    "configfs",
    "pstore",
    "bpf",
    "fusectl",
    "efivarfs",
    "binfmt_misc",
    "hugetlbfs",
    "ramfs",
    "autofs",
    "rpc_pipefs",
    "selinuxfs",
];

/// The directories in which CRIU searches by itself.
const SEARCHED: &[&str] = &[
    "/etc",
    "/var/spool",
    "/var/log",
    "/usr/share/dbus-1/services",
    "/usr/share/dbus-1/system-services",
    "/var/lib/polkit-1/localauthority",
    "/usr/share/polkit-1/actions",
    "/lib/udev",
];

/// Most files that are searched for watched files.
const MAX_SEARCHED: usize = 20_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watched_files_are_read() {
        let line = "inotify wd:1 ino:e49 sdev:16 mask:2 ignored_mask:0 fhandle-bytes:c";
        let watched = Watched::of(line).unwrap();
        assert_eq!((watched.device, watched.inode), ((0, 0x16), 0xe49));
        let line = "fanotify ino:9d4002 sdev:fe00000 mflags:0 mask:2 ignored_mask:0";
        assert_eq!(Watched::of(line).unwrap().device, (254, 0));
        for line in ["fanotify flags:0 event-flags:8000", "fanotify mnt_id:1d mflags:0", "x sdev:1"]
        {
            assert!(Watched::of(line).is_none(), "{line}");
        }
    }
}
