//! The options of CRIU's RPC: one row an option, and the versions that have it.

mod common;
mod configured;
mod fields;
mod files;
mod gates;
mod info;
mod limits;
mod needed;
mod opts;
mod rows;
mod table;

pub(crate) use common::{ByFile, Common};
pub use info::OptionInfo;
pub(crate) use limits::RunLimits;
pub(crate) use needed::Needed;
pub(crate) use opts::{Filled, Opts};
pub(crate) use rows::option_rows;
pub use table::OPTIONS;
