//! Container engines, each as a person starts them: podman and containerd.
//!
//! Engines call runtimes, so they run in a [`Sandbox`](crate::sandbox::Sandbox) only. With the
//! sandbox ends whatever they have started.

mod containerd;
mod cri;
mod grpc;
mod node;
mod outside;
mod podman;
mod proxy;
mod tools;
mod workload;

pub use containerd::{Containerd, ContainerdWanted, PodHandle};
pub use cri::{Container, PodNetwork, State};
pub use grpc::{Caller, Refusal};
pub use node::Node;
pub use outside::{Asked, Outcome, Outside, OutsideEngine, client};
pub use podman::Podman;
pub use proxy::CriProxy;
pub use tools::{Said, Tool, finish};
pub use workload::{WORDS, root_file_system};
