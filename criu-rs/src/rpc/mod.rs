//! The messages of CRIU's RPC.

#[rustfmt::skip]
mod proto;

pub use proto::*;
