//! A page server that listens: accepts connections, and gives each a thread.

use std::collections::HashMap;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::{fmt, io};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::error::PagesError;
use super::front::Front;
use super::metrics::{Counters, Metrics};
use super::receive::Received;
use super::socket::{Plain, Socket};

/// The part of a server that runs its sessions.
pub(super) trait Role: fmt::Debug + Send + Sync + 'static {
    /// Returns the directory in which the pages of a session are stored, for its report.
    fn directory(&self, number: u64) -> Option<PathBuf>;

    /// Runs a session over a socket, with TLS agreed on. Brings the report up to date, also for a
    /// session that fails.
    fn session(
        &self,
        socket: &mut Socket,
        directory: Option<&Path>,
        counters: &Counters,
        report: &mut Received,
    ) -> Result<(), PagesError>;
}

/// A page server that listens.
///
/// [`run`](Self::run) accepts connections.
#[derive(Debug)]
#[must_use = "the server accepts no connections until it runs"]
pub struct Listening {
    role: Arc<dyn Role>,
    front: Front,
    listener: Listener,
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) enum Listener {
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

impl Listening {
    pub(super) fn new(
        listener: Listener,
        port: u16,
        front: Front,
        role: Arc<dyn Role>,
    ) -> io::Result<Self> {
        match &listener {
            Listener::Tcp(tcp) => tcp.set_nonblocking(true)?,
            Listener::Unix(unix) => unix.set_nonblocking(true)?,
        }
        let shared = Shared {
            counters: Counters::default(),
            open: Mutex::default(),
            wake: EventFd::from_flags(EfdFlags::EFD_CLOEXEC)?,
        };
        Ok(Self { role, front, listener, port, shared: Arc::new(shared) })
    }

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
        let Self { role, front, listener, shared, .. } = self;
        let (front, most) = (Arc::new(front), sessions.unwrap_or(u64::MAX));
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
                let room = running.len() < front.limits.connections.max(1);
                let report = if room { reports.try_recv().ok() } else { reports.recv().ok() };
                let Some(report) = report else { break };
                end(&mut running, report);
            }
            let Some(socket) = listener.accept(&shared)? else {
                continue;
            };
            let number = begun;
            begun += 1;
            let (role, front) = (Arc::clone(&role), Arc::clone(&front));
            let (shared, sender) = (Arc::clone(&shared), sender.clone());
            let kept = socket.plain()?;
            shared.lock().push((number, kept));
            // This connection came while the others were being ended.
            if shared.counters.stopping.load(Ordering::SeqCst) {
                socket.shutdown();
            }
            let session = thread::Builder::new().name(format!("pages {number}"));
            let session = session.spawn(move || {
                let report = take(&*role, &front, number, socket, &shared.counters);
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

/// Runs a session.
fn take(
    role: &dyn Role,
    front: &Front,
    number: u64,
    mut socket: Socket,
    counters: &Counters,
) -> SessionReport {
    let (peer, directory) = (socket.to_string(), role.directory(number));
    let agreed = front.agree(&mut socket);
    let mut received = Received::default();
    let result = agreed
        .and_then(|()| role.session(&mut socket, directory.as_deref(), counters, &mut received));
    // The peer sees the end now, not when the last copy of the socket is closed.
    socket.shutdown();
    let counter = if result.is_ok() { &counters.done } else { &counters.failed };
    counter.fetch_add(1, Ordering::Relaxed);
    let result = result.map(|()| received);
    SessionReport { number, peer, directory, result, received }
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

impl fmt::Display for SessionReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.result {
            Ok(received) => write!(f, "{}: {received}", self.peer),
            Err(error) => write!(f, "{}: {error}", self.peer),
        }
    }
}
