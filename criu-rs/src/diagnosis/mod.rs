//! Failures explained: CRIU's log, the known causes, the search for the one that fits.

mod cause;
mod log;

pub use cause::Cause;
#[cfg(fuzzing)]
pub(crate) use log::excerpt;
pub use log::{LogExcerpt, LogLevel};
pub(crate) use log::{LogPlace, is_harmless, printable};
