//! Pages over a socket: a page server and its clients.
//!
//! A [`Server`] receives the memory of dumps, and a [`Provider`] serves the memory of a checkpoint.
//! A [`Client`] sends a checkpoint's memory to a page server, a [`Relay`] sends that of a running
//! dump, and a [`Capture`] keeps a dump's memory here until the tasks run on.
//!
//! ```text
//! criu dump --page-server ──▶
//!                     Client ──▶   Server   ──▶ pagemap-*.img, pages-*.img
//!        criu lazy-pages ◀────    Provider  ◀── images of a checkpoint
//! ```
//!
//! A server writes new files only, and a provider writes none.
//!
//! The protocol is that of every CRIU: a server recognises which of the two headers a client
//! speaks.
//!
//! With the feature `tls`, servers, clients and relays speak TLS 1.2 and 1.3, with CRIU or with
//! each other. Both ends show a certificate of one authority ([`Tls`](crate::Tls)). Only the given
//! authority is trusted, never those of the system. X.509 certificates of version 1 are refused.
//!
//! [`PageSession`] is the protocol without a socket, [`drive`] the loop over it, and [`Store`] a
//! directory that receives pages.

mod budget;
mod capture;
mod client;
#[cfg(feature = "instant")]
pub(crate) mod compare;
mod deadline;
mod dial;
mod drive;
mod error;
mod folder;
mod front;
mod gate;
#[cfg(feature = "instant")]
pub(crate) mod held;
#[cfg(feature = "instant")]
pub(crate) mod laid_out;
mod limits;
mod listener;
mod listening;
mod local_users;
#[cfg(feature = "instant")]
pub(crate) mod merge;
mod metrics;
#[cfg(feature = "instant")]
#[cfg(test)]
mod model;
mod notice;
mod page_size;
mod patience;
mod peer;
#[cfg(feature = "instant")]
mod pieces;
mod pipe;
mod pool;
pub mod proto;
mod provider;
mod receive;
mod reception;
#[cfg(feature = "instant")]
pub(crate) mod recording;
mod relay;
mod report;
mod serve;
mod server;
mod session;
mod shortage;
#[cfg(feature = "instant")]
pub(crate) mod sink;
mod socket;
mod store;
#[cfg(feature = "instant")]
pub(crate) mod tape;
#[cfg(feature = "tls")]
mod tls;
#[cfg(feature = "tls")]
mod verifier;
mod waiting;

pub use capture::{Capture, Writing};
pub use client::{Client, Sent};
pub(crate) use dial::Dial;
pub use drive::{PageReceiver, drive};
pub use error::PagesError;
pub use limits::ServerLimits;
pub use listening::{Handle, Listening};
pub use local_users::LocalUsers;
pub use metrics::Metrics;
pub use notice::Notice;
pub use page_size::page_size;
pub use pool::Pool;
pub use proto::{Command, Header, Layout};
pub use provider::Provider;
pub use receive::Received;
pub use relay::Relay;
pub use report::SessionReport;
pub use server::Server;
pub use session::{PageProtocolError, PageSession, PageStep};
pub use socket::Socket;
pub use store::Store;
