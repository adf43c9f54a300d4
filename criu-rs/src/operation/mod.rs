//! The operations: values that hold options and start a criu.

#[cfg(feature = "pages")]
mod capture;
mod check;
mod copy_notice;
mod cpuinfo;
mod dedup;
mod dump;
mod holders;
mod kept_open;
pub(crate) mod labels;
#[cfg(feature = "lazy")]
mod lazy;
mod locks;
mod methods;
mod page_server;
mod places;
mod pre_dump;
mod prepared;
pub(crate) mod readable;
mod restore;
mod saved_pages;
mod scratch;
mod session;

#[cfg(feature = "pages")]
pub use capture::Captured;
pub use check::Check;
pub use cpuinfo::CpuInfo;
pub use dump::{Dump, Dumped};
#[cfg(feature = "instant")]
pub(crate) use holders::{Hidden, refuse_holders};
pub use kept_open::KeptOpen;
#[cfg(feature = "lazy")]
pub use lazy::LazyRestore;
pub use page_server::{PageServer, RunningPageServer};
pub use pre_dump::{PreDump, PreDumpSession};
pub use restore::{Parent, Restore, Restored};
pub(crate) use scratch::Scratch;
pub use session::Session;
