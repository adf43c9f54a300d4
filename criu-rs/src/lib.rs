//! Checkpoint and restore Linux processes with CRIU.
//!
//! ```text
//!   Criu                where criu is and how to reach it
//!
//!   Dump  PreDump  Restore  ── start ──▶  Session  ── finish ──▶  Dumped  Restored
//!        (a value)                      (a criu, its         (an outcome)
//!                                        pid known)
//! ```
//!
//! ```no_run
//! use criu_rs::{Criu, Dump, Pid, Restore};
//!
//! let criu = Criu::new();
//! let pid: Pid = "4711".parse()?;
//! Dump::new(pid, "/var/lib/ckpt").run(&criu)?;
//! let restored = Restore::new("/var/lib/ckpt").run(&criu)?;
//! println!("process {} runs again", restored.pid);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! * **Operations are values.** [`Dump`], [`PreDump`], [`Restore`], [`PageServer`], [`CpuInfo`] and
//!   [`Check`] hold options, and have those that fit them: a restore cannot be told to leave tasks
//!   running. Every option of CRIU's RPC is there ([`OPTIONS`]); one that the CRIU at hand does not know
//!   yet is refused before anything is frozen. Running a value does not change it.
//! * **A [`Session`] is a running criu.** Its process id is known before it is asked for anything; its
//!   descriptor tells an event loop when there is something to do.
//! * **[`Hooks`]** are CRIU's actions as methods: they hold state, refuse with an error that comes back,
//!   and own the descriptors they are handed.
//! * **Ending.** A deadline or [`Cancel`] ends criu and its helpers where that harms no task: at an
//!   action, where CRIU undoes what it has begun, or else where no task is executing code of CRIU's.
//! * **Pages.** [`Dump::capture`] has the shortest freeze; the module [`pages`] has a page server of our own.
//! * **Pods.** [`Pod`] dumps several containers at one moment, all or none, [`PodRestore`] brings them back at one;
//!   [`Sandbox`] has the namespaces that they share. [`SeccompState`] tells whether restored threads have the filters that they had.
//! * **Looks before the freeze.** [`Dump::preflight`] says whether a dump will work and which options it needs,
//!   [`Restore::preflight`] whether images go with this host: the module [`preflight`].
//! * **Failures explain themselves.** An [`Error`] has CRIU's errno and message, what it printed, the
//!   first real error in its log with the lines before, and for a known [`Cause`] what to do about it.
//! * **No label is lost.** A task that is confined by AppArmor or SELinux comes back confined, or the operation is
//!   refused: see [`labels`].
//! * **Nothing half-done is left.** After a failed dump the tasks run on and the directory holds no
//!   images of that run; after a failed restore there is no process.
//!
//! # Reaching CRIU
//!
//! [`Criu::new`] starts `criu swrk` for each request, [`Criu::service`] connects to a `criu service`,
//! [`Criu::connected`] takes a socket. A criu started here is never handed a descriptor it is not meant
//! to have, leads a process group of its own (but for shell jobs), and is always reaped.
//!
//! A dump needs root, or `CAP_CHECKPOINT_RESTORE` and [`Dump::unprivileged`].
//!
//! # Restored tasks
//!
//! They are children of criu first and are adopted by the next reaper when it ends: process 1, or the
//! caller if it is a child subreaper. With [`Restore::rst_sibling`] the root is the caller's child.
//! [`Restored::pidfd`] names the root task whatever happens to its number.
//!
//! # Trust
//!
//! The socket's other end is not trusted: a packet is bounded, descriptors nobody asked for are closed,
//! and what is no answer is an error. Text from CRIU may hold anything; control characters in it are
//! escaped. Images and logs are opened without following links. A *service* is trusted with what it is
//! asked: whoever may connect to a root's `criu service` can have any process dumped into a directory
//! of theirs (CRIU 4.1 lets everybody connect).

pub mod bounds;
mod cancel;
mod cause;
mod cgroup;
mod cgroup_yard;
mod check;
mod connections;
mod cpuinfo;
mod criu;
mod dir;
mod driver;
mod dump;
mod error;
mod external;
mod freezer;
#[cfg(fuzzing)]
pub mod fuzzing;
mod gates;
mod hooks;
mod images_dir;
mod inherit;
mod kept_open;
pub mod labels;
mod log;
mod memory;
mod mountinfo;
mod namespace;
mod netlink;
mod network;
#[cfg(feature = "oci")]
pub mod oci;
mod options;
mod page_server;
pub mod pages;
mod pid;
mod pod;
mod pre_dump;
pub mod preflight;
mod probe_cache;
mod restore;
pub mod rpc;
mod safe_point;
mod sandbox;
mod seccomp;
mod security;
mod session;
mod stop;
mod strays;
mod sys;
mod tls;
mod transport;
mod tree;
mod version;

pub use cancel::Cancel;
pub use cause::Cause;
pub use cgroup::CgroupMode;
pub use check::Check;
pub use cpuinfo::{CpuCap, CpuInfo};
pub use criu::{Criu, Features};
pub use dir::Dir;
pub use dump::{AfterDump, Captured, Dump, Dumped};
pub use error::{
    End, Error, Failure, HookError, InvalidValue, Result, StopMethod, StopReason, Stopped,
};
pub use external::{External, FoundMounts};
pub use hooks::{Action, HookResult, Hooks};
pub use inherit::InheritFd;
pub use kept_open::KeptOpen;
pub use log::{LogExcerpt, LogLevel};
pub use memory::{Compression, ImageIo, PreDumpMode};
pub use namespace::{JoinNs, NamespaceKind};
pub use network::{NetworkLock, Tcp};
pub use options::{OPTIONS, OptionInfo};
pub use page_server::{PageServer, RunningPageServer};
pub use pid::Pid;
pub use pod::{Pod, PodDumped, PodError, PodHooks, PodRestore, PodRestored};
pub use pre_dump::{PreDump, PreDumpSession};
pub use probe_cache::ProbeCache;
pub use restore::{Parent, Restore, Restored};
pub use sandbox::Sandbox;
pub use seccomp::{
    SeccompChange, SeccompDifference, SeccompFilter, SeccompMode, SeccompState, ThreadSeccomp,
};
pub use security::{LsmProfile, MountContext};
pub use session::Session;
pub use tls::Tls;
pub use version::{Build, Version};

/// The programs in the READMEs, which have to compile.
#[cfg(doctest)]
mod readme {
    #[doc = include_str!("../README.md")]
    mod package {}

    #[doc = include_str!("../../README.md")]
    mod workspace {}
}
