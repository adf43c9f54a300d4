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
mod criu;
mod diagnosis;
mod drive;
mod error;
#[cfg(fuzzing)]
pub mod fuzzing;
mod hooks;
mod host;
pub mod labels;
#[cfg(feature = "oci")]
pub mod oci;
mod operation;
mod options;
pub mod pages;
mod pod;
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
    SeccompChange, SeccompDifference, SeccompFilter, SeccompMode, SeccompState, ThreadSeccomp,
};
pub use operation::{
    Captured, Check, CpuInfo, Dump, Dumped, KeptOpen, PageServer, Parent, PreDump, PreDumpSession,
    Restore, Restored, RunningPageServer, Session,
};
pub use options::{OPTIONS, OptionInfo};
pub use pod::{Pod, PodDumped, PodError, PodHooks, PodRestore, PodRestored, Sandbox};
pub use value::{
    AfterDump, Build, Cancel, CgroupMode, Compression, CpuCap, Dir, External, FoundMounts, ImageIo,
    InheritFd, InvalidValue, JoinNs, JoinableNs, LogLevel, LsmProfile, MountContext, NetworkLock,
    Pid, PreDumpMode, SystemError, Tcp, Tls, Version,
};
