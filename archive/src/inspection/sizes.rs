//! Sizes of a checkpoint's parts.

use criu_images::Text;
use criu_images::source::Source;
use serde::Serialize;

use super::Place;
use crate::member::MemberKind;
use crate::metadata::names::{DEVSHM, ROOTFS_DIFF};

/// Sizes of a checkpoint's parts, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Sizes {
    /// All members of the archive, unpacked; `None` for a directory.
    pub unpacked: Option<u64>,
    /// All files in the folder of the images.
    pub checkpoint: u64,
    /// Pages files: the memory of the tasks in this set.
    pub memory: u64,
    /// Pages files of AMD's GPUs.
    pub gpu_memory: u64,
    /// Changed files of the root file system, packed as they are; `None` without them.
    pub rootfs_diff: Option<u64>,
    /// Files of /dev/shm; `None` without them.
    pub shm: Option<u64>,
    /// Named volumes, by name.
    pub volumes: Vec<Volume>,
    /// Sets of earlier dumps that hold some of the pages, the nearest first: the bytes of each.
    pub parents: Vec<u64>,
}

/// A named volume in the archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Volume {
    /// Name of the volume.
    pub name: String,
    /// Bytes of its archive.
    pub bytes: u64,
}

impl Sizes {
    pub(crate) fn new(place: &Place, top: &dyn Source, images: &dyn Source) -> Self {
        let size = |name: &str| top.size(name).ok().flatten();
        let mut sizes =
            Self { rootfs_diff: size(ROOTFS_DIFF), shm: size(DEVSHM), ..Self::default() };
        for name in images.names().unwrap_or_default() {
            let bytes = images.size(&name).ok().flatten().unwrap_or(0);
            let add = |sum: &mut u64| *sum = sum.saturating_add(bytes);
            add(&mut sizes.checkpoint);
            if name.starts_with("pages-") {
                add(&mut sizes.memory);
            } else if name.starts_with("amdgpu-pages-") || name.starts_with("amdgpu-drm-pages-") {
                add(&mut sizes.gpu_memory);
            }
        }
        if let Some(archive) = place.in_archive() {
            let mut unpacked = 0u64;
            for member in archive.members().filter(|member| *member.kind() == MemberKind::File) {
                unpacked = unpacked.saturating_add(member.size());
            }
            sizes.unpacked = Some(unpacked);
        }
        if let Some(volumes) = place.volumes() {
            let mut names = volumes.names().unwrap_or_default();
            names.sort_unstable();
            for file in &names {
                let Some(name) = file.strip_suffix(".tar") else { continue };
                if let Ok(Some(bytes)) = volumes.size(file) {
                    let name = Text(name.as_bytes()).to_string();
                    sizes.volumes.push(Volume { name, bytes });
                }
            }
        }
        let mut next = images.parent().ok().flatten();
        while let Some(level) = next.filter(|_| sizes.parents.len() < MAX_PARENTS) {
            let names = level.names().unwrap_or_default();
            let bytes = names.iter().filter_map(|name| level.size(name).ok().flatten());
            sizes.parents.push(bytes.fold(0, u64::saturating_add));
            next = level.parent().ok().flatten();
        }
        sizes
    }
}

/// Most parent sets that are looked at.
const MAX_PARENTS: usize = 64;
