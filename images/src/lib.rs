//! Reads CRIU's checkpoint images: what `criu dump` leaves in a directory.
//!
//! ```text
//! ImageSet ──▶ Checkpoint ──▶ Task ──▶ Memory
//! (a set of     (its process  │ ├─▶ Thread ──▶ Seccomp
//!  images)       tree)        │ └─▶ Fd ──▶ OpenFile
//!                             └─▶ SavedNamespace ──▶ Mounts, Network
//! ```
//!
//! An [`ImageSet`] owns what has been read; the others borrow from it.
//!
//! ```
//! use criu_images::ImageSet;
//!
//! let set = ImageSet::open("tests/data/pipeline")?;
//! for task in set.checkpoint()?.tasks() {
//!     println!("{task}");
//!     for fd in task.files()? {
//!         println!("    {fd}");
//!     }
//!     if let Some(memory) = task.memory()? {
//!         println!("    {} pages stored", memory.totals().present);
//!     }
//! }
//! # Ok::<(), criu_images::Error>(())
//! ```
//!
//! Views of the [`view`] module show it as people look at processes, and what a restore needs.
//! [`check`] finds out whether a set is whole, a [`Diff`] what has changed between two. [`edit`] makes images
//! that are otherwise. A [`CoreDump`] is a task as a debugger opens it.
//!
//! A set comes from a directory, from memory, or from whatever implements
//! [`Source`](source::Source). Features, none of which is on by default:
//!
//! | feature | what |
//! | --- | --- |
//! | `json` | images as crit's JSON, and back |
//! | `search` | literal bytes, bytes with gaps, and regular expressions in memory |
//! | `serde` | views and differences serialize |
//! | `tar` | sets in tar archives |
//!
//! Below lie the layers it is made of: the [catalogue](kind) of images, their [frame](Image), the
//! [messages](proto) in them, and the [walk](memory::Pagemap) of a pagemap. [`DumpStats`] and
//! [`RestoreStats`] are CRIU's own records of a run.
//!
//! # Trust
//!
//! Images may come from anywhere. Whatever their bytes are, reading them ends in a result or an
//! [`Error`] with its place. Nothing panics. Memory stays in proportion to the size of the files read,
//! each of which has [a limit](bounds). Nothing is read outside the set's directory but
//! through its `parent` link, which leads where it says; a [`Source`](source::Source) that refuses to
//! follow it can stand before the [directory](source::Directory). What an image says may still be
//! untrue: a path in it is a claim, not a file to open.

mod arch;
mod aside;
pub mod bounds;
pub mod bpf;
mod caps;
mod cgroups;
mod chain;
mod check;
mod checkpoint;
mod coredump;
mod diff;
pub mod edit;
mod error;
mod extra;
mod file;
pub mod files;
mod frame;
#[cfg(feature = "json")]
pub mod json;
pub mod kind;
mod limits;
pub mod memory;
pub mod namespaces;
mod old;
pub mod proto;
mod queues;
pub mod schema;
#[cfg(feature = "search")]
pub mod search;
mod seccomp;
mod security;
mod set;
mod signals;
mod sockets;
pub mod source;
mod stats;
mod store;
mod task;
mod text;
mod tree;
pub mod view;
mod wire;
mod words;
mod writer;

pub use arch::Architecture;
pub use caps::Capabilities;
pub use check::{Finding, Severity, check};
pub use checkpoint::Checkpoint;
pub use coredump::CoreDump;
pub use diff::{Changes, Diff, DirtyMapping, PageRange, TaskDiff};
pub use error::{Error, ErrorKind, FieldName, NoPage, Result, WriteError};
pub use extra::Payload;
pub use frame::{Image, RawEntry};
pub use limits::{Limit, Timer, TimerKind};
pub use namespaces::{Namespace, NamespaceKind, SavedNamespace};
pub use queues::{Queued, Queues};
pub use seccomp::{Filter, Seccomp};
pub use set::ImageSet;
pub use signals::{Disposition, Pending, Signal, SignalAction, SignalSet};
pub use sockets::UnixAddress;
pub use stats::{DumpStats, RestoreStats};
pub use task::{State, Task, Thread};
pub use text::Text;
pub use writer::ImageWriter;
