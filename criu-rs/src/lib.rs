//! Checkpoint and restore Linux processes with CRIU.

pub mod rpc;
