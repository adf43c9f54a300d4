//! Records of checkpoints: written, read, compared and refused.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod engines;
mod fields;
mod form;
mod host;
mod hostile;
mod made;
mod verify;
