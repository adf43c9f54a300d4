//! The order of members: small ones first, pages last.

use criu_images::kind::{Kind, PAGES, PAGES_SHMEM};

use crate::metadata::names::{CONFIG_DUMP, DEVSHM, ROOTFS_DIFF, SPEC_DUMP};
use crate::path;

/// Place of a member among the others: its class, then its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    Directory,
    /// `config.dump` and `spec.dump`, which tell what the archive is.
    First,
    /// Other metadata.
    Top,
    /// Images without pages, and all else that is small.
    Small,
    /// Logs, root file system, volumes.
    Bulk,
    Pages,
}

impl Class {
    /// Returns the class of a file or link.
    pub(super) fn of(member: &str, size: u64) -> Self {
        let (folder, name) = path::split(member);
        let is_pages = |(kind, _): (&Kind, _)| [PAGES.file, PAGES_SHMEM.file].contains(&kind.file);
        let is_bulk = name.ends_with(".log") || [ROOTFS_DIFF, DEVSHM].contains(&member);
        match folder {
            _ if Kind::of_file(name).is_some_and(is_pages) => Self::Pages,
            _ if is_bulk || size > SMALL => Self::Bulk,
            "" if [CONFIG_DUMP, SPEC_DUMP].contains(&name) => Self::First,
            "" => Self::Top,
            _ => Self::Small,
        }
    }
}

/// Most bytes of a member that is small.
const SMALL: u64 = 4 << 20;
