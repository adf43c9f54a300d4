//! libcriu in the place of a socket: a thread that takes requests as criu does, and puts them to libcriu's functions.
//!
//! ```text
//! Driver ◀── packets ──▶ this thread ── criu_local_*() ──▶ libcriu ◀──▶ criu swrk
//! ```
//!
//! libcriu keeps what an operation is told in an object of its own, and calls back in the thread that asked. What
//! operations in several threads share is a number that says why the last one failed, and one place for the master of an
//! orphaned terminal: restores that want one wait for each other.

mod bridge;
mod library;
#[cfg(feature = "libcriu-link")]
mod linked;
mod options;
mod refusal;
mod served;

pub(crate) use library::Library;
pub(crate) use served::Served;
