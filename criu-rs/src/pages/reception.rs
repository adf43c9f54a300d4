//! The loop of a page server: accepts connections, and gives each session a thread.

use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::deadline::poll_timeout;
use super::error::PagesError;
use super::gate::{Gate, Who};
use super::limits::ServerLimits;
use super::listener::Listener;
use super::listening::{Role, Shared};
use super::notice::{Notice, Notices};
use super::receive::Received;
use super::report::SessionReport;
use super::waiting::{Arrival, Turned, Waiting};

/// A server that runs.
pub(super) struct Reception<'r> {
    role: Arc<dyn Role>,
    shared: Arc<Shared>,
    limits: ServerLimits,
    gate: Gate,
    /// The socket that listens, until no more connections are accepted.
    listener: Option<Listener>,
    waiting: Waiting,
    running: HashMap<u64, Running>,
    sender: Sender<SessionReport>,
    reports: Receiver<SessionReport>,
    begun: u64,
    most: u64,
    /// The end of the pause after a failure.
    pause: Option<Instant>,
    /// Tells that nothing has been accepted and begun since a shortage was told.
    short: bool,
    notices: Notices<'r>,
    ended: &'r mut dyn FnMut(SessionReport),
}

/// A session that runs.
#[derive(Debug)]
struct Running {
    who: Who,
    peer: String,
    thread: JoinHandle<()>,
}

impl<'r> Reception<'r> {
    pub(super) fn new(
        role: Arc<dyn Role>,
        shared: Arc<Shared>,
        limits: ServerLimits,
        (listener, gate, waiting): (Listener, Gate, Waiting),
        most: u64,
        ended: &'r mut dyn FnMut(SessionReport),
        noted: &'r mut dyn FnMut(Notice),
    ) -> Self {
        let (sender, reports) = mpsc::channel();
        Self {
            role,
            shared,
            limits,
            gate,
            listener: Some(listener),
            waiting,
            running: HashMap::new(),
            sender,
            reports,
            begun: 0,
            most,
            pause: None,
            short: false,
            notices: Notices::new(noted),
            ended,
        }
    }

    /// Runs until all sessions have ended that are to be run.
    ///
    /// # Errors
    /// The error of a socket that cannot listen any more, after all sessions have ended.
    pub(super) fn run(mut self) -> io::Result<()> {
        let mut broken = Ok(());
        loop {
            let now = Instant::now();
            self.pause = self.pause.filter(|end| *end > now);
            self.end_sessions();
            self.begin_sessions();
            let counters = &self.shared.counters;
            let over = self.begun >= self.most || counters.stopping.load(Ordering::SeqCst);
            if over {
                // Nobody waits in vain for a place.
                self.waiting.clear();
            }
            if over || broken.is_err() || counters.finishing.load(Ordering::SeqCst) {
                self.listener = None;
            }
            counters.waiting.store(self.waiting.len(), Ordering::Relaxed);
            let rest = self.waiting.len().saturating_add(self.running.len());
            if self.listener.is_none() && rest == 0 {
                self.notices.tell_untold();
                return broken;
            }
            if let Err(error) = self.wait() {
                broken = Err(error);
            }
        }
    }

    /// Waits until something happens, and sees to connections.
    ///
    /// # Errors
    /// The errors of a socket that cannot listen any more.
    fn wait(&mut self) -> io::Result<()> {
        let now = Instant::now();
        let accepts = self.pause.is_none() && !self.waiting.is_full();
        let listener = self.listener.as_ref().filter(|_| accepts);
        let wake = [PollFd::new(self.shared.wake.as_fd(), PollFlags::POLLIN)];
        let own = listener.map(|listener| PollFd::new(listener.as_fd(), PollFlags::POLLIN));
        let known = 1 + usize::from(own.is_some());
        let all = wake.into_iter().chain(own).chain(self.waiting.descriptors());
        let mut all: Vec<PollFd<'_>> = all.collect();
        let until = self.waiting.deadline().into_iter().chain(self.pause).min();
        let left = until.map(|until| until.saturating_duration_since(now));
        let polled = poll(&mut all, left.map_or(PollTimeout::NONE, poll_timeout));
        let ready: Vec<bool> = all.iter().map(|fd| fd.any().unwrap_or(true)).collect();
        drop(all);
        match polled {
            Err(Errno::EINTR) => return Ok(()),
            Err(error) => {
                self.short("wait for connections", error.into());
                // The pause is not polled for: polling is what fails.
                thread::sleep(PAUSE);
                return Ok(());
            }
            Ok(_) => {}
        }
        let is_ready = |place: usize| ready.get(place).copied().unwrap_or(false);
        if is_ready(0) {
            let _ = self.shared.wake.read();
        }
        let turned = self.waiting.advance(ready.get(known..).unwrap_or_default(), Instant::now());
        turned.into_iter().for_each(|turned| self.turn_away(turned));
        if known > 1 && is_ready(1) { self.accept() } else { Ok(()) }
    }

