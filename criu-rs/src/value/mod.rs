//! Values of options: process ids, directories, external resources, versions and others.

mod after_dump;
mod cancel;
mod cgroup;
mod copy_notice;
mod cpu_cap;
mod dir;
mod external;
mod inherit;
mod invalid;
mod log_level;
mod memory;
mod namespace;
mod network;
mod pid;
mod place;
mod security;
mod system;
mod text;
mod tls;
mod version;

pub use after_dump::AfterDump;
pub use cancel::Cancel;
pub use cgroup::CgroupMode;
pub use copy_notice::CopyNotice;
pub use cpu_cap::CpuCap;
pub use dir::Dir;
#[cfg(feature = "instant")]
pub(crate) use dir::name_of;
pub(crate) use dir::read_file;
#[cfg(any(feature = "oci", feature = "pod"))]
pub(crate) use dir::replace_file;
pub use external::{External, FoundMounts};
pub use inherit::InheritFd;
pub use invalid::InvalidValue;
pub use log_level::LogLevel;
pub use memory::{Compression, ImageIo, PreDumpMode};
pub use namespace::{JoinNs, JoinableNs};
pub use network::{NetworkLock, Tcp};
pub use pid::Pid;
pub use place::{PlaceError, PlaceProblem, Writers};
pub(crate) use place::{PlaceFault, Role, is_ours, look, look_at, writers};
pub use security::{LsmProfile, MountContext};
pub use system::SystemError;
pub(crate) use text::printable;
pub use tls::Tls;
pub use version::{Build, Version};
