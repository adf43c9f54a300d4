//! OCI containers: from a bundle and a running container to the options of a dump and a restore.
//!
//! ```text
//! Container
//!   ├─ checkpoint(pid) ─▶ ContainerCheckpoint ─ dump(images) ──▶ ContainerDump ─ run ──▶ Dumped
//!   │                          (values)                            (options)
//!   │
//!   └─ restore(images) ─▶ RestorePlan ─ prepare(state) ──▶ ContainerRestore ─ run ──▶ Restored
//!                          (values)             (options; a root for CRIU, descriptors of
//!                                                namespaces: undone when dropped)
//! ```
//!
//! These values do what a runtime would otherwise have to write itself. Part by part of
//! `config.json`:
//!
//! * **Bind mounts**, with the mounts that came along below recursive ones. A dump leaves them out,
//!   each by its mount point; links are followed inside the container's root. A restore finds the
//!   source of each external mount in the images; a mount that `config.json` does not describe is
//!   an error.
//! * **`linux.maskedPaths` and `devices`.** A dump leaves them out if they are bind mounts. A
//!   restore mounts `/dev/null`, an empty directory or the device.
//! * **`linux.readonlyPaths`, tmpfs, proc, sysfs, devpts, mqueue.** CRIU saves and restores them. A
//!   restore makes missing mount points.
//! * **`root.readonly`.** A restore makes the root read-only, whatever this CRIU does.
//! * **Cgroup mounts.** A dump leaves them out if they are directories of version 1. A restore
//!   mounts the container's new directories.
//! * **`linux.namespaces` with a path.** Network and pid namespaces are left out of the dump, and
//!   the restore inherits the namespaces at the paths. If the images hold a network namespace, the
//!   restore joins the one at the path instead. Ipc, uts, user and time namespaces are saved, and
//!   the restore joins the one at the path. Mount and cgroup namespaces with a path are refused.
//! * **Namespaces of the container's own** are saved and made. `.empty_net_ns(true)` leaves the
//!   content of the network namespace to the caller.
//! * **`linux.cgroupsPath`.** A dump is frozen by the cgroup there if the process is below it, or
//!   else by the process's own cgroup. In a restore the cgroups of the first process begin there.
//! * **`process.terminal`.** A dump saves its slave side. A restore makes a new terminal, whose
//!   master goes to the [`ConsoleSocket`].
//! * **Standard streams.** A dump records them in `descriptors.json`. A restore replaces pipes by
//!   the caller's descriptors.
//! * **`process.selinuxLabel`, `apparmorProfile`, `linux.mountLabel`.** A dump saves the labels of
//!   the tasks. A restore gives those of `config.json` if the images have others.
//! * **`hooks.prestart` and `createRuntime`.** A restore runs them at setup-namespaces
//!   ([`RestoreHooks`]).
//! * **The annotation `org.criu.config`.** CRIU reads that file, or
//!   [a default](Container::default_config_file), at a dump and a restore.
//!
//! The images never decide what of the machine is mounted. Sources come from `config.json` and from
//! [`Container::source`] alone. Images that name devices, directories or more access by themselves
//! are refused ([`Error::Mount`]) unless they are [trusted](Container::trust_images). But the
//! images do decide who the tasks are and what they may do: capabilities, seccomp filters, the
//! program itself. Restore images of strangers in a user namespace or not at all.
//!
//! The keys of external mounts are those of runc, crun and youki, so that a runtime and this crate
//! restore each other's checkpoints ([`Keys`]).
//!
//! `docs/runtime-authors.md` of the project is a guide, with a complete example.

mod apply;
mod cgroups;
mod checkpoint;
mod clean_up;
mod console;
mod container;
mod descriptors;
mod dump;
mod error;
mod freezer;
mod hooks;
mod options;
mod own_mounts;
mod plan;
mod prepare;
mod replaced;
mod restore;
mod root;
mod runtime_options;
mod sources;

pub use apply::RuntimeOperation;
pub use cgroups::Cgroups;
#[cfg(fuzzing)]
pub(crate) use cgroups::row;
pub use checkpoint::ContainerCheckpoint;
pub use clean_up::clean_up;
pub use console::ConsoleSocket;
pub use container::{Container, Keys};
pub use descriptors::Descriptors;
pub use dump::{ContainerDump, DumpHooks};
pub use error::{Error, Result};
pub use freezer::Freezer;
pub use hooks::RestoreHooks;
pub use oci_spec;
pub use plan::RestorePlan;
pub use restore::ContainerRestore;
#[cfg(feature = "lazy")]
pub use restore::LazyContainerRestore;
pub use runtime_options::RuntimeOptions;
pub use sources::ExternalMount;

/// The guide, whose code is compiled.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/runtime-authors.md")]
mod guide {}
