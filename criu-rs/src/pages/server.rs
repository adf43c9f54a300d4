//! The server: listens, and gives each connection a thread.

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

/// A page server of our own. It takes many clients at once, of every CRIU, each into its own directory or all
/// of a session into one; and serves the pages of a checkpoint to any number of them.
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
#[must_use = "it does nothing until it listens or takes a session"]
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

/// Where pages go.
#[derive(Clone, Default)]
enum Place {
    /// Nowhere: they are only served.
    #[default]
    None,
    /// All into one directory.
    One(PathBuf),
    /// Each session, counted from 0, into its own.
    Each(Arc<dyn Fn(u64) -> PathBuf + Send + Sync>),
}

/// A server that listens.
#[derive(Debug)]
#[must_use = "it takes no connection until run is called"]
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

/// Stops a server, and says what it does. To be copied to where it is needed.
#[derive(Clone, Debug)]
pub struct Handle(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    counters: Counters,
    /// The connections that are open.
    open: Mutex<Vec<(u64, Plain)>>,
    /// What wakes the thread that accepts.
    wake: EventFd,
}

/// How a session ended.
#[derive(Debug)]
#[non_exhaustive]
pub struct SessionReport {
    /// Its number, from 0.
    pub number: u64,
    /// Who it was.
    pub peer: String,
    /// Where its pages went.
    pub directory: Option<PathBuf>,
    /// What came of it.
    pub result: Result<Received, PagesError>,
}

impl Server {
    /// One that takes and serves nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts the pages of all sessions into a directory.
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.place = Place::One(directory.into());
        self
    }

    /// Puts the pages of each session, counted from 0, into a directory of its own, which is made if it is not
    /// there.
    pub fn directories(
        mut self,
        directory: impl Fn(u64) -> PathBuf + Send + Sync + 'static,
    ) -> Self {
        self.place = Place::Each(Arc::new(directory));
        self
    }

    /// Serves the pages of the set in a directory, and of its parent sets, to whoever wants them.
    pub fn serve(mut self, directory: impl Into<PathBuf>) -> Self {
        self.source = Some(directory.into());
        self
    }

    /// Takes all clients for speakers of one layout, instead of recognising it.
    pub fn layout(mut self, layout: Layout) -> Self {
        self.layout = Some(layout);
        self
    }

    /// Frees the space of pages in the parent sets that come anew.
    pub fn auto_dedup(mut self, on: bool) -> Self {
        self.auto_dedup = on;
        self
    }

    /// Answers the end of a session when everything is on disk.
    pub fn durable(mut self, on: bool) -> Self {
        self.durable = on;
        self
    }

    /// Adds memory for one session at a time: the end of a session is answered when its pages are in memory, and they
    /// are written afterwards. A dump stands still for less, and does not learn of a disk that fails: its report does.
    /// What does not fit is written at once. Sessions for which no pool is free do without, as all do that are
    /// [durable](Self::durable), or of a server that [serves](Self::serve).
    pub fn pool(self, pool: Pool) -> Self {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner).push(pool);
        self
    }

    /// Allows an address that other machines reach. Whoever can connect can write pages, and read those that
    /// are served.
    pub fn exposed(mut self, on: bool) -> Self {
        self.exposed = on;
        self
    }

    /// Speaks TLS, with clients whose certificate is for `name`, unless [any name](crate::Tls::any_name) will do.
    /// CRIU takes the address that it listens on for the name, at both ends. A name that is in every client's
    /// certificate does as well.
    ///
    /// # Errors
    /// Those of the files.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: &Tls, name: &str) -> Result<Self, PagesError> {
        self.tls = Some(Acceptor::new(tls, name)?);
        Ok(self)
    }

    /// What a client may take.
    pub fn limits(mut self, limits: ServerLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Listens on a TCP address; port 0 lets the kernel choose.
    ///
    /// # Errors
    /// Those of bind(2); `PermissionDenied` for an address that is not loopback's, where there is no TLS and
    /// it was not [exposed](Self::exposed).
    pub fn listen(self, address: SocketAddr) -> io::Result<Listening> {
        if !address.ip().is_loopback() && !self.exposed && !self.knows_clients() {
            let why = "other machines reach this address, and nothing tells who they are";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        }
        let listener = TcpListener::bind(address)?;
        let port = listener.local_addr()?.port();
        self.begin(Listener::Tcp(listener), port)
    }

    /// Listens on a unix socket at a path.
    ///
    /// # Errors
    /// Those of bind(2).
    pub fn listen_unix(self, path: impl AsRef<Path>) -> io::Result<Listening> {
        self.begin(Listener::Unix(UnixListener::bind(path)?), 0)
    }

    /// Takes a socket that listens already, whatever its address.
    ///
    /// # Errors
    /// Those of setting it up.
    pub fn listen_on(self, listener: TcpListener) -> io::Result<Listening> {
        let port = listener.local_addr()?.port();
        self.begin(Listener::Tcp(listener), port)
    }

    /// Whether clients have to show who they are.
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

    /// Takes one session over a connected socket.
    ///
    /// # Errors
    /// [`PagesError`].
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
        let result = self.receive(directory.as_deref(), &mut socket, counters);
        // The peer sees the end now, and not when the last copy of the socket is gone.
        socket.shutdown();
        let counter = if result.is_ok() { &counters.done } else { &counters.failed };
        counter.fetch_add(1, Ordering::Relaxed);
        SessionReport { number, peer, directory, result }
    }

    fn receive(
        &self,
        directory: Option<&Path>,
        socket: &mut Socket,
        counters: &Counters,
    ) -> Result<Received, PagesError> {
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
                let kept = keep_connection(socket, store, memory, layout, limits, counters);
                let written = kept.and_then(|(received, parts)| {
                    socket.finish();
                    parts.iter().try_for_each(|part| part.write(memory, |_| {}))?;
                    store.finish()?;
                    Ok(received)
                });
                pools().push(pool);
                return written;
            }
        }
        serve_connection(socket, store.as_mut(), source.as_ref(), layout, limits, counters)
    }
}

