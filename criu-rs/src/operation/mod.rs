//! The operations: values that hold options and start a criu.

mod check;
mod cpuinfo;
mod dump;
mod kept_open;
pub(crate) mod labels;
mod page_server;
mod pre_dump;
mod restore;
mod session;

pub use check::Check;
pub(crate) use check::Scratch;
pub use cpuinfo::{CpuCap, CpuInfo};
pub use dump::{AfterDump, Captured, Dump, Dumped};
pub(crate) use dump::{Prepared, read_file};
pub use kept_open::KeptOpen;
pub use page_server::{PageServer, RunningPageServer};
pub use pre_dump::{PreDump, PreDumpSession};
pub use restore::{Parent, Restore, Restored};
pub(crate) use session::Common;
pub use session::Session;
