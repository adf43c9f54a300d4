//! The page server: listens, and gives each connection a thread.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::{fmt, fs, io};

use criu_images::memory::PageSet;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::error::PagesError;
use super::limits::ServerLimits;
use super::metrics::{Counters, Metrics};
use super::page_size::page_size;
use super::pool::Pool;
use super::proto::Layout;
use super::receive::{Received, keep_connection, serve_connection};
use super::socket::{Plain, Socket};
use super::store::Store;
#[cfg(feature = "tls")]
use super::tls::Acceptor;
#[cfg(feature = "tls")]
use crate::value::Tls;

/// A page server for many clients at once, of every CRIU.
///
/// The server stores the pages of each session in a directory, of its own or common to all, and
/// serves the pages of a checkpoint to any number of clients.
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
    place: Place,
    source: Option<PathBuf>,
    layout: Option<Layout>,
    auto_dedup: bool,
    durable: bool,
    exposed: bool,
    limits: ServerLimits,
    pools: Arc<Mutex<Vec<Pool>>>,
    #[cfg(feature = "tls")]
    tls: Option<Acceptor>,
}

/// The place that pages go to.
#[derive(Clone, Default)]
enum Place {
    /// No place: the server only serves pages.
    #[default]
    None,
    /// The directory for all sessions.
    One(PathBuf),
    /// The directory for each session, counted from 0.
    Each(Arc<dyn Fn(u64) -> PathBuf + Send + Sync>),
}

/// A page server that listens.
///
/// [`run`](Self::run) accepts connections.
#[derive(Debug)]
#[must_use = "the server accepts no connections until it runs"]
pub struct Listening {
    server: Server,
    listener: Listener,
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug)]
enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A handle that stops a running server and reads its metrics. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    counters: Counters,
    /// The open connections, by number.
    open: Mutex<Vec<(u64, Plain)>>,
    /// The event that wakes the accepting thread.
    wake: EventFd,
}

/// The report of a session that has ended.
#[derive(Debug)]
#[non_exhaustive]
pub struct SessionReport {
    /// The number of the session, counted from 0.
    pub number: u64,
    /// The client: its address, for TCP.
    pub peer: String,
    /// The directory in which the pages of the session were stored.
    pub directory: Option<PathBuf>,
    /// The numbers of what was received, or the error that ended the session.
    pub result: Result<Received, PagesError>,
    /// The numbers of what was received, also until an error.
    pub received: Received,
}

