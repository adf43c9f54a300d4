//! The check of images against this host: one file a subject.
//!
//! [`Checkpoint::requirements`] lists everything outside the images that a restore requires. Each
//! file here compares one kind of requirement with this host.

mod addresses;
mod cgroups;
mod cpu;
mod credentials;
mod files;
mod ghosts;
mod ids;
mod kernel;
mod limits;
mod memory;
mod namespaces;
mod options;
mod outside;
mod pages;
mod places;
mod terminals;
mod unix;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use criu_images::proto::Lsmtype;
use criu_images::requirements::{Requirement, RestoreOption};
use criu_images::view::Summary;
use criu_images::{Checkpoint, ImageSet, kind};

use crate::diagnosis::Cause;
use crate::operation::Restore;
use crate::preflight::finding::Finding;
use crate::preflight::look::Look;
use crate::preflight::need::Need;
use crate::transport::Transport;

/// The size of a checkpoint.
#[derive(Default)]
pub(in crate::preflight) struct Size {
    pub(in crate::preflight) tasks: usize,
    pub(in crate::preflight) threads: usize,
    pub(in crate::preflight) descriptors: usize,
    /// Bytes of memory.
    pub(in crate::preflight) memory: u64,
}

/// Images beside the options of their restore.
struct Saved<'a> {
    restore: &'a Restore<'a>,
    look: &'a Look<'a>,
    set: &'a ImageSet,
    checkpoint: Checkpoint<'a>,
    requirements: Vec<Requirement>,
    /// The images directory, by a descriptor of this process.
    images: &'a Path,
}

pub(in crate::preflight) fn look(restore: &Restore<'_>, look: &Look<'_>) -> (Vec<Finding>, Size) {
    let nothing = Size::default();
    // Look::new has already reported the error.
    let Ok(Some(directory)) = restore.common.opts.images.open() else {
        return (Vec::new(), nothing);
    };
    let path = restore.common.opts.images.path();
    let images = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()));
    if !images.join(kind::INVENTORY.file).exists() {
        return (vec![Finding::blocks(Cause::NotCheckpoint).path(path)], nothing);
    }
    let found = ImageSet::open(&images).and_then(|set| compare(restore, look, &set, &images));
    match found {
        Ok(found) => found,
        Err(error) => (vec![unreadable(&error, &path)], nothing),
    }
}

fn unreadable(error: &criu_images::Error, path: &Path) -> Finding {
    let cause = if error.image() == "parent" { Cause::ParentMissing } else { Cause::ImagesDamaged };
    Finding::blocks(cause).path(path).detail(error.to_string())
}

/// Lists the pipes of which the images have one end, and which a restore does not give.
pub(in crate::preflight) fn lost_pipes(restore: &Restore<'_>) -> Vec<Need> {
    let opts = &restore.common.opts;
    let Ok(Some(directory)) = opts.images.open() else { return Vec::new() };
    let images = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()));
    let halves = ImageSet::open(images).and_then(|set| set.checkpoint()?.half_pipes());
    let key = |option| match option {
        RestoreOption::InheritFd { key, .. } => Some(key),
        _ => None,
    };
    let keys = halves.unwrap_or_default().into_iter().filter_map(key);
    let is_given = |key: &String| opts.inherit.iter().any(|fd| fd.key() == key.as_str());
    keys.filter(|key| !is_given(key)).map(Need::InheritFd).collect()
}

fn compare(
    restore: &Restore<'_>,
    look: &Look<'_>,
    set: &ImageSet,
    images: &Path,
) -> criu_images::Result<(Vec<Finding>, Size)> {
    let checkpoint = set.checkpoint()?;
    let summary = Summary::new(checkpoint)?;
    let requirements = checkpoint.requirements()?;
    let saved = Saved { restore, look, set, checkpoint, requirements, images };
    let mut found = credentials::look(&saved);
    found.extend(kernel::version(&saved)?);
    found.extend(cpu::look(&saved)?);
    found.extend(labels(&summary, look));
    found.extend(options::look(&saved));
    found.extend(ids::look(&saved));
    found.extend(terminals::look(&saved));
    found.extend(namespaces::look(&saved));
    found.extend(cgroups::look(&saved)?);
    found.extend(files::look(&saved));
    found.extend(ghosts::look(&saved));
    found.extend(outside::look(&saved));
    found.extend(unix::look(&saved));
    found.extend(addresses::look(&saved));
    found.extend(pages::look(&saved));
    let memory = summary.pages.present.saturating_mul(summary.page_size);
    found.extend(memory::look(&saved, memory));
    found.extend(limits::look(&saved));
    let (mut descriptors, mut tables) = (0, HashMap::new());
    for task in checkpoint.tasks() {
        // Many tasks may share a table.
        descriptors += match tables.entry(task.table_id()?) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(new) => *new.insert(task.files()?.len()),
        };
    }
    Ok((found, Size { tasks: summary.tasks, threads: summary.threads, descriptors, memory }))
}

impl Saved<'_> {
    /// Returns true if a criu that this process starts carries the restore out. The rights and
    /// namespaces of a service are not known.
    fn is_ours(&self) -> bool {
        !matches!(self.look.criu.transport(), Transport::Service(_) | Transport::Connected(_))
    }

    /// Returns true if the caller gives a descriptor in the place of a resource.
    fn is_given(&self, key: &[u8]) -> bool {
        self.look.opts.inherit_fd.iter().any(|fd| fd.key == key)
    }
}

/// Checks that this host runs the security module of the images and of the requested profile.
fn labels(summary: &Summary, look: &Look<'_>) -> Option<Finding> {
    let host = if Path::new("/sys/kernel/security/apparmor").exists() {
        Lsmtype::Apparmor
    } else if Path::new("/sys/fs/selinux").exists() {
        Lsmtype::Selinux
    } else {
        Lsmtype::NoLsm
    };
    let name = |of: Lsmtype| match of {
        Lsmtype::NoLsm => None,
        Lsmtype::Selinux => Some("SELinux"),
        Lsmtype::Apparmor => Some("AppArmor"),
    };
    let here = name(host).unwrap_or("neither SELinux nor AppArmor");
    let differs = summary.lsm.is_some() && summary.lsm != name(host);
    let asked = look.opts.lsm_profile.as_deref().and_then(|profile| match profile {
        profile if profile.starts_with(b"selinux:") => Some(Lsmtype::Selinux),
        profile if profile.starts_with(b"apparmor:") => Some(Lsmtype::Apparmor),
        _ => None,
    });
    let detail = match asked {
        Some(asked) if asked != host => {
            format!("the requested profile is for {}, this host runs {here}", name(asked)?)
        }
        _ if differs && !summary.labels.is_empty() => {
            format!("the images come from a host with {}, this host runs {here}", summary.lsm?)
        }
        _ => return None,
    };
    Some(Finding::blocks(Cause::LsmMismatch).detail(detail))
}
