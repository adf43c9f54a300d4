//! Coordinators and members over real connections, without CRIU.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod hostile;
mod lab;
mod many;
mod tls;
mod together;
