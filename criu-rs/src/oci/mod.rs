//! OCI containers: from a bundle and a running container to the options of a dump and a restore.
//!
//! ```text
//! Container ── checkpoint(pid) ──▶ ContainerCheckpoint ── dump(images) ──▶ ContainerDump ── run ──▶ Dumped
//!     │                                  (values)                       (options)
//!     │
//!     └── restore(images) ──▶ RestorePlan ── prepare(state) ──▶ ContainerRestore ── run ──▶ Restored
//!                              (values)               (options; a root for CRIU, descriptors
//!                                                   of namespaces: undone when dropped)
//! ```
//!
//! What a runtime would otherwise write itself is in these values:
//!
//! | of `config.json` | on a dump | on a restore |
//! | --- | --- | --- |
//! | bind mounts, with what came along below recursive ones | left out, each by its mount point; links are followed inside the container's root | the source of each external mount in the images; one that `config.json` does not describe is an error |
//! | `linux.maskedPaths`, `devices` | left out where they are bind mounts | `/dev/null`, an empty directory, the device |
//! | `linux.readonlyPaths`, tmpfs, proc, sysfs, devpts, mqueue | CRIU's | CRIU's; missing mount points are made |
//! | `root.readonly` | CRIU's | read-only whatever this CRIU does |
//! | cgroup mounts | left out where they are directories of version 1 | the container's new directories |
//! | `linux.namespaces` with a path: network, pid | left out | inherited; a network namespace that is in the images is replaced |
//! | ... ipc, uts, user, time | saved | joined |
//! | ... mount, cgroup | refused | refused |
//! | namespaces of its own | saved; `.empty_net_ns(true)` leaves the network's content to the caller | made |
//! | `linux.cgroupsPath` | the freezer there, if the process is below it, or else of its cgroup | the cgroups of the first process begin there |
//! | `process.terminal` | its slave side | a new one, whose master goes to the [`ConsoleSocket`] |
//! | standard streams | `descriptors.json` | pipes are replaced by the caller's |
//! | `process.selinuxLabel`, `apparmorProfile`, `linux.mountLabel` | in the images | given where the images have others |
//! | `hooks.prestart`, `createRuntime` | | run at setup-namespaces ([`RestoreHooks`]) |
//! | annotation `org.criu.config` | read by CRIU, or [a default](Container::default_config_file) | the same |
//!
//! Nothing of the images decides what is mounted from the machine: sources come from `config.json` and from
//! [`Container::source`] alone, and images that name devices, directories or more access by themselves are refused
//! ([`Error::Mount`]) unless they are [trusted](Container::trust_images). Who the tasks are and what they may do
//! *is* in the images: capabilities, seccomp filters, the program itself. Restore those of strangers in a user
//! namespace or not at all.
//!
//! `docs/runtime-authors.md` of the project is a guide, with a complete example.
//!
//! The keys are those of runc, crun and youki, so that either may restore what the other has saved ([`Keys`]).

mod cgroups;
mod checkpoint;
mod console;
mod container;
mod descriptors;
mod dump;
mod error;
mod hooks;
mod options;
mod plan;
mod prepare;
mod replaced;
mod restore;
mod root;
mod sources;

pub use cgroups::Cgroups;
#[cfg(fuzzing)]
pub(crate) use cgroups::row;
pub use checkpoint::ContainerCheckpoint;
pub use console::ConsoleSocket;
pub use container::{Container, Keys};
pub use descriptors::Descriptors;
pub use dump::{ContainerDump, DumpHooks};
pub use error::{Error, Result};
pub use hooks::RestoreHooks;
pub use oci_spec;
pub use plan::RestorePlan;
pub use restore::ContainerRestore;
pub use sources::ExternalMount;

/// The guide's code compiles.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/runtime-authors.md")]
mod guide {}
