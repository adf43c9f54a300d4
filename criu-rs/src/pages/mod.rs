//! Pages over a socket: a server that receives the memory of dumps and serves that of checkpoints, and a
//! client that sends it.
//!
//! ```text
//! criu dump --page-server ──▶                ┌─▶ pagemap-*.img, pages-*.img
//!                     Client ──▶   Server  ──┤
//!        criu lazy-pages ◀────               └── images of a checkpoint
//! ```
//!
//! The protocol is CRIU's, of every generation: a server recognises which of the two headers a client speaks.
//! With the feature `tls` each of the three speaks TLS, with CRIU or with each other: both ends show a certificate of
//! one authority ([`Tls`](crate::Tls)). It takes TLS 1.2 and 1.3; X.509 certificates of version 1 are refused, and
//! only the authority that is given is trusted, never the system's.
//!
//! [`PageSession`] is the protocol without a socket, [`Store`] a directory that pages come into.

mod capture;
mod client;
mod deadline;
mod drive;
mod error;
mod limits;
mod metrics;
mod page_size;
#[cfg(feature = "tls")]
mod peer;
mod pool;
pub mod proto;
mod receive;
mod relay;
mod serve;
mod server;
mod session;
mod socket;
mod store;
#[cfg(feature = "tls")]
mod tls;

pub use capture::{Capture, Writing};
pub use client::{Client, Sent};
pub use drive::{PageReceiver, drive};
pub use error::PagesError;
pub use limits::ServerLimits;
pub use metrics::Metrics;
pub use page_size::page_size;
pub use pool::Pool;
pub use proto::{Command, Header, Layout};
pub use receive::Received;
pub use relay::Relay;
pub use server::{Handle, Listening, Server, SessionReport};
pub use session::{PageProtocolError, PageSession, PageStep};
pub use socket::Socket;
pub use store::Store;
