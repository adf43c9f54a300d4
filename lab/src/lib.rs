//! Processes, payloads, sandboxes, certificates and a harness, for the tests of all crates.
//!
//! A test program of this workspace is several programs. Without a word of ours it is the
//! [`harness`], which lists and runs tests. Started by itself with another word it is one test in
//! a process of its own, the [`payload`] that this test dumps, or process 1 of a [`sandbox`].
//!
//! The crate knows processes and files, not the library under test: a process id has the type that
//! a suite gives it ([`ProcessId`]), and a suite says how it asks a CRIU for its version
//! ([`place::crius`]).

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

pub mod advice;
#[cfg(feature = "certs")]
pub mod certs;
pub mod cgroups;
#[cfg(feature = "containers")]
pub mod checkpoints;
#[cfg(feature = "containers")]
pub mod containers;
pub mod copy;
mod counter;
#[cfg(feature = "engines")]
pub mod engines;
pub mod filter;
pub mod generations;
pub mod harness;
#[cfg(feature = "https")]
pub mod https;
pub mod lazy;
pub mod memory;
pub mod mounts;
mod network;
pub mod oracle;
pub mod orders;
pub mod payload;
pub mod place;
pub mod process;
pub mod raw;
pub mod registry;
pub mod rootfs;
pub mod sandbox;
mod service;
#[cfg(feature = "containers")]
mod talk;
mod target;
mod terminal;
pub mod uffd;
mod wait;

pub use network::own_network;
pub use place::{in_own_process, names, needs_root, scratch};
pub use process::ProcessId;
pub use service::Service;
pub use target::Target;
pub use terminal::{Terminal, own_terminals};
pub use wait::{soon, within};
