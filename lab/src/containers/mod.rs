//! Containers for tests: bundles, the runtimes that run them, and suites of tests that need both.

mod bed;
mod bundle;
mod payload;
mod runtime;
mod suite;

pub use bed::{Bed, Case};
pub use bundle::{Bundle, seccomp_profile};
pub use runtime::Runtime;
pub use suite::Suite;
