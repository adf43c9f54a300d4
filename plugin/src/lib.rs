//! A plugin for CRIU that holds the memory of tasks while they run on.
//!
//! ```text
//! journal    what criu-rs and the plugin tell each other, in memory that both map
//! ```

pub mod journal;
