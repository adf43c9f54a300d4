//! The fuzz targets. Each target is a function here, so that seeds and tests can run it too.

pub mod archive;
mod archives;
pub mod bpf;
pub mod core;
pub mod differential;
pub mod edit;
pub mod hostile_client;
pub mod image;
pub mod json;
mod made;
pub mod memory;
pub mod mutate;
pub mod pack;
pub mod page_client;
pub mod page_server;
pub mod record;
pub mod rpc;
pub mod schema;
pub mod seeds;
pub mod set;
pub mod text;
pub mod working_set;
