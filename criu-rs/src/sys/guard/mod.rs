//! Small processes that outlive this one, and act when it is killed.
//!
//! ```text
//! this process ── socket: news ─────────────────────▶ guard   descriptors of its own
//!    │                                                  │
//!    └── killed ──── pidfd, end of the socket ─────────▶└── acts, and ends
//! ```
//!
//! The guard of missing pages keeps pages from turning into zeros. The kernel lets missing pages
//! read as zeros when the last copy of a userfaultfd is closed, as it is when a handler is killed.
//! The guard holds copies, and kills the tasks or poisons their missing pages.
//!
//! The guard of holders ends the holders of an instant capture, and has their tasks reap them.
//!
//! A guard is a fork that executes no program, because a library has none. It makes system calls
//! only: it allocates nothing, takes no lock, and unmaps the memory of this process that it does
//! not need. It leads a session of its own and blocks all signals, so that Ctrl-C and a signal to a
//! process group do not reach it. Its end sends no signal to this process, and no `wait` of the
//! caller sees it.

#![allow(unsafe_code)]

#[cfg(feature = "lazy")]
mod child;
#[cfg(feature = "instant")]
mod holders;
#[cfg(feature = "lazy")]
mod loss;
mod memory;
#[cfg(feature = "lazy")]
mod missing;
mod news;
mod process;
mod settle;
#[cfg(feature = "lazy")]
mod table;
#[cfg(feature = "lazy")]
mod tree;

#[cfg(feature = "instant")]
pub(crate) use holders::HolderGuard;
#[cfg(feature = "lazy")]
pub(crate) use missing::{Fate, GuardProcess, News, RANGES};
