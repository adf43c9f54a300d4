//! Explanations of failures: CRIU's log, the known causes, and the search for a cause.

mod cause;
mod failure;
mod find;
mod images;
mod line;
mod log;
mod phrase;
#[cfg(test)]
mod recorded;
mod stopped;

pub use cause::Cause;
#[cfg(test)]
pub(crate) use cause::operations;
pub use failure::{End, Failure};
pub(crate) use find::{Asked, diagnose};
pub(crate) use images::name_from_images;
pub use log::LogExcerpt;
#[cfg(fuzzing)]
pub(crate) use log::excerpt;
pub(crate) use log::{LogPlace, is_harmless};
pub use stopped::{StopMethod, StopReason, Stopped};