impl Server {
    /// A server that neither receives nor serves pages yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Stores the pages of all sessions in one directory.
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.place = Place::One(directory.into());
        self
    }

    /// Stores the pages of each session, counted from 0, in a directory of its own. The server
    /// makes a directory that does not exist.
    pub fn directories(
        mut self,
        directory: impl Fn(u64) -> PathBuf + Send + Sync + 'static,
    ) -> Self {
        self.place = Place::Each(Arc::new(directory));
        self
    }

    /// Serves the pages of the set in a directory, and of its parent sets, to clients that ask.
    pub fn serve(mut self, directory: impl Into<PathBuf>) -> Self {
        self.source = Some(directory.into());
        self
    }

    /// Expects one layout of all clients, instead of recognising it.
    pub fn layout(mut self, layout: Layout) -> Self {
        self.layout = Some(layout);
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

    /// Adds memory for one session at a time. The server answers the end of such a session when the
    /// pages are in memory, and writes them afterwards.
    ///
    /// The tasks of a dump are frozen for less time. If the disk fails, the dump does not learn of
    /// it; the session's report does. Pages that do not fit into the pool are written at once. A
    /// session does without a pool if none is free, and in a server that is
    /// [durable](Self::durable) or that [serves](Self::serve).
    pub fn pool(self, pool: Pool) -> Self {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner).push(pool);
        self
    }

    /// Allows an address that other machines can reach. Everybody who can connect can write pages,
    /// and read the served ones.
    pub fn exposed(mut self, on: bool) -> Self {
        self.exposed = on;
        self
    }

    /// Speaks TLS. A client's certificate has to be for `name`, unless
    /// [any name](crate::Tls::any_name) is accepted.
    ///
    /// CRIU uses the address of the server as the name at both ends. A name that every client's
    /// certificate has works as well.
    ///
    /// # Errors
    /// [`PagesError`] if a file cannot be used.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: &Tls, name: &str) -> Result<Self, PagesError> {
        self.tls = Some(Acceptor::new(tls, name)?);
        Ok(self)
    }

    /// Sets the limits for clients.
    pub fn limits(mut self, limits: ServerLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Listens on a TCP address. With port 0 the kernel chooses the port.
    ///
    /// # Errors
    /// The errors of bind(2). `PermissionDenied` if the address is not a loopback one and the
    /// server neither speaks TLS nor is [exposed](Self::exposed).
    pub fn listen(self, address: SocketAddr) -> io::Result<Listening> {
        if !address.ip().is_loopback() && !self.exposed && !self.knows_clients() {
            let why = "other machines can reach this address, and clients need no certificate";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        }
        let listener = TcpListener::bind(address)?;
        let port = listener.local_addr()?.port();
        self.begin(Listener::Tcp(listener), port)
    }

    /// Listens on a unix socket at a path.
    ///
    /// # Errors
    /// The errors of bind(2).
    pub fn listen_unix(self, path: impl AsRef<Path>) -> io::Result<Listening> {
        self.begin(Listener::Unix(UnixListener::bind(path)?), 0)
    }

    /// Uses a socket that already listens, on any address.
    ///
    /// # Errors
    /// The errors of setting up the socket.
    pub fn listen_on(self, listener: TcpListener) -> io::Result<Listening> {
        let port = listener.local_addr()?.port();
        self.begin(Listener::Tcp(listener), port)
    }

    /// Returns `true` if clients have to show a certificate.
    fn knows_clients(&self) -> bool {
        #[cfg(feature = "tls")]
        return self.tls.is_some();
        #[cfg(not(feature = "tls"))]
        false
    }

    fn begin(self, listener: Listener, port: u16) -> io::Result<Listening> {
        match &listener {
            Listener::Tcp(tcp) => tcp.set_nonblocking(true)?,
            Listener::Unix(unix) => unix.set_nonblocking(true)?,
        }
        let shared = Shared {
            counters: Counters::default(),
            open: Mutex::default(),
            wake: EventFd::from_flags(EfdFlags::EFD_CLOEXEC)?,
        };
        Ok(Listening { server: self, listener, port, shared: Arc::new(shared) })
    }

    /// Runs one session over a connected socket.
    ///
    /// # Errors
    /// [`PagesError`], as in a session's report.
    pub fn session(&self, socket: Socket) -> Result<Received, PagesError> {
        self.take(0, socket, &Counters::default()).result
    }

    fn take(&self, number: u64, mut socket: Socket, counters: &Counters) -> SessionReport {
        let peer = socket.to_string();
        let directory = match &self.place {
            Place::None => None,
            Place::One(directory) => Some(directory.clone()),
            Place::Each(directory) => Some(directory(number)),
        };
        let mut received = Received::default();
        let result = self.receive(directory.as_deref(), &mut socket, counters, &mut received);
        // The peer sees the end now, not when the last copy of the socket is closed.
        socket.shutdown();
        let counter = if result.is_ok() { &counters.done } else { &counters.failed };
        counter.fetch_add(1, Ordering::Relaxed);
        let result = result.map(|()| received);
        SessionReport { number, peer, directory, result, received }
    }

    fn receive(
        &self,
        directory: Option<&Path>,
        socket: &mut Socket,
        counters: &Counters,
        report: &mut Received,
    ) -> Result<(), PagesError> {
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            tls.accept(socket, self.limits.idle)?;
        }
        if let (Place::Each(_), Some(directory)) = (&self.place, directory) {
            fs::create_dir_all(directory).map_err(PagesError::file(directory))?;
        }
        let open = |directory| -> Result<Store, PagesError> {
            let store = Store::open(directory)?;
            Ok(store.auto_dedup(self.auto_dedup).durable(self.durable))
        };
        let mut store = directory.map(open).transpose()?;
        let open = |directory: &PathBuf| PageSet::open(directory, page_size());
        let source = self.source.as_ref().map(open).transpose()?;
        let (layout, limits) = (self.layout, &self.limits);
        let pools = || self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(store), None, false) = (&mut store, &source, self.durable) {
            let pool = pools().pop();
            if let Some(mut pool) = pool {
                let memory = &mut pool.0;
                let kept = keep_connection(socket, store, memory, layout, limits, counters, report);
                let written = kept.and_then(|parts| {
                    socket.finish();
                    parts.iter().try_for_each(|part| store.write(part, memory, |_| {}))?;
                    store.finish()
                });
                pools().push(pool);
                return written;
            }
        }
        let (store, source) = (store.as_mut(), source.as_ref());
        serve_connection(socket, store, source, layout, limits, counters, report)
    }
}

