//! A plugin for CRIU that holds the memory of tasks while they run on.
//!
//! ```text
//! inject     forks a stopped task, parks the child, and removes it again
//! journal    what criu-rs and the plugin tell each other, in memory that both map
//! ```

pub mod inject;
pub mod journal;
