//! Archives written and read in every packing.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::cast_possible_truncation, reason = "numbers of tests are small")]

mod damage;
mod forward;
pub(super) mod made;
mod seekable;
