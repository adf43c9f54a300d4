//! The values that options are made of: process ids, directories, external resources, versions.

mod cancel;
mod cgroup;
mod dir;
mod external;
mod inherit;
mod memory;
mod namespace;
mod network;
mod pid;
mod security;
mod tls;
mod version;

pub use cancel::Cancel;
pub use cgroup::CgroupMode;
pub use dir::Dir;
pub use external::{External, FoundMounts};
pub use inherit::InheritFd;
pub use memory::{Compression, ImageIo, PreDumpMode};
pub use namespace::{JoinNs, NamespaceKind};
pub use network::{NetworkLock, Tcp};
pub use pid::Pid;
pub use security::{LsmProfile, MountContext};
pub use tls::Tls;
pub use version::{Build, Version};
