//! Checkpoint and restore Linux processes with CRIU.
//!
//! CRIU freezes a process tree, writes it to image files and brings it back, on this machine or on
//! another. This crate drives CRIU: it starts a `criu`, tells it what to do, answers its questions,
//! and explains its failures.
//!
//! ```text
//!   Criu                the criu program, and the way to reach it
//!
//!   Dump  PreDump  Restore  ── start ──▶  Session  ── finish ──▶  Dumped  Restored
//!        (a value)                     (a running criu)             (a result)
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
//! # The parts
//!
//! * **Operations are values.** [`Dump`], [`PreDump`], [`Restore`], [`PageServer`], [`CpuInfo`] and
//!   [`Check`] hold options. Each operation has only the options that fit it: a restore cannot be
//!   told to leave tasks running. Every option of CRIU's RPC is there ([`OPTIONS`]). An option that
//!   the CRIU at hand does not know yet is refused before anything is frozen. Running an operation
//!   does not change the value, so a retry is the same call.
//! * **A [`Session`] is a running criu.** Its process id is known before the request is sent. Its
//!   descriptor tells an event loop when there is something to do.
//! * **[`Hooks`]** are CRIU's actions as methods. A hook holds state of its own, owns the
//!   descriptors that CRIU sends, and refuses an action with an error that comes back to the
//!   caller.
//! * **Deadlines and cancellation.** A deadline or a [`Cancel`] ends criu and its helpers at a
//!   moment that harms no task: at an action, where CRIU undoes what it has begun, or at a point
//!   where no task executes CRIU's code.
//! * **Pages.** [`Dump::capture`] has the shortest freeze. The module [`pages`] holds a page
//!   server.
//! * **Pods.** A [`Pod`] dumps several containers at one moment, all or none. [`PodRestore`] brings
//!   them back at one moment. A [`Sandbox`] holds the namespaces that they share. [`SeccompState`]
//!   compares the seccomp filters of threads before and after.
//! * **Copies.** The module [`copies`] gives each of several restores of one snapshot namespaces
//!   and an identity of its own, of which the program learns before it runs.
//! * **Preflight.** [`Dump::preflight`] says whether a dump will work and which options it needs.
//!   [`Restore::preflight`] says whether images fit this host. See the module [`preflight`].
//! * **Containers.** The module `oci` (feature `oci`) makes a dump or a restore of an OCI bundle.
//! * **Failures explain themselves.** An [`Error`] holds CRIU's errno and message, its output, the
//!   first real error in its log with the lines before it, and for a known [`Cause`] the way to
//!   mend it.
//! * **No label is lost.** A task that AppArmor or SELinux confines comes back confined, or the
//!   operation is refused. See [`labels`].
//! * **Nothing half-done is left.** After a failed dump the tasks run on, and the directory holds
//!   no images of that dump. After a failed restore there is no process.
//!
//! # Features
//!
//! | feature | what it adds | default |
//! | --- | --- | --- |
//! | `pages` | [`pages`] and [`Dump::capture`] | yes |
//! | `pod` | [`Pod`], [`PodRestore`], [`Sandbox`] | yes |
//! | `preflight` | [`preflight`], [`Dump::preflight`], [`Restore::preflight`] | yes |
//! | `instant` | the module `instant`: dumps whose memory is read while the tasks run on | no |
//! | `archive` | the module `archive`: restores from archives and registries | no |
//! | `firecracker` | memory on demand for virtual machines of Firecracker, in `lazy` | no |
//! | `oci` | the module `oci`: containers | no |
//! | `tls` | TLS for [`pages`] | no |
//! | `libcriu`, `libcriu-link` | libcriu in the place of a socket | no |
//! | `serde` | [`preflight::Report`] and [`SeccompState`] serialize | no |
//!
//! `docs/runtime-authors.md` of the project says how large a program is with each.
//!
//! # Ways to reach CRIU
//!
//! [`Criu::new`] starts a `criu swrk` for each request, [`Criu::service`] connects to a `criu
//! service`, and [`Criu::connected`] takes a socket. A criu that this crate starts inherits no
//! descriptor except those meant for it, leads a process group of its own (except for shell jobs),
//! and is always reaped.
//!
//! A dump needs root, or `CAP_CHECKPOINT_RESTORE` and [`Dump::unprivileged`].
//!
//! # Restored tasks
//!
//! Restored tasks are children of criu first. When criu ends, the next reaper adopts them: process
//! 1, or the caller if it is a child subreaper. With [`Restore::rst_sibling`] the root task is a
//! child of the caller. [`Restored::pidfd`] names the root task even if its number is used again.
//!
//! # Trust
//!
//! The other end of the socket is not trusted: the size of a packet is bounded, unexpected
//! descriptors are closed, and a packet that is not an answer is an error. Control characters in
//! CRIU's text are escaped. Images and logs are opened without following links. A *service* is
//! trusted: whoever may connect to root's `criu service` can have any process dumped into a
//! directory of their own, and CRIU 4.1 lets everybody connect.

