//! Checks of unlinked files, which CRIU makes beside their old names for a while.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use criu_images::requirements::{Ghost, Requirement};
use nix::sys::statvfs::{FsFlags, statvfs};

use super::Saved;
use crate::diagnosis::Cause;
use crate::preflight::finding::Finding;

pub(super) fn look(saved: &Saved<'_>) -> Vec<Finding> {
    let ghosts = saved.requirements.iter().filter_map(|requirement| match requirement {
        Requirement::Ghost(ghost) if !ghost.own_namespace => Some(ghost),
        _ => None,
    });
    ghosts.filter_map(compare).collect()
}

fn compare(ghost: &Ghost) -> Option<Finding> {
    let name = Path::new(OsStr::from_bytes(&ghost.name));
    if !ghost.is_directory && name.symlink_metadata().is_ok() {
        return Some(Finding::blocks(Cause::GhostExists).path(name));
    }
    // Without the directory CRIU takes the next one above that exists.
    let place = name.ancestors().skip(1).find(|place| place.is_dir())?;
    let facts = statvfs(place).ok()?;
    if facts.flags().contains(FsFlags::ST_RDONLY) {
        return Some(Finding::blocks(Cause::ReadOnly).path(name));
    }
    let free = facts.blocks_available().saturating_mul(facts.fragment_size());
    // Holes and the head of the image are not worth a false alarm.
    let wanted = ghost.bytes.saturating_sub(HEAD);
    (wanted > free).then(|| {
        let detail = format!("{} KiB are free, {} KiB are wanted", free >> 10, wanted >> 10);
        Finding::blocks(Cause::FileSystemFull).path(name).detail(detail)
    })
}

/// Most bytes of an image that are not content.
const HEAD: u64 = 4096;
