//! Sources of pages for lazy restores, without CRIU: images of every kind, page servers that are
//! ours, and page servers that lie.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[cfg(feature = "firecracker")]
mod firecracker;
mod images;
mod object;
mod remote;
mod set;
