//! The peer of a server's session, and what the session may cost.

use std::io::{self, Write};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::budget::Budget;
use super::deadline::Deadline;
use super::error::PagesError;
use super::limits::ServerLimits;
use super::metrics::Counters;
use super::patience::{NEXT, Patience};
use super::proto::Layout;
use super::session::PageSession;
use super::socket::Socket;

/// The peer of a server's session. All that comes and goes is counted, and no call waits longer
/// than the limits allow.
pub(super) struct Peer<'c> {
    pub(super) socket: &'c mut Socket,
    pub(super) budget: Budget,
    pub(super) patience: Patience,
    /// The number of bytes that came.
    pub(super) came: u64,
    pub(super) counters: &'c Counters,
    idle: Option<Duration>,
    total: Deadline,
    begun: Instant,
}

impl<'c> Peer<'c> {
    /// Begins the session: its time runs.
    pub(super) fn new(
        socket: &'c mut Socket,
        limits: &ServerLimits,
        counters: &'c Counters,
    ) -> Self {
        let begun = Instant::now();
        Self {
            socket,
            budget: Budget::new(limits),
            patience: Patience::new(limits.idle),
            came: 0,
            counters,
            idle: limits.idle,
            total: Deadline::after(limits.total, begun),
            begun,
        }
    }

    /// Sets the socket up for the session.
    ///
    /// # Errors
    /// [`PagesError::Socket`] if the system refuses.
    pub(super) fn prepare(&mut self) -> Result<(), PagesError> {
        let prepared = self.socket.prepare(self.idle);
        prepared.map_err(PagesError::socket("set up the connection"))?;
        self.socket.set_deadline(Some(self.total));
        Ok(())
    }

    /// Returns how long the session has taken.
    pub(super) fn time(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Makes a call that waits for bytes and returns their number. The call ends with the patience
    /// or the session's time, whatever comes.
    ///
    /// # Errors
    /// [`PagesError::Gone`] or [`PagesError::Stopped`] if no more bytes come,
    /// [`PagesError::TimedOut`], [`PagesError::TooMuch`], and the errors of the socket.
    pub(super) fn hear(
        &mut self,
        call: impl FnOnce(&mut Socket) -> io::Result<usize>,
    ) -> Result<usize, PagesError> {
        let now = Instant::now();
        let left = self.patience.left()?;
        let next = left.map_or(self.total, |left| Deadline::after(left, now).sooner(self.total));
        self.socket.set_deadline(Some(next));
        let came = call(self.socket);
        self.socket.set_deadline(Some(self.total));
        let late = || if self.total.left(Instant::now()).is_ok() { NEXT } else { SESSION };
        let size = match came {
            Ok(0) => return Err(self.gone()),
            Ok(size) => size,
            Err(error) if is_timeout(&error) => return Err(late()),
            Err(error) => {
                return Err(match PagesError::socket("receive")(error) {
                    PagesError::Deadline(_) => late(),
                    other => other,
                });
            }
        };
        let bytes = size as u64;
        self.patience.waited(now.elapsed(), bytes);
        self.came = self.came.saturating_add(bytes);
        self.counters.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.budget.spend(bytes)?;
        Ok(size)
    }

    /// Sends bytes.
    pub(super) fn say(&mut self, bytes: &[u8]) -> Result<(), PagesError> {
        self.budget.spend(bytes.len() as u64)?;
        self.socket.write_all(bytes).map_err(PagesError::socket("answer"))
    }

    /// Ends a session that has been closed.
    pub(super) fn part(&mut self) {
        self.socket.finish();
        // The end that closes a TCP connection first keeps its port busy for a while: let it be the
        // client.
        self.socket.wait_for_end();
    }

    /// Returns the error of a connection that has ended: by the peer, or by a server that stops.
    fn gone(&self) -> PagesError {
        if self.counters.stopping.load(Ordering::Relaxed) {
            PagesError::Stopped
        } else {
            PagesError::Gone(self.came)
        }
    }
}

/// Settles on the narrow layout if a wait for the rest of a wide header has brought nothing.
///
/// # Errors
/// Other errors of the wait.
pub(super) fn assume_after(
    received: Result<bool, PagesError>,
    session: &mut PageSession,
) -> Result<(), PagesError> {
    match received {
        Err(PagesError::TimedOut(_) | PagesError::Gone(_)) => {
            session.assume(Layout::Narrow);
            Ok(())
        }
        other => other.map(drop),
    }
}

/// Returns the error of a session for one of its calls: a peer that does not read takes too long.
pub(super) fn in_session(error: PagesError) -> PagesError {
    match error {
        PagesError::Deadline(_) => SESSION,
        PagesError::Socket { source, .. } if is_timeout(&source) => {
            PagesError::TimedOut("sending to the peer")
        }
        other => other,
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// The error of a session that takes too long.
const SESSION: PagesError = PagesError::TimedOut("the session");
