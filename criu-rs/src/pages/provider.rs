//! The page server that serves: sends the pages of a checkpoint to clients that ask.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use criu_images::memory::PageSet;

use super::error::PagesError;
use super::front::{Front, front_methods};
use super::limits::ServerLimits;
use super::listening::{Listening, Role};
use super::metrics::Counters;
use super::page_size::page_size;
use super::proto::Layout;
use super::receive::Received;
use super::serve::serve_connection;
use super::shortage::Shortage;
use super::socket::Socket;
#[cfg(feature = "tls")]
use super::tls::Acceptor;
#[cfg(feature = "tls")]
use crate::value::Tls;

/// A page server that serves the pages of a checkpoint, to many clients at once, of every CRIU.
///
/// The server only reads: a client that wants to store pages is refused
/// ([`PagesError::OnlyServes`]). A [`Server`](super::Server) stores.
///
/// ```no_run
/// use criu_rs::pages::Provider;
///
/// let provider = Provider::new("/ckpt").listen("127.0.0.1:0".parse()?)?;
/// println!("criu lazy-pages --page-server --address 127.0.0.1 --port {}", provider.port());
/// for report in provider.run(Some(1))? {
///     println!("{report}");
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a provider does nothing until it listens or runs a session"]
pub struct Provider {
    front: Front,
    source: PathBuf,
}

impl Provider {
    /// A server of the pages of the set in a directory, and of its parent sets.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { front: Front::default(), source: directory.into() }
    }

    front_methods!();
}

impl Role for Provider {
    fn directory(&self, _: u64) -> Option<PathBuf> {
        None
    }

    fn is_urgent(&self) -> bool {
        true
    }

    fn session(
        &self,
        socket: &mut Socket,
        _: Option<&Path>,
        counters: &Counters,
        report: &mut Received,
    ) -> Result<(), PagesError> {
        let Front { layout, limits, .. } = &self.front;
        let open = || Ok(PageSet::open(&self.source, page_size())?);
        let set = Shortage::within(limits).repeat(open)?;
        serve_connection(socket, &set, *layout, limits, counters, report)
    }
}
