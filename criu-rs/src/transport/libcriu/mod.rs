//! libcriu in the place of a socket: a thread takes requests as criu does, and passes them to
//! libcriu's functions.
//!
//! ```text
//! Driver ◀── packets ──▶ this thread ── criu_local_*() ──▶ libcriu ◀──▶ criu swrk
//! ```
//!
//! libcriu keeps the options of an operation in an object, and calls back in the thread that asked.
//! Operations in several threads share two things: a number that says why the last of them failed,
//! and one place for the master of an orphaned terminal. Restores that want such a master wait for
//! each other.

mod bridge;
mod library;
#[cfg(feature = "libcriu-link")]
mod linked;
mod options;
mod refusal;
mod served;

pub(crate) use library::Library;
pub(crate) use served::Served;
