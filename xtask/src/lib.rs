//! The workspace's own commands, as functions that the tests can call too.

pub mod codegen;
