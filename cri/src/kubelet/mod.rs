//! Checkpoints through a kubelet: `POST /checkpoint/NAMESPACE/POD/CONTAINER`.
//!
//! ```no_run
//! use criu_cri::kubelet::{Access, Endpoint, Kubelet};
//!
//! let mut access = Access::default();
//! access.trust_file("/etc/kubernetes/pki/ca.crt");
//! access.certificate_files("admin.crt", "admin.key");
//! let kubelet = Kubelet::new(Endpoint::kubelet("node-1:10250")?, access);
//! let container = "default/web/app".parse()?;
//! // Asks without effect: reachable, trusted, authorised, and the container is there.
//! kubelet.check(&container)?;
//! let saved = kubelet.checkpoint(&container, None)?;
//! println!("{} on the node", saved.path.display());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! All calls wait for the answer, and a call from within an asynchronous runtime panics: wrap it
//! in `spawn_blocking`. Files with credentials are read anew for each request.
//!
//! The right that a kubelet asks for is the verb `create` on `nodes/checkpoint`. Through the API
//! server the caller needs `create` on `nodes/proxy`, which allows everything else that a kubelet
//! does, too.
//!
//! # Trust
//!
//! The server shows a certificate of the authorities in [`Access`], and credentials go to no other
//! server. [`Access::trust_anybody`] leaves this out, for nodes whose certificate nobody has
//! signed. Redirects are not followed, and proxies are not used. An answer has at most 64 KiB. A
//! connection is made in 15 seconds; an answer may take the time-out of the checkpoint, 2 minutes
//! at least, and a minute more.
//!
//! [`retention`] deletes old checkpoints from the directory of a node.

mod access;
mod answer;
mod client;
mod container;
mod endpoint;
mod error;
mod http;
mod kubeconfig;
mod local;
pub mod retention;
mod text;
mod tls;
mod validity;
mod verifier;
mod yaml;

pub use access::{Access, Source};
pub use client::{Kubelet, Saved};
pub use container::{Container, InvalidContainer};
pub use endpoint::{Endpoint, InvalidEndpoint};
pub use error::{Error, ErrorKind, Party, Result};
pub use kubeconfig::{Cluster, Kubeconfig};
pub use local::Local;
