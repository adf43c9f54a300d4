//! The loop of a page server: accepts connections, and gives each session a thread.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use std::{io, mem};

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
use super::waiting::{Arrival, Turned, Waiting, for_others};
use crate::sys::scheduling::{Scheduling, schedule};

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
    sender: Sender<End>,
    ends: Receiver<End>,
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
    /// The directory of the session, when the session knows it.
    directory: Arc<OnceLock<PathBuf>>,
    thread: JoinHandle<()>,
}

/// The end of a session's thread.
#[derive(Debug)]
enum End {
    Report(Box<SessionReport>),
    /// The thread of the session with this number has panicked.
    Lost(u64),
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
        let (sender, ends) = mpsc::channel();
        Self {
            role,
            shared,
            limits,
            gate,
            listener: Some(listener),
            waiting,
            running: HashMap::new(),
            sender,
            ends,
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
                self.waiting.bound(now);
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
        let accepts = self.pause.is_none() && !self.waiting.is_full(now);
        let listener = self.listener.as_ref().filter(|_| accepts);
        let wake = [PollFd::new(self.shared.wake.as_fd(), PollFlags::POLLIN)];
        let own = listener.map(|listener| PollFd::new(listener.as_fd(), PollFlags::POLLIN));
        let known = 1 + usize::from(own.is_some());
        let all = wake.into_iter().chain(own).chain(self.waiting.descriptors());
        let mut all: Vec<PollFd<'_>> = all.collect();
        let until = self.waiting.deadline(now).into_iter().chain(self.pause).min();
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
        let now = Instant::now();
        for _ in 0..AT_ONCE {
            let Some(listener) = self.listener.as_ref().filter(|_| !self.waiting.is_full(now))
            else {
                break;
            };
            // Without descriptors accept(2) fails even if no connection is there.
            let mut own = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
            if poll(&mut own, PollTimeout::ZERO) == Ok(0) {
                break;
            }
            match listener.accept() {
                Ok((socket, ends)) => {
                    let peer = ends.map_or_else(|| socket.to_string(), |(_, it)| it.to_string());
                    let turned = match self.gate.check(&socket, ends) {
                        Ok(who) => self.waiting.receive(socket, who, peer, now),
                        Err(why) => Some(Turned { peer, why }),
                    };
                    turned.into_iter().for_each(|turned| self.turn_away(turned));
                }
                Err(error) => match kind(&error) {
                    Fault::Empty => return Ok(()),
                    // A connection may stay and fail again and again.
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
            PagesError::Displaced | PagesError::Full => &counters.displaced,
            _ => &counters.unused,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        self.notices.tell(Notice::TurnedAway { peer, why }, Instant::now());
    }

    /// Begins the sessions that have their first header, as many as may run. A quarter of them is
    /// for the server's own user and root.
    fn begin_sessions(&mut self) {
        let most = self.limits.connections.max(1);
        while self.pause.is_none() && self.begun < self.most && self.running.len() < most {
            let (running, per_peer) = (&self.running, self.limits.per_peer.max(1));
            let share = |who| running.values().filter(|session| session.who == who).count();
            let others = running.len() - share(Who::Own) < for_others(most);
            let may = |who| who == Who::Own || (others && share(who) < per_peer);
            let Some(arrival) = self.waiting.take(may) else { return };
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
        let (sender, directory) = (self.sender.clone(), Arc::default());
        let place = Arc::clone(&directory);
        let session = thread::Builder::new().name(format!("pages {number}")).spawn(move || {
            let end = End::Lost(number);
            let mut at_the_end = AtTheEnd { shared: Arc::clone(&shared), number, sender, end };
            if role.is_urgent() {
                // A kernel that does not know it lets the thread wait as others do.
                let _ = schedule(Scheduling::Short);
            }
            let Ok(arrival) = handed.recv() else { return };
            let report = take(&*role, number, arrival, &shared, &place);
            at_the_end.end = End::Report(Box::new(report));
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
        self.running.insert(number, Running { who, peer, directory, thread });
        self.short = false;
        self.begun += 1;
        Ok(())
    }

    /// Reports the sessions that have ended.
    fn end_sessions(&mut self) {
        while let Ok(end) = self.ends.try_recv() {
            let number = match &end {
                End::Report(report) => report.number,
                End::Lost(number) => *number,
            };
            let Some(Running { peer, directory, thread, .. }) = self.running.remove(&number) else {
                continue;
            };
            // It has nothing left to do, and has ended when the server's run returns.
            let _ = thread.join();
            (self.ended)(match end {
                End::Report(report) => *report,
                End::Lost(number) => {
                    self.shared.counters.failed.fetch_add(1, Ordering::Relaxed);
                    let source = io::Error::other("its thread panicked");
                    let result = Err(PagesError::Socket { what: "run the session", source });
                    let (directory, received) = (directory.get().cloned(), Received::default());
                    SessionReport { number, peer, directory, result, received }
                }
            });
        }
    }
}

/// Runs a session. Its directory is known from `place` as well.
fn take(
    role: &dyn Role,
    number: u64,
    arrival: Arrival,
    shared: &Shared,
    place: &OnceLock<PathBuf>,
) -> SessionReport {
    let Arrival { mut socket, peer, .. } = arrival;
    let (directory, counters) = (role.directory(number), &shared.counters);
    if let Some(directory) = &directory {
        let _ = place.set(directory.clone());
    }
    let mut received = Received::default();
    let result = role.session(&mut socket, directory.as_deref(), counters, &mut received);
    // The peer sees the end now, not when the last copy of the socket is closed.
    socket.shutdown();
    let counter = if result.is_ok() { &counters.done } else { &counters.failed };
    counter.fetch_add(1, Ordering::Relaxed);
    let result = result.map(|()| received);
    SessionReport { number, peer, directory, result, received }
}

/// Tells the server that a session's thread ends, also by a panic, and wakes the server.
struct AtTheEnd {
    shared: Arc<Shared>,
    number: u64,
    sender: Sender<End>,
    end: End,
}

impl Drop for AtTheEnd {
    fn drop(&mut self) {
        self.shared.lock().retain(|(open, _)| *open != self.number);
        let _ = self.sender.send(mem::replace(&mut self.end, End::Lost(self.number)));
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
