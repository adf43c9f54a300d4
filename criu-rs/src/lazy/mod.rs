//! Lazy restore: tasks run at once, and their memory comes when they touch it.
//!
//! A [`Handler`] fills the missing pages of restored tasks from a [`Supply`]: the images of a
//! checkpoint, a page server, or any object that can be read at a position. One handler serves any
//! number of restores of one snapshot.
//!
//! ```text
//!  criu restore --lazy-pages ── lazy-pages.socket ──▶ Handler ──▶ Supply
//!      task ◀── faults, pages ── userfaultfd ────────▶            ├─ images
//!      task ◀── ...                                               ├─ page server
//!                                                                 └─ object
//! ```

mod awake;
mod buffer;
mod daemon;
mod error;
mod fault;
mod fetcher;
mod fill;
#[cfg(feature = "firecracker")]
mod firecracker;
mod first;
mod guard;
mod handle;
mod handler;
mod handover;
mod images;
mod lent;
mod link;
mod missing;
mod object;
mod options;
mod outline;
mod ranges;
mod reception;
mod remote;
mod restoration;
mod seat;
mod shared;
mod snapshot;
mod socket;
mod space;
mod statistics;
mod supply;
mod watcher;
mod working_set;

pub use daemon::{LazyControl, LazyDaemon, LazyEvent, LazyPages, LazyReport};
pub use error::LazyError;
#[cfg(all(fuzzing, feature = "firecracker"))]
pub(crate) use firecracker::guest;
#[cfg(feature = "firecracker")]
pub use firecracker::{FirecrackerGuest, FirecrackerMemory};
pub use handle::LazyHandle;
pub(crate) use handle::Outcome;
pub use handler::Handler;
pub use handover::HandoverError;
#[cfg(fuzzing)]
pub(crate) use handover::{Handover, Step};
pub use images::Images;
pub use object::{Object, ObjectPages, ObjectRun};
pub use options::{Fill, Guarding, LazyOptions, OnLoss};
pub use outline::Outline;
pub use remote::{Remote, RemotePages};
pub use restoration::{Restoration, Touch};
pub use snapshot::{LazyTask, Snapshot};
pub use socket::LazySocket;
pub use statistics::{LazyProgress, LazyStatistics, Percentiles};
pub use supply::{Pages, Reader, Supply, Urgency, Wanted};
pub use working_set::{Prefetch, Recorder};
