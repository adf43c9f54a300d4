//! System calls, and memory that others share or that CRIU owns. Beside `calls`, `descriptor` and
//! `inject`, the unsafe code of the plugin is here.
//!
//! ```text
//! shared    the environment of CRIU, and memory that it shares with criu-rs
//! file      facts about files
//! task      facts about a stopped thread
//! pagemap   the kernel's scan of pages
//! got       the slots through which a program calls a function
//! ```

#[cfg(target_arch = "x86_64")]
pub(crate) mod file;
#[cfg(target_arch = "x86_64")]
pub(crate) mod got;
#[cfg(target_arch = "x86_64")]
pub(crate) mod pagemap;
pub(crate) mod shared;
#[cfg(target_arch = "x86_64")]
pub(crate) mod task;
