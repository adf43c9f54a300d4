//! The options of CRIU's RPC, and the versions that have them.

mod gates;
mod table;

pub(crate) use gates::newest;
pub use table::{OPTIONS, OptionInfo};
pub(crate) use table::{Opts, newer_than};