    /// Accepts the connections that are there.
    fn accept(&mut self) -> io::Result<()> {
        let mut accepted = 0;
        for _ in 0..AT_ONCE {
            let Some(listener) = self.listener.as_ref().filter(|_| !self.waiting.is_full()) else {
                break;
            };
            // Without descriptors accept(2) fails even if no connection is there.
            let mut own = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
            if poll(&mut own, PollTimeout::ZERO) == Ok(0) {
                break;
            }
            match listener.accept() {
                Ok((socket, ends)) => {
                    accepted += 1;
                    let peer = ends.map_or_else(|| socket.to_string(), |(_, it)| it.to_string());
                    let turned = match self.gate.check(&socket, ends) {
                        Ok(who) => self.waiting.receive(socket, who, peer, Instant::now()),
                        Err(why) => Some(Turned { peer, why }),
                    };
                    turned.into_iter().for_each(|turned| self.turn_away(turned));
                }
                Err(error) => match kind(&error) {
                    Fault::Empty => return Ok(()),
                    Fault::Connection if accepted > 0 => accepted -= 1,
                    // Whatever it is, it is not asked for again and again.
                    Fault::Connection => {
                        self.pause = Instant::now().checked_add(PAUSE);
                        break;
                    }
                    Fault::Shortage => {
                        self.short("accept a connection", error);
                        break;
                    }
                    Fault::Socket => return Err(error),
                },
            }
        }
        Ok(())
    }

    /// Waits a while for what is missing, and ends a silent connection that may have it. The
    /// shortage is told once.
    fn short(&mut self, what: &'static str, source: io::Error) {
        let now = Instant::now();
        self.pause = now.checked_add(PAUSE);
        self.shared.counters.shortages.fetch_add(1, Ordering::Relaxed);
        if !self.short {
            self.short = true;
            self.notices.tell(Notice::Short { what, source }, now);
        }
        if let Some(turned) = self.waiting.give_way() {
            self.turn_away(turned);
        }
    }

