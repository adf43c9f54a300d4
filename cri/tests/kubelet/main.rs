//! A client of kubelets against an HTTPS server that answers as a kubelet does. No kubelet runs
//! here: the answers are those of its source.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod config;
mod hostile;
mod node;
mod retention;
mod table;
mod trust;
