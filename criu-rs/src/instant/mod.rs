//! Instant captures: dumps whose memory is read from forked holders, while the tasks run on.
//!
//! The freeze of a plain dump lasts as long as CRIU reads the memory of the tasks. An instant
//! capture has a plugin in CRIU that forks each task while CRIU holds the task stopped. The fork,
//! called the holder, never runs. The holder and the task share all private memory copy-on-write,
//! so the memory of the holder stays as it was at that moment. CRIU saves everything else and lets
//! the tasks go on. Then the memory is read from the holders, and the holders end.
//!
//! ```text
//!   criu-rs                              criu                         task
//!   plan: which tasks get a holder ────▶ plugin: forks the task ────▶ holder
//!   tape  ◀─── the pages that CRIU sees ─┘                              │
//!     └──▶ merge ◀────────── the other pages, while the task runs ──────┘
//!            └──▶ images directory, a page server, or a function, such as one that
//!                 writes an archive
//! ```
//!
//! The images are ordinary: each CRIU restores them, and everything in this crate reads them.
//!
//! ```no_run
//! use criu_rs::instant::InstantOptions;
//! use criu_rs::{AfterDump, Criu, Dump, Pid};
//!
//! let pid: Pid = "4711".parse()?;
//! let dump = Dump::new(pid, "/ckpt").after_dump(AfterDump::LeaveRunning);
//! let capture = dump.instant(&Criu::new(), &InstantOptions::new(), &mut ())?;
//! println!("the tasks run on; they stood still for {:?}", capture.dumped.stats?.frozen);
//! for task in &capture.tasks {
//!     println!("process {}: {}", task.pid, task.way);
//! }
//! let read = capture.reading.wait()?;
//! println!("{} pages of holders are in the images", read.held);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Costs
//!
//! While a holder lives, each page that the task writes is copied first. So the task may need its
//! private memory once more, and the copies count in the task's memory cgroup. Huge pages that are
//! written meanwhile are split, and stay split. Until the capture ends, the holder is a second
//! process with the same command line.
//!
//! # Limits
//!
//! The plugin works on x86-64, in a criu that this process starts. A task that cannot have a holder
//! is captured in the ordinary way: CRIU reads its memory while the tasks stand still.
//! [`TaskCapture`] says which way was taken, and why. A dump that ends its tasks
//! ([`AfterDump::Kill`](crate::AfterDump::Kill)) is such a capture, too.

mod base;
mod budget;
mod delta;
mod error;
mod flags;
mod frames;
mod guard;
mod headroom;
mod held;
mod holder;
mod images;
mod library;
mod memory;
mod options;
mod orphans;
mod outcome;
mod plan;
mod read;
mod rounds;
mod run;
mod series;
mod shared;
mod teardown;

pub use base::SeriesBase;
pub use budget::{Budget, SeriesEnd};
pub use error::InstantError;
#[cfg(feature = "pod")]
pub(crate) use held::Late;
pub use library::find_plugin;
pub use options::{Headroom, InstantOptions};
pub use orphans::{clear_orphans, holders_of};
pub use outcome::{InstantCapture, ReadOut, Reading, TaskCapture, Way, WhyNot};
#[cfg(feature = "pod")]
pub(crate) use read::Agreed;
#[cfg(feature = "pod")]
pub(crate) use run::{Ready, ended, ends_tasks};
pub use series::{InstantSeries, SeriesOptions, WhenEnded};
