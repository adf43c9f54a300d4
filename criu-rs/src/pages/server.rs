//! The page server that stores: receives the memory of dumps.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::{fmt, fs, io};

use super::error::PagesError;
use super::folder::Folder;
use super::front::{Front, front_methods};
use super::limits::ServerLimits;
use super::listening::{Listening, Role};
use super::metrics::Counters;
use super::pool::Pool;
use super::proto::Layout;
use super::receive::{Received, keep_connection, store_connection};
use super::shortage::Shortage;
use super::socket::Socket;
use super::store::Store;
#[cfg(feature = "tls")]
use super::tls::Acceptor;
#[cfg(feature = "tls")]
use crate::value::Tls;

/// A page server that receives the memory of dumps, from many clients at once, of every CRIU.
///
/// The server stores the pages of each session in a directory, of its own or common to all. It
/// sends no pages and replaces no file: a [`Provider`](super::Provider) serves the pages of a
/// checkpoint.
///
/// ```no_run
/// use criu_rs::pages::Server;
///
/// let server = Server::new().directory("/ckpt").listen("127.0.0.1:0".parse()?)?;
/// println!("criu dump --page-server --address 127.0.0.1 --port {}", server.port());
/// for report in server.run(Some(1))? {
///     println!("{report}");
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "a server does nothing until it listens or runs a session"]
pub struct Server {
    front: Front,
    place: Place,
    auto_dedup: bool,
    durable: bool,
    others_read: bool,
    pools: Arc<Mutex<Vec<Pool>>>,
}

/// The place that pages go to.
#[derive(Clone, Default)]
enum Place {
    /// No place yet: every session fails.
    #[default]
    None,
    /// The directory for all sessions.
    One(PathBuf),
    /// The directory for each session, counted from 0.
    Each(Arc<dyn Fn(u64) -> PathBuf + Send + Sync>),
}

impl Server {
    /// A server that has no directory yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Stores the pages of all sessions in one directory.
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.place = Place::One(directory.into());
        self
    }

    /// Stores the pages of each session, counted from 0, in a directory of its own. The server
    /// makes a directory that does not exist, of mode 0700, or 0755 less the umask with
    /// [`others_read`](Self::others_read), and removes it if the session fails. A session whose
    /// directory is a link, or belongs to another user, fails.
    pub fn directories(
        mut self,
        directory: impl Fn(u64) -> PathBuf + Send + Sync + 'static,
    ) -> Self {
        self.place = Place::Each(Arc::new(directory));
        self
    }

    /// Frees the space that pages take in the parent sets when a session sends them anew.
    pub fn auto_dedup(mut self, on: bool) -> Self {
        self.auto_dedup = on;
        self
    }

    /// Answers the end of a session only when everything is on disk (fsync(2)).
    pub fn durable(mut self, on: bool) -> Self {
        self.durable = on;
        self
    }

    /// Lets others read the files: they get CRIU's own mode 0644, less the umask, and not 0600.
    ///
    /// The restore of a tree in a user namespace of its own reads the images as a user of that
    /// namespace, and fails without this. Keep the directory above closed to others.
    pub fn others_read(mut self, on: bool) -> Self {
        self.others_read = on;
        self
    }

    /// Adds memory for one session at a time. The server answers the end of such a session when the
    /// pages are in memory, and writes them afterwards.
    ///
    /// The tasks of a dump are frozen for less time. If the disk fails, the dump does not learn of
    /// it; the session's report does. Pages that do not fit into the pool are written at once. A
    /// session does without a pool if none is free, and in a server that is
    /// [durable](Self::durable).
    pub fn pool(self, pool: Pool) -> Self {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner).push(pool);
        self
    }

    front_methods!();
}

impl Role for Server {
    fn directory(&self, number: u64) -> Option<PathBuf> {
        match &self.place {
            Place::None => None,
            Place::One(directory) => Some(directory.clone()),
            Place::Each(directory) => Some(directory(number)),
        }
    }

    fn session(
        &self,
        socket: &mut Socket,
        directory: Option<&Path>,
        counters: &Counters,
        report: &mut Received,
    ) -> Result<(), PagesError> {
        let directory = directory.ok_or(PagesError::NoDirectory)?;
        let shortage = Shortage::within(&self.front.limits);
        let Place::Each(_) = &self.place else {
            let store = shortage.repeat(|| Store::open(directory))?;
            return self.store(store.patient(shortage), socket, counters, report);
        };
        let made = Folder::make(directory, if self.others_read { 0o755 } else { 0o700 })?;
        let store = shortage.repeat(|| Store::open_own(directory));
        let stored =
            store.and_then(|store| self.store(store.patient(shortage), socket, counters, report));
        if made && stored.is_err() {
            // Sessions that fail leave no empty directories.
            let _ = fs::remove_dir(directory);
        }
        stored
    }
}

impl Server {
    /// Runs a session that stores.
    fn store(
        &self,
        store: Store,
        socket: &mut Socket,
        counters: &Counters,
        report: &mut Received,
    ) -> Result<(), PagesError> {
        let Front { layout, limits, .. } = &self.front;
        let store = store.auto_dedup(self.auto_dedup).durable(self.durable);
        let mut store = store.others_read(self.others_read);
        let pools = || self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        let pool = if self.durable { None } else { pools().pop() };
        let Some(mut pool) = pool else {
            return store_connection(socket, &mut store, *layout, limits, counters, report);
        };
        let memory = &mut pool.0;
        let kept = keep_connection(socket, &mut store, memory, *layout, limits, counters, report);
        let written = kept.and_then(|parts| {
            socket.finish();
            parts.iter().try_for_each(|part| store.write(part, memory, |_| {}))?;
            store.finish()
        });
        pools().push(pool);
        written
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::One(directory) => f.debug_tuple("One").field(directory).finish(),
            Self::Each(_) => f.write_str("Each"),
        }
    }
}