// A feature that is left out leaves behind some 30 functions that only it calls. With all features,
// as CI builds the crate, every unused item is an error.
#![cfg_attr(
    not(all(feature = "lazy", feature = "pages", feature = "pod", feature = "preflight")),
    allow(dead_code, unused_imports)
)]

#[cfg(feature = "archive")]
pub mod archive;
pub mod bounds;
pub mod config;
pub mod copies;
mod criu;
mod diagnosis;
mod drive;
mod error;
#[cfg(fuzzing)]
pub mod fuzzing;
mod hooks;
mod host;
#[cfg(feature = "instant")]
pub mod instant;
pub mod labels;
#[cfg(feature = "lazy")]
pub mod lazy;
#[cfg(feature = "oci")]
pub mod oci;
mod operation;
mod options;
#[cfg(feature = "pages")]
pub mod pages;
#[cfg(feature = "pod")]
mod pod;
#[cfg(feature = "preflight")]
pub mod preflight;
pub mod rpc;
mod sys;
mod transport;
mod undo;
mod value;

pub use criu::{Criu, Features, ProbeCache};
pub use diagnosis::{Cause, End, Failure, LogExcerpt, StopMethod, StopReason, Stopped};
pub use error::{Error, Misuse, Result};
pub use hooks::{Action, HookError, HookResult, Hooks};
pub use host::{
    FileLock, LiveHolder, LockError, LockKind, LockProblem, LockState, NestedNamespace, OwnerState,
    SeccompChange, SeccompDifference, SeccompFilter, SeccompMode, SeccompState, ThreadSeccomp,
};
#[cfg(feature = "pages")]
pub use operation::Captured;
#[cfg(feature = "lazy")]
pub use operation::LazyRestore;
pub use operation::{
    Check, CpuInfo, Dump, Dumped, KeptOpen, PageServer, Parent, PreDump, PreDumpSession, Restore,
    Restored, RunningPageServer, Session,
};
pub use options::{OPTIONS, OptionInfo};
#[cfg(all(feature = "instant", feature = "pod"))]
pub use pod::PodInstant;
#[cfg(feature = "pod")]
pub use pod::{Pod, PodDumped, PodError, PodHooks, PodRestore, PodRestored, Sandbox};
pub use sys::table::hold_back_descriptors;
pub use value::{
    AfterDump, Build, Cancel, CgroupMode, Compression, CopyNotice, CpuCap, Dir, External,
    FoundMounts, ImageIo, InheritFd, InvalidValue, JoinNs, JoinableNs, LogLevel, LsmProfile,
    MountContext, NetworkLock, Pid, PlaceError, PlaceProblem, PreDumpMode, SystemError, Tcp, Tls,
    Version, Writers,
};

/// The programs in the READMEs and in a page of the documentation, which have to compile.
#[cfg(doctest)]
mod readme {
    #[doc = include_str!("../README.md")]
    mod package {}

    #[doc = include_str!("../../README.md")]
    mod workspace {}

    #[doc = include_str!("../../docs/start.md")]
    mod start {}
}
