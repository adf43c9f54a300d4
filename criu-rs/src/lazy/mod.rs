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

mod buffer;
mod error;
mod fetcher;
mod handler;
mod images;
mod link;
mod options;
mod remote;
mod snapshot;
mod statistics;
mod supply;

pub use error::LazyError;
pub use handler::{Handler, Restoration};
pub use images::Images;
pub use options::{Fill, LazyOptions, OnLoss};
pub use remote::{Remote, RemotePages};
pub use snapshot::{LazyTask, Snapshot};
pub use statistics::{LazyProgress, LazyStatistics, Percentiles};
pub use supply::{Pages, Reader, Supply, Urgency, Wanted};
