//! The connections of a page server that are not sessions yet.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::io::{self, Read};
use std::mem;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags};
use nix::sys::resource::{Resource, getrlimit};

use super::error::PagesError;
use super::front::Front;
use super::gate::Who;
use super::proto::Layout;
use super::session::{PageSession, PageStep};
use super::socket::Socket;
#[cfg(feature = "tls")]
use super::tls::{Acceptor, Handshake};

/// The connections that have not sent a first header yet, and those that have and wait for a place
/// among the sessions.
///
/// No call waits. A connection costs a descriptor and some hundred bytes, with TLS some KiB.
#[derive(Debug)]
pub(super) struct Waiting {
    places: usize,
    /// The time of a client who is not known.
    first: Duration,
    /// The time of a client who is known, if limited.
    known: Option<Duration>,
    layout: Option<Layout>,
    #[cfg(feature = "tls")]
    tls: Option<Acceptor>,
    /// The connections, the oldest first.
    all: Vec<Arrival>,
}

/// A connection that is not a session yet.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) socket: Socket,
    pub(super) who: Who,
    pub(super) peer: String,
    stage: Stage,
    /// The end of the time for what comes next, if limited.
    until: Option<Instant>,
    /// The bytes of the first header that have come.
    head: Vec<u8>,
}

/// A connection that becomes no session, and the reason.
#[derive(Debug)]
pub(super) struct Turned {
    pub(super) peer: String,
    pub(super) why: PagesError,
}

#[derive(Debug)]
enum Stage {
    /// Both ends agree on TLS.
    #[cfg(feature = "tls")]
    Handshake(Box<Handshake>),
    /// The first header has not come as a whole.
    Header,
    /// The first header has come.
    Ready,
}

impl Waiting {
    pub(super) fn new(front: &Front) -> Self {
        Self {
            places: front.limits.waiting.clamp(2, places().max(2)),
            first: front.limits.first,
            known: front.limits.idle.map(|idle| idle.max(front.limits.first)),
            layout: front.layout,
            #[cfg(feature = "tls")]
            tls: front.tls.clone(),
            all: Vec::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn clear(&mut self) {
        self.all.clear();
    }

    /// Returns `true` if a new connection could not take the place of a silent one.
    pub(super) fn is_full(&self) -> bool {
        self.all.len() >= self.places && self.all.iter().all(Arrival::is_ready)
    }

    /// Takes a new connection. Returns the one that has no place any more.
    pub(super) fn receive(
        &mut self,
        mut socket: Socket,
        who: Who,
        peer: String,
        now: Instant,
    ) -> Option<Turned> {
        let stage = match self.begin(&mut socket) {
            Ok(stage) => stage,
            Err(why) => return Some(Turned { peer, why }),
        };
        let is_known = who == Who::Own && matches!(stage, Stage::Header);
        let first = if is_known { self.known } else { Some(self.first) };
        let until = first.and_then(|first| now.checked_add(first));
        let arrival = Arrival { socket, who, peer, stage, until, head: Vec::new() };
        let share = self.all.iter().filter(|other| other.who == who).count();
        let mut turned = None;
        if who != Who::Own && share >= self.places / 2 {
            let oldest = self.all.iter().position(|other| other.who == who && !other.is_ready());
            let Some(oldest) = oldest else { return Some(arrival.turned(PagesError::Displaced)) };
            turned = Some(self.all.remove(oldest).turned(PagesError::Displaced));
        } else if self.all.len() >= self.places {
            turned = self.give_way();
            if turned.is_none() {
                return Some(arrival.turned(PagesError::Displaced));
            }
        }
        self.all.push(arrival);
        turned
    }

    fn begin(&self, socket: &mut Socket) -> Result<Stage, PagesError> {
        socket.never_wait().map_err(PagesError::socket("set up the connection"))?;
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            return Ok(Stage::Handshake(tls.begin()?));
        }
        Ok(Stage::Header)
    }

    /// Ends a silent connection, to make room: one without a certificate, of a stranger, of the
    /// peer that has most, and of these the oldest.
    pub(super) fn give_way(&mut self) -> Option<Turned> {
        let mut shares: HashMap<Who, usize> = HashMap::new();
        for arrival in &self.all {
            *shares.entry(arrival.who).or_default() += 1;
        }
        let silent = self.all.iter().enumerate().filter(|(_, arrival)| !arrival.is_ready());
        let (victim, _) = silent.max_by_key(|(place, arrival)| {
            let share = shares.get(&arrival.who).copied().unwrap_or(0);
            (!arrival.is_known(), arrival.who != Who::Own, share, Reverse(*place))
        })?;
        Some(self.all.remove(victim).turned(PagesError::Displaced))
    }

    /// Returns the descriptors to wait for, in the order of the silent connections.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = PollFd<'_>> {
        self.silent().map(|arrival| PollFd::new(arrival.socket.as_fd(), arrival.events()))
    }

