//! A page server that listens, and the handle of one that runs.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{fmt, io};

use nix::sys::eventfd::{EfdFlags, EventFd};

use super::error::PagesError;
use super::front::Front;
use super::gate::Gate;
use super::listener::Listener;
use super::metrics::{Counters, Metrics};
use super::notice::Notice;
use super::receive::Received;
use super::reception::Reception;
use super::report::SessionReport;
use super::socket::{Plain, Socket};
use super::waiting::Waiting;

/// The part of a server that runs its sessions.
pub(super) trait Role: fmt::Debug + Send + Sync + 'static {
    /// Returns the directory in which the pages of a session are stored, for its report.
    fn directory(&self, number: u64) -> Option<PathBuf>;

    /// Tells that peers wait for each answer, so that sessions have to run soon when they can.
    fn is_urgent(&self) -> bool {
        false
    }

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
    gate: Gate,
    port: u16,
    shared: Arc<Shared>,
}

/// A handle that stops a running server and reads its metrics. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle(Arc<Shared>);

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) counters: Counters,
    /// The connections of sessions, by number.
    open: Mutex<Vec<(u64, Plain)>>,
    /// The event that wakes the accepting thread.
    pub(super) wake: EventFd,
}

impl Listening {
    pub(super) fn new(
        listener: Listener,
        port: u16,
        front: Front,
        role: Arc<dyn Role>,
    ) -> io::Result<Self> {
        let gate = front.gate(&listener)?;
        let shared = Shared {
            counters: Counters::default(),
            open: Mutex::default(),
            wake: EventFd::from_flags(EfdFlags::EFD_CLOEXEC)?,
        };
        Ok(Self { role, front, listener, gate, port, shared: Arc::new(shared) })
    }

    /// Returns the TCP port; 0 for a unix socket.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the TCP socket, which goes on listening. Its calls wait.
    ///
    /// # Errors
    /// `Unsupported` for a unix socket; the errors of fcntl(2).
    pub fn into_listener(self) -> io::Result<TcpListener> {
        match self.listener {
            Listener::Tcp(tcp) => {
                tcp.set_nonblocking(false)?;
                Ok(tcp)
            }
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
    /// A connection is a session from its first header on. Others end without a report, at the
    /// latest when [`ServerLimits::first`](super::ServerLimits::first) for TLS and the longer of
    /// that and [`ServerLimits::idle`](super::ServerLimits::idle) for the header are over. Without
    /// `idle` a silent one may stay until the server finishes. A shortage of descriptors,
    /// memory or threads ends neither the server nor a connection that waits for its session. The
    /// reports of a server without a number of sessions take memory: [`run_with`](Self::run_with)
    /// keeps none.
    ///
    /// # Errors
    /// The error of a socket that cannot listen any more. The error of a session is in its report.
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
        ended: impl FnMut(SessionReport),
    ) -> io::Result<()> {
        self.run_noting(sessions, ended, |_| {})
    }

    /// Runs sessions as [`run_with`](Self::run_with) does, and calls `noted` for connections that
    /// become no sessions and for shortages.
    ///
    /// # Errors
    /// The errors of [`run`](Self::run).
    pub fn run_noting(
        self,
        sessions: Option<u64>,
        mut ended: impl FnMut(SessionReport),
        mut noted: impl FnMut(Notice),
    ) -> io::Result<()> {
        let Self { role, front, listener, gate, shared, .. } = self;
        let entrance = (listener, gate, Waiting::new(&front));
        let most = sessions.unwrap_or(u64::MAX);
        let limits = front.limits;
        Reception::new(role, shared, limits, entrance, most, &mut ended, &mut noted).run()
    }
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

    /// Lets the server finish: it accepts no more connections, and the open ones go on. Those that
    /// are silent have the rest of their time, and
    /// [`ServerLimits::first`](super::ServerLimits::first) if their time is not limited.
    pub fn finish(&self) {
        self.0.counters.finishing.store(true, Ordering::SeqCst);
        self.0.wake();
    }

    /// Returns the server's counters.
    pub fn metrics(&self) -> Metrics {
        let counters = &self.0.counters;
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Metrics {
            bytes: load(&counters.bytes),
            pages: load(&counters.pages),
            holes: load(&counters.holes),
            served: load(&counters.served),
            done: load(&counters.done),
            failed: load(&counters.failed),
            open: self.0.lock().len(),
            waiting: counters.waiting.load(Ordering::Relaxed),
            refused: load(&counters.refused),
            unused: load(&counters.unused),
            displaced: load(&counters.displaced),
            shortages: load(&counters.shortages),
        }
    }
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, Vec<(u64, Plain)>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn wake(&self) {
        let _ = self.wake.write(1);
    }
}
