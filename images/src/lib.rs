//! Reads, checks, edits and writes CRIU's checkpoint images: the files that `criu dump` leaves in a
//! directory.
//!
//! ```text
//! open                     walk                                       use
//!
//! Directory ┐                                  ┌▶ Thread ─▶ Seccomp   view      shows to people
//! Mapped    ├▶ ImageSet ─▶ Checkpoint ─▶ Task ─┼▶ Fd ─▶ OpenFile      check     finds faults
//! Tar       │                  │               └▶ Memory              Diff      compares two
//! InMemory  ┘                  └▶ SavedNamespace ─▶ Mounts, Network   edit      makes new images
//!                                                                     json      is crit's text
//!                                                                     CoreDump  is for debuggers
//! ```
//!
//! An [`ImageSet`] owns what has been read; all other values borrow from it. The smallest program
//! prints the process tree:
//!
//! ```
//! use criu_images::ImageSet;
//!
//! let set = ImageSet::open("tests/data/pipeline")?;
//! println!("{}", set.checkpoint()?.tree());
//! # Ok::<(), criu_images::Error>(())
//! ```
//!
//! The next one walks through tasks, their descriptors and their memory:
//!
//! ```
//! # use criu_images::ImageSet;
//! # let set = ImageSet::open("tests/data/pipeline")?;
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
//! | to | use |
//! | --- | --- |
//! | show a checkpoint to people: processes, descriptors, memory, namespaces | [`view`] |
//! | find out whether a set is complete and consistent | [`check()`] |
//! | compare two checkpoints | [`Diff`] |
//! | change paths, addresses, labels or filters, and keep every other byte | [`edit`] |
//! | open a task in a debugger | [`CoreDump`] |
//! | read the statistics of a run | [`DumpStats`], [`RestoreStats`] |
//! | read single images and their bytes | [`kind`], [`Image`], [`proto`], [`memory::Pagemap`] |
//! | give a checkpoint to a stranger | [`anonymise`] |
//! | write an image | [`ImageWriter`], [`memory::PagemapWriter`] |
//! | know which pages a restore touches first | [`working_set`] |
//!
//! A set comes from a [directory](source::Directory), from [memory](source::InMemory), or from any
//! other [`Source`](source::Source).
//!
//! # Features
//!
//! No feature is on by default.
//!
//! | feature | adds |
//! | --- | --- |
//! | `json` | images as crit's JSON, and back |
//! | `search` | searches through memory: literal bytes, bytes with gaps, regular expressions |
//! | `serde` | serialization of views and differences |
//!
//! # Trust
//!
//! Images may come from anywhere. Whatever their bytes are, reading ends in a result or in an
//! [`Error`] with its place, never in a panic. The memory used is in proportion to the size of the
//! files read, each of which has [a limit](bounds). No file outside the set's directory is read,
//! except through the directory's `parent` link, which may lead anywhere. A
//! [`Source`](source::Source) of your own in front of the [directory](source::Directory) can refuse
//! to follow the link. Claims of an image may still be false: a path in it is not a file to open.

pub mod anonymise;
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
mod kept;
pub mod kind;
mod limits;
pub mod memory;
pub mod namespaces;
mod old;
pub mod proto;
mod queues;
pub mod requirements;
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
pub mod working_set;
mod writer;

pub use arch::Architecture;
pub use caps::Capabilities;
pub use check::{Finding, Severity, check, check_pages};
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

/// The program in the README, which has to compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