    /// Returns the moment at which the next silent connection has taken too long.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.silent().filter_map(|arrival| arrival.until).min()
    }

    fn silent(&self) -> impl Iterator<Item = &Arrival> {
        self.all.iter().filter(|arrival| !arrival.is_ready())
    }

    /// Goes on with the connections whose descriptors are ready, in the order of
    /// [`descriptors`](Self::descriptors). Returns those that become no sessions.
    pub(super) fn advance(&mut self, ready: &[bool], now: Instant) -> Vec<Turned> {
        let (mut kept, mut turned) = (Vec::with_capacity(self.all.len()), Vec::new());
        let mut ready = ready.iter();
        for mut arrival in mem::take(&mut self.all) {
            if arrival.is_ready() {
                kept.push(arrival);
                continue;
            }
            let stirs = ready.next().copied().unwrap_or(false);
            let was_known = arrival.is_known();
            let went = if stirs { arrival.advance(self.layout) } else { Ok(()) };
            if !was_known && arrival.is_known() {
                arrival.until = self.known.and_then(|known| now.checked_add(known));
            }
            match went {
                Err(why) => turned.push(arrival.turned(why)),
                Ok(()) if !arrival.is_ready() && arrival.until.is_some_and(|it| it <= now) => {
                    turned.push(arrival.turned(PagesError::TimedOut("the first message")));
                }
                Ok(()) => kept.push(arrival),
            }
        }
        self.all = kept;
        turned
    }

    /// Takes out the oldest connection whose first header has come and that may begin.
    pub(super) fn take(&mut self, may: impl Fn(Who) -> bool) -> Option<Arrival> {
        let ready = |arrival: &Arrival| arrival.is_ready() && may(arrival.who);
        let place = self.all.iter().position(ready)?;
        Some(self.all.remove(place))
    }

    /// Puts a connection back that could not begin.
    pub(super) fn put_back(&mut self, arrival: Arrival) {
        self.all.insert(0, arrival);
    }
}

impl Arrival {
    fn is_ready(&self) -> bool {
        matches!(self.stage, Stage::Ready)
    }

    /// Returns `true` if the client has shown a certificate or needs none.
    fn is_known(&self) -> bool {
        match &self.stage {
            #[cfg(feature = "tls")]
            Stage::Handshake(_) => false,
            Stage::Header | Stage::Ready => true,
        }
    }

    fn events(&self) -> PollFlags {
        match &self.stage {
            #[cfg(feature = "tls")]
            Stage::Handshake(tls) if tls.wants_to_send() => PollFlags::POLLIN | PollFlags::POLLOUT,
            _ => PollFlags::POLLIN,
        }
    }

    fn turned(self, why: PagesError) -> Turned {
        Turned { peer: self.peer, why }
    }

    /// Goes on as far as the received bytes allow.
    fn advance(&mut self, layout: Option<Layout>) -> Result<(), PagesError> {
        #[cfg(feature = "tls")]
        if let Stage::Handshake(tls) = mem::replace(&mut self.stage, Stage::Header) {
            if let Some(rest) = tls.advance(&mut self.socket)? {
                self.stage = Stage::Handshake(rest);
                return Ok(());
            }
        }
        while let (_, PageStep::More(need)) = PageSession::new(layout).next(&self.head)? {
            let mut piece = [0; 32];
            let missing = need.saturating_sub(self.head.len());
            let room = piece.get_mut(..missing).unwrap_or_default();
            match self.socket.read(room) {
                Ok(0) => return Err(PagesError::Gone(self.head.len() as u64)),
                Ok(size) => self.head.extend(piece.get(..size).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(PagesError::socket("receive")(error)),
            }
        }
        self.socket.put_back(mem::take(&mut self.head));
        self.stage = Stage::Ready;
        Ok(())
    }
}

/// Returns a quarter of the descriptors that this process may open.
fn places() -> usize {
    let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1024, 1024));
    usize::try_from(soft / 4).unwrap_or(usize::MAX)
}