    fn turn_away(&mut self, Turned { peer, why }: Turned) {
        let counters = &self.shared.counters;
        let counter = match &why {
            PagesError::Stranger { .. } | PagesError::Unknown(_) => &counters.refused,
            PagesError::Displaced => &counters.displaced,
            _ => &counters.unused,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        self.notices.tell(Notice::TurnedAway { peer, why }, Instant::now());
    }

    /// Begins the sessions that have their first header, as many as may run.
    fn begin_sessions(&mut self) {
        while self.pause.is_none()
            && self.begun < self.most
            && self.running.len() < self.limits.connections.max(1)
        {
            let (running, most) = (&self.running, self.limits.per_peer.max(1));
            let share = |who| running.values().filter(|session| session.who == who).count();
            let arrival = self.waiting.take(|who| who == Who::Own || share(who) < most);
            let Some(arrival) = arrival else { return };
            if let Err(failed) = self.begin(arrival) {
                let (arrival, error) = *failed;
                self.waiting.put_back(arrival);
                self.short("begin a session", error);
            }
        }
    }

    /// Begins a session. A connection that cannot begin comes back.
    fn begin(&mut self, arrival: Arrival) -> Result<(), Box<(Arrival, io::Error)>> {
        let kept = match arrival.socket.plain() {
            Ok(kept) => kept,
            Err(error) => return Err(Box::new((arrival, error))),
        };
        let number = self.begun;
        let (hand, handed) = mpsc::sync_channel::<Arrival>(1);
        let (role, shared) = (Arc::clone(&self.role), Arc::clone(&self.shared));
        let sender = self.sender.clone();
        let session = thread::Builder::new().name(format!("pages {number}")).spawn(move || {
            let _at_the_end = WakeAtTheEnd { shared: Arc::clone(&shared), number };
            let Ok(arrival) = handed.recv() else { return };
            let _ = sender.send(take(&*role, number, arrival, &shared));
        });
        let thread = match session {
            Ok(thread) => thread,
            Err(error) => return Err(Box::new((arrival, error))),
        };
        let (who, peer) = (arrival.who, arrival.peer.clone());
        self.shared.lock().push((number, kept));
        // This session begins while the others are being ended.
        if self.shared.counters.stopping.load(Ordering::SeqCst) {
            arrival.socket.shutdown();
        }
        let _ = hand.send(arrival);
        self.running.insert(number, Running { who, peer, thread });
        self.short = false;
        self.begun += 1;
        Ok(())
    }

    /// Reports the sessions that have ended.
    fn end_sessions(&mut self) {
        // A thread that has ended has sent its report before, unless it has panicked.
        let over = self.running.iter().filter(|(_, session)| session.thread.is_finished());
        let over: Vec<u64> = over.map(|(number, _)| *number).collect();
        while let Ok(report) = self.reports.try_recv() {
            if let Some(session) = self.running.remove(&report.number) {
                // It has nothing left to do, and has ended when the server's run returns.
                let _ = session.thread.join();
            }
            (self.ended)(report);
        }
        for number in over {
            let Some(Running { peer, .. }) = self.running.remove(&number) else { continue };
            self.shared.counters.failed.fetch_add(1, Ordering::Relaxed);
            let source = io::Error::other("its thread panicked");
            let result = Err(PagesError::Socket { what: "run the session", source });
            let (directory, received) = (self.role.directory(number), Received::default());
            (self.ended)(SessionReport { number, peer, directory, result, received });
        }
    }
}

/// Runs a session.
fn take(role: &dyn Role, number: u64, arrival: Arrival, shared: &Shared) -> SessionReport {
    let Arrival { mut socket, peer, .. } = arrival;
    let (directory, counters) = (role.directory(number), &shared.counters);
    let mut received = Received::default();
    let result = role.session(&mut socket, directory.as_deref(), counters, &mut received);
    // The peer sees the end now, not when the last copy of the socket is closed.
    socket.shutdown();
    let counter = if result.is_ok() { &counters.done } else { &counters.failed };
    counter.fetch_add(1, Ordering::Relaxed);
    let result = result.map(|()| received);
    SessionReport { number, peer, directory, result, received }
}

/// Wakes the server when a session's thread ends, also by a panic.
struct WakeAtTheEnd {
    shared: Arc<Shared>,
    number: u64,
}

impl Drop for WakeAtTheEnd {
    fn drop(&mut self) {
        self.shared.lock().retain(|(open, _)| *open != self.number);
        self.shared.wake();
    }
}

/// The kinds of accept(2)'s errors.
enum Fault {
    /// No connection is there.
    Empty,
    /// A connection has ended before it was accepted, or may not come in.
    Connection,
    /// Descriptors or memory are used up.
    Shortage,
    /// The socket does not listen.
    Socket,
}

fn kind(error: &io::Error) -> Fault {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EAGAIN | Errno::EINTR) => Fault::Empty,
        Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::ENOBUFS) => Fault::Shortage,
        Some(Errno::EBADF | Errno::EINVAL | Errno::ENOTSOCK | Errno::EFAULT) => Fault::Socket,
        // accept(2) passes on the errors of the network.
        _ => Fault::Connection,
    }
}

/// The time after which a server tries again what failed for a shortage.
const PAUSE: Duration = Duration::from_millis(100);
/// The most connections that are accepted before others are seen to.
const AT_ONCE: usize = 64;
