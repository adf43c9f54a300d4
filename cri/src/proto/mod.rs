//! Messages of the Kubernetes container runtime interface (CRI), `runtime.v1`.
//!
//! Names, numbers and types are those of Kubernetes 1.37. A message has the fields that this crate
//! reads or writes, and decoding drops the others. [`Kept`] holds the configurations that a kubelet
//! has made, with all their bytes.

mod json;
mod kept;
#[rustfmt::skip]
mod messages;
mod secret;

pub use json::FromJson;
pub use kept::Kept;
pub use messages::*;
