//! Checkpoints of pods for Kubernetes.

pub mod client;
pub mod coordinator;
pub mod engine;
mod error;
mod hold;
pub mod kubelet;
pub mod pod;
pub mod proto;
pub mod proxy;

pub use error::{Code, Error, ErrorKind, Result};

/// The program in the README, which has to compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