impl Listening {
    /// The TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Gives the TCP socket back, which goes on listening.
    ///
    /// # Errors
    /// When it is a unix socket.
    pub fn into_listener(self) -> io::Result<TcpListener> {
        match self.listener {
            Listener::Tcp(tcp) => Ok(tcp),
            Listener::Unix(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// What stops it, and says what it does.
    pub fn handle(&self) -> Handle {
        Handle(Arc::clone(&self.shared))
    }

    /// Takes so many sessions, or sessions until it is stopped. Returns how they ended, in the order in which they
    /// did.
    ///
    /// # Errors
    /// Those of accepting connections. How a session fails is in its report.
    pub fn run(self, sessions: Option<u64>) -> io::Result<Vec<SessionReport>> {
        let mut reports = Vec::new();
        self.run_with(sessions, |report| reports.push(report))?;
        Ok(reports)
    }

    /// The same with `ended` called at the end of each session.
    ///
    /// # Errors
    /// Those of [`run`](Self::run).
    pub fn run_with(
        self,
        sessions: Option<u64>,
        mut ended: impl FnMut(SessionReport),
    ) -> io::Result<()> {
        let Self { server, listener, shared, .. } = self;
        let (server, most) = (Arc::new(server), sessions.unwrap_or(u64::MAX));
        let (sender, reports) = mpsc::channel();
        let mut running: HashMap<u64, JoinHandle<()>> = HashMap::new();
        // A thread whose report has come has nothing left to do: it is waited for, so that nothing of it is
        // there when this returns.
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
            // One that came while the others were being ended.
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
        // The threads have the others: when they are gone, nothing more comes.
        drop(sender);
        while !running.is_empty() {
            let Ok(report) = reports.recv() else { break };
            end(&mut running, report);
        }
        Ok(())
    }
}

impl Listener {
    /// The next connection; `None` when the server is woken.
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

/// Whether a connection, and not the listening itself, has failed.
fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, WouldBlock};
    matches!(error.kind(), WouldBlock | Interrupted | ConnectionAborted | ConnectionReset)
}

impl Handle {
    /// Stops the server: no more connections are taken, and those that are open are ended.
    pub fn stop(&self) {
        self.0.counters.stopping.store(true, Ordering::SeqCst);
        self.0.counters.finishing.store(true, Ordering::SeqCst);
        for (_, socket) in self.0.lock().iter() {
            socket.shutdown();
        }
        self.0.wake();
    }

    /// Takes no more connections; those that are open go on.
    pub fn finish(&self) {
        self.0.counters.finishing.store(true, Ordering::SeqCst);
        self.0.wake();
    }

    /// What it has done so far.
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
