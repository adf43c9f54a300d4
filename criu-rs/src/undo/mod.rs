//! The cleanup after a failure: images, stray tasks, the freezer, cgroup mounts, connections.

mod cgroup_yard;
mod connections;
mod freezer;
#[cfg(feature = "instant")]
mod holders;
mod images_dir;
mod life;
mod private;
mod staging;
mod strays;

pub(crate) use cgroup_yard::CgroupYard;
pub(crate) use connections::Connections;
pub(crate) use freezer::{Freezer, Frozen, frozen_above};
#[cfg(feature = "instant")]
pub(crate) use holders::{Unreaped, clear_orphans, end};
pub(crate) use images_dir::{ImagesDir, PARENT};
pub(crate) use life::Life;
pub(crate) use staging::Staging;
pub(crate) use strays::Strays;