impl Listening {
    /// Returns the TCP port; 0 for a unix socket.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the TCP socket, which goes on listening.
    ///
    /// # Errors
    /// `Unsupported` for a unix socket.
    pub fn into_listener(self) -> io::Result<TcpListener> {
        match self.listener {
            Listener::Tcp(tcp) => Ok(tcp),
            Listener::Unix(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Returns a handle that stops the server and reads its metrics.
    pub fn handle(&self) -> Handle {
        Handle(Arc::clone(&self.shared))
    }

    /// Runs so many sessions; with `None`, until the server is stopped. Returns their reports in
    /// the order in which the sessions ended.
    ///
    /// # Errors
    /// The errors of accepting connections. The error of a session is in its report.
    pub fn run(self, sessions: Option<u64>) -> io::Result<Vec<SessionReport>> {
        let mut reports = Vec::new();
        self.run_with(sessions, |report| reports.push(report))?;
        Ok(reports)
    }

    /// Runs sessions as [`run`](Self::run) does, and calls `ended` at the end of each.
    ///
    /// # Errors
    /// The errors of [`run`](Self::run).
    pub fn run_with(
        self,
        sessions: Option<u64>,
        mut ended: impl FnMut(SessionReport),
    ) -> io::Result<()> {
        let Self { server, listener, shared, .. } = self;
        let (server, most) = (Arc::new(server), sessions.unwrap_or(u64::MAX));
        let (sender, reports) = mpsc::channel();
        let mut running: HashMap<u64, JoinHandle<()>> = HashMap::new();
        // A thread that has sent its report has nothing left to do. It is waited for, so that it
        // has ended when this function returns.
        let mut end = |running: &mut HashMap<u64, JoinHandle<()>>, report: SessionReport| {
            if let Some(thread) = running.remove(&report.number) {
                let _ = thread.join();
            }
            ended(report);
        };
        let mut begun = 0;
        while begun < most && !shared.counters.finishing.load(Ordering::SeqCst) {
            while !running.is_empty() {
                let room = running.len() < server.limits.connections.max(1);
                let report = if room { reports.try_recv().ok() } else { reports.recv().ok() };
                let Some(report) = report else { break };
                end(&mut running, report);
            }
            let Some(socket) = listener.accept(&shared)? else {
                continue;
            };
            let number = begun;
            begun += 1;
            let (server, shared, sender) =
                (Arc::clone(&server), Arc::clone(&shared), sender.clone());
            let kept = socket.plain()?;
            shared.lock().push((number, kept));
            // This connection came while the others were being ended.
            if shared.counters.stopping.load(Ordering::SeqCst) {
                socket.shutdown();
            }
            let session = thread::Builder::new().name(format!("pages {number}"));
            let session = session.spawn(move || {
                let report = server.take(number, socket, &shared.counters);
                shared.lock().retain(|(open, _)| *open != number);
                let _ = sender.send(report);
                shared.wake();
            })?;
            running.insert(number, session);
        }
        // The threads have the other senders: when they have ended, no more reports come.
        drop(sender);
        while !running.is_empty() {
            let Ok(report) = reports.recv() else { break };
            end(&mut running, report);
        }
        Ok(())
    }
}

impl Listener {
    /// Returns the next connection, or `None` when the server is woken.
    fn accept(&self, shared: &Shared) -> io::Result<Option<Socket>> {
        let own = match self {
            Self::Tcp(tcp) => tcp.as_fd(),
            Self::Unix(unix) => unix.as_fd(),
        };
        let mut fds = [
            PollFd::new(own, PollFlags::POLLIN),
            PollFd::new(shared.wake.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let woken = fds[1].any().unwrap_or(false);
        if woken {
            let _ = shared.wake.read();
        }
        let accepted = match self {
            Self::Tcp(tcp) => tcp.accept().map(|(socket, _)| socket.into()),
            Self::Unix(unix) => unix.accept().map(|(socket, _)| socket.into()),
        };
        match accepted {
            Ok(socket) => Ok(Some(socket)),
            Err(error) if is_passing(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Returns `true` for the error of a connection, and `false` for that of the listening socket.
fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, WouldBlock};
    matches!(error.kind(), WouldBlock | Interrupted | ConnectionAborted | ConnectionReset)
}

impl Handle {
    /// Stops the server: it accepts no more connections and ends the open ones.
    pub fn stop(&self) {
        self.0.counters.stopping.store(true, Ordering::SeqCst);
        self.0.counters.finishing.store(true, Ordering::SeqCst);
        for (_, socket) in self.0.lock().iter() {
            socket.shutdown();
        }
        self.0.wake();
    }

    /// Lets the server finish: it accepts no more connections, and the open ones go on.
    pub fn finish(&self) {
        self.0.counters.finishing.store(true, Ordering::SeqCst);
        self.0.wake();
    }

    /// Returns the server's counters.
    pub fn metrics(&self) -> Metrics {
        let Counters { bytes, pages, holes, served, done, failed, .. } = &self.0.counters;
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Metrics {
            bytes: load(bytes),
            pages: load(pages),
            holes: load(holes),
            served: load(served),
            done: load(done),
            failed: load(failed),
            open: self.0.lock().len(),
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Vec<(u64, Plain)>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        let _ = self.wake.write(1);
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

impl fmt::Display for SessionReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.result {
            Ok(received) => write!(f, "{}: {received}", self.peer),
            Err(error) => write!(f, "{}: {error}", self.peer),
        }
    }
}
