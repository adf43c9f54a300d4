//! System calls, files of /proc, and memory that others share or that CRIU owns. Beside `calls`,
//! `descriptor` and `inject::trace`, the unsafe code of the plugin is here.
//!
//! ```text
//! errno     numbers of errors
//! raw       system calls as instructions
//! path      paths of files of /proc
//! call      files of /proc and the status of other processes, by such calls
//! lines     the lines of a file
//! proc      facts of /proc
//! shared    the environment of CRIU, and memory that it shares with criu-rs
//! file      facts about files
//! task      facts about a stopped thread
//! pagemap   the kernel's scan of pages
//! got       the slots through which a program calls a function
//! ```

#[cfg(target_arch = "x86_64")]
pub(crate) mod call;
pub(crate) mod errno;
#[cfg(target_arch = "x86_64")]
pub(crate) mod file;
#[cfg(target_arch = "x86_64")]
pub(crate) mod got;
#[cfg(target_arch = "x86_64")]
pub(crate) mod lines;
#[cfg(target_arch = "x86_64")]
pub(crate) mod pagemap;
#[cfg(target_arch = "x86_64")]
pub(crate) mod path;
#[cfg(target_arch = "x86_64")]
pub(crate) mod proc;
#[cfg(target_arch = "x86_64")]
pub(crate) mod raw;
pub(crate) mod shared;
#[cfg(target_arch = "x86_64")]
pub(crate) mod task;
