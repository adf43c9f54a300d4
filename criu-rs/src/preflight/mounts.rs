//! Checks of the mounts in a mount namespace that the dump saves.

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt;

use super::finding::{Finding, Severity};
use super::live::Tree;
use super::look::Look;
use super::need::Need;
use super::proc::Mount;
use crate::diagnosis::Cause;
use crate::value::External;

pub(super) fn look(tree: &Tree, look: &Look<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    if !tree.saves("mnt") {
        return found;
    }
    for task in tree.one_of_each("mnt") {
        if tree.is_here("mnt", task) {
            continue;
        }
        let all = Mount::all(task.pid).unwrap_or_default();
        let mounts: Vec<&Mount> =
            all.iter().filter(|mount| !is_skipped(mount, &all, look)).collect();
        for mount in &mounts {
            let finding = kind(mount, &mounts, look);
            found.extend(finding.map(|finding| finding.pid(task.pid).path(mount.path())));
        }
    }
    found
}

/// Bytes of file systems in memory that are saved with the mounts. A file system that another mount
/// covers counts only if it can still be reached.
pub(super) fn in_memory(tree: &Tree, look: &Look<'_>) -> u64 {
    let tasks = tree.one_of_each("mnt").into_iter().filter(|task| !tree.is_here("mnt", task));
    let mut seen = BTreeSet::new();
    let mut bytes = 0u64;
    for task in tasks {
        let all = Mount::all(task.pid).unwrap_or_default();
        for mount in &all {
            let of_memory = matches!(mount.fs.as_str(), "tmpfs" | "devtmpfs") && mount.root == b"/";
            if !of_memory || is_skipped(mount, &all, look) || is_named(mount, look) {
                continue;
            }
            let path = task.outside_path(&mount.path(), false);
            let Some(Ok(stat)) = path.map(|path| nix::sys::statvfs::statvfs(&path)) else {
                continue;
            };
            if seen.insert(mount.dev) {
                let used = stat.blocks().saturating_sub(stat.blocks_free());
                bytes = bytes.saturating_add(used.saturating_mul(stat.fragment_size()));
            }
        }
    }
    bytes
}

/// Returns true if the options skip the mount or one of its parents.
fn is_skipped(mount: &Mount, all: &[Mount], look: &Look<'_>) -> bool {
    let (mut mount, mut steps) = (mount, 0);
    loop {
        if look.opts.skip_mnt.contains(&mount.point) {
            return true;
        }
        match all.iter().find(|other| other.id == mount.parent && other.id != mount.id) {
            // The kernel never lists a cycle of parents, but the loop has to end for any input.
            Some(parent) if steps <= all.len() => (mount, steps) = (parent, steps + 1),
            _ => return false,
        }
    }
}

/// Checks one mount of the namespace.
fn kind(mount: &Mount, mounts: &[&Mount], look: &Look<'_>) -> Option<Finding> {
    let is_root = mount.point == b"/";
    if is_root || is_named(mount, look) {
        return None;
    }
    let root = mounts.iter().find(|other| other.point == b"/");
    let of_root = root.is_some_and(|root| {
        root.dev == mount.dev
            && mount.root.starts_with(root.root.strip_suffix(b"/").unwrap_or(&root.root))
    });
    let hidden = mount.master.is_some_and(|group| mounts.iter().all(|m| m.shared != Some(group)));
    let external = External::mount(mount.path(), key(mount));
    if of_root {
        return None;
    }
    if hidden && !look.finds_mounts() {
        let needs = vec![Need::External(external)];
        let finding = Finding::needs(Cause::ExternalMount, needs, false).hint(MAKE_PRIVATE);
        return Some(finding.detail(format!("a {} mount that follows a mount outside", mount.fs)));
    }
    if mount.root == b"/" {
        let enabled = |name: &[u8]| look.opts.enable_fs.iter().any(|fs| fs == name || fs == b"all");
        if FILE_SYSTEMS.contains(&mount.fs.as_str()) || enabled(mount.fs.as_bytes()) {
            return None;
        }
        let needs = vec![Need::External(external), Need::AutoExtMnt];
        let finding = Finding::needs(Cause::UnsupportedMount, needs, look.finds_mounts());
        return Some(finding.detail(mount.fs.clone()));
    }
    if mounts.iter().any(|other| other.dev == mount.dev && other.root == b"/") {
        return None;
    }
    if look.finds_mounts() && (!hidden || look.takes_masters()) {
        let what = "CRIU finds a mount from outside again on restore";
        return Some(Finding::new(Severity::Info, what));
    }
    let needs = if look.finds_mounts() && hidden {
        vec![Need::ExtMasters]
    } else {
        vec![Need::External(external), Need::AutoExtMnt]
    };
    let part = String::from_utf8_lossy(&mount.root).into_owned();
    Some(
        Finding::needs(Cause::ExternalMount, needs, false)
            .detail(format!("{part} of a mounted {}", mount.fs)),
    )
}

/// Returns true if the caller has named the mount as external.
fn is_named(mount: &Mount, look: &Look<'_>) -> bool {
    let path = mount.path();
    let name = [b"mnt[", path.as_os_str().as_bytes(), b"]"].concat();
    look.opts.external.iter().any(|text| text.starts_with(&name))
        || look.opts.ext_mnt.iter().any(|map| map.key == mount.point)
        || look.is_external(&format!("dev[{}/{}]", mount.dev.0, mount.dev.1))
}

/// A key for the mount: its path with `-` in place of other characters.
fn key(mount: &Mount) -> String {
    let path = String::from_utf8_lossy(&mount.point).into_owned();
    let word = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    path.trim_matches('/').chars().map(word).collect()
}

/// Advice for mounts that follow mounts outside the tree.
const MAKE_PRIVATE: &str = "\
make the mounts private before the program starts (mount --make-rprivate /; unshare --mount does \
it), or name each mount as external (mnt[PATH]:KEY) on dump and restore";

/// File systems that CRIU mounts anew on restore.
const FILE_SYSTEMS: &[&str] = &[
    "proc",
    "sysfs",
    "devtmpfs",
    "binfmt_misc",
    "tmpfs",
    "devpts",
    "simfs",
    "btrfs",
    "pstore",
    "mqueue",
    "securityfs",
    "fusectl",
    "debugfs",
    "tracefs",
    "cgroup",
    "cgroup2",
    "aufs",
    "fuse",
    "overlay",
    "autofs",
];
