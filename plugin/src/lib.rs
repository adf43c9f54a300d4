//! A plugin for CRIU that holds the memory of tasks while they run on.
//!
//! ```text
//! descriptor  the symbol by which CRIU finds the plugin
//! calls       functions that CRIU calls in place of those of the C library
//! hooks       CRIU's calls, and the dump that they belong to
//! session     one dump: what is ready, which tasks are forked, what becomes of their holders
//! scan        the answers to CRIU's scans of pagemaps
//! children    the lists of children that CRIU reads, without holders of an earlier dump
//! flags       the flags of mappings that were read before the freeze
//! watch       which task a pagemap is of, and what its holder has
//! mappings    the mappings of a holder, and which of them are special
//! inject      forks a stopped task, parks the child, and removes it again
//! sys         system calls, files of /proc, memory that others share, the slots of a program
//! journal     what criu-rs and the plugin tell each other, in memory that both map
//! ```
//!
//! The plugin works on x86-64. Elsewhere it says that it does not.

#[cfg(target_arch = "x86_64")]
mod calls;
#[cfg(target_arch = "x86_64")]
mod children;
#[cfg(target_arch = "x86_64")]
mod flags;
#[cfg(target_arch = "x86_64")]
mod mappings;
#[cfg(target_arch = "x86_64")]
mod scan;
#[cfg(target_arch = "x86_64")]
mod session;
#[cfg(target_arch = "x86_64")]
mod watch;

pub mod descriptor;
mod hooks;
pub mod inject;
pub mod journal;
#[cfg(not(target_arch = "x86_64"))]
#[path = "other.rs"]
mod session;
mod sys;

#[cfg(all(test, target_arch = "x86_64"))]
#[allow(dead_code, reason = "elsewhere this is the session")]
mod other;
