//! The connections of a page server that are not sessions yet.

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
/// No call waits. A connection costs a descriptor and some hundred bytes. With TLS it costs some
/// KiB, and 256 KiB when both ends have agreed.
#[derive(Debug)]
pub(super) struct Waiting {
    places: usize,
    /// The places that all clients together may have that are not the server's own user or root.
    others: usize,
    /// The time for agreeing on TLS.
    first: Duration,
    /// The time for the first header, if limited.
    header: Option<Duration>,
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
    since: Instant,
    /// The end of the time for what comes next, if limited.
    until: Option<Instant>,
    /// The bytes of the first header that have come.
    head: Vec<u8>,
    /// The size of the first header, when all of it has come.
    came: u64,
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
        let places = front.limits.waiting.clamp(2, places().max(2));
        Self {
            places,
            others: for_others(places),
            first: front.limits.first,
            header: front.limits.idle.map(|idle| idle.max(front.limits.first)),
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

    /// Returns `true` if a new connection of the server's own user would find no place.
    pub(super) fn is_full(&self, now: Instant) -> bool {
        let stays = |arrival: &Arrival| arrival.who == Who::Own && !arrival.is_idle(now);
        self.all.len() >= self.places && self.all.iter().all(stays)
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
        let time = if matches!(stage, Stage::Header) { self.header } else { Some(self.first) };
        let until = time.and_then(|time| now.checked_add(time));
        let arrival =
            Arrival { socket, who, peer, stage, since: now, until, head: Vec::new(), came: 0 };
        let has = |is: &dyn Fn(Who) -> bool| self.all.iter().filter(|it| is(it.who)).count();
        let victim = if who != Who::Own && has(&|other| other == who) >= self.places / 2 {
            self.victim(|other| other.who == who && !other.is_ready())
        } else if who != Who::Own && has(&|other| other != Who::Own) >= self.others {
            self.victim(|other| other.who != Who::Own)
        } else if self.all.len() < self.places {
            self.all.push(arrival);
            return None;
        } else {
            self.victim(|it| it.who != Who::Own || (who == Who::Own && it.is_idle(now)))
        };
        let Some(victim) = victim else { return Some(arrival.turned(PagesError::Full)) };
        let turned = self.all.remove(victim).turned(PagesError::Displaced);
        self.all.push(arrival);
        Some(turned)
    }

    fn begin(&self, socket: &mut Socket) -> Result<Stage, PagesError> {
        socket.never_wait().map_err(PagesError::socket("set up the connection"))?;
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            return Ok(Stage::Handshake(tls.begin()?));
        }
        Ok(Stage::Header)
    }

    /// Ends a silent connection, to make room. The server's own user and root keep theirs.
    pub(super) fn give_way(&mut self) -> Option<Turned> {
        let victim = self.victim(|arrival| arrival.who != Who::Own && !arrival.is_ready())?;
        Some(self.all.remove(victim).turned(PagesError::Displaced))
    }

    /// Returns the place of the connection that is ended first of those that may be: one without a
    /// certificate before one with, a silent one before one that waits for its session, one of the
    /// peer that has most. Of these the oldest silent one is ended, or the newest other one.
    fn victim(&self, may: impl Fn(&Arrival) -> bool) -> Option<usize> {
        let mut shares: HashMap<Who, usize> = HashMap::new();
        for arrival in &self.all {
            *shares.entry(arrival.who).or_default() += 1;
        }
        let those = self.all.iter().enumerate().filter(|(_, arrival)| may(arrival));
        let (victim, _) = those.max_by_key(|(place, arrival)| {
            let share = shares.get(&arrival.who).copied().unwrap_or(0);
            let (is_own, is_ready) = (arrival.who == Who::Own, arrival.is_ready());
            let age = if is_ready { *place } else { self.all.len() - place };
            (!is_own, !is_ready, !arrival.is_known(), share, age)
        })?;
        Some(victim)
    }

    /// Returns the descriptors to wait for, in the order of the connections that are watched.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = PollFd<'_>> {
        let watched = self.all.iter().filter(|arrival| arrival.is_watched());
        watched.map(|arrival| PollFd::new(arrival.socket.as_fd(), arrival.events()))
    }

    /// Returns the moment at which the next silent connection has taken too long, or may give way
    /// where no place is free.
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        let full = self.is_full(now);
        let young = move |arrival: &Arrival| arrival.since.checked_add(YOUNG).filter(|_| full);
        let silent = self.all.iter().filter(|arrival| !arrival.is_ready());
        silent.flat_map(|arrival| arrival.until.into_iter().chain(young(arrival))).min()
    }

    /// Gives silent connections an end that have none.
    pub(super) fn bound(&mut self, now: Instant) {
        for arrival in self.all.iter_mut().filter(|arrival| !arrival.is_ready()) {
            arrival.until = arrival.until.or_else(|| now.checked_add(self.first));
        }
    }

    /// Goes on with the connections whose descriptors are ready, in the order of
    /// [`descriptors`](Self::descriptors). Returns those that become no sessions.
    pub(super) fn advance(&mut self, ready: &[bool], now: Instant) -> Vec<Turned> {
        let (mut kept, mut turned) = (Vec::with_capacity(self.all.len()), Vec::new());
        let mut ready = ready.iter();
        for mut arrival in mem::take(&mut self.all) {
            if !arrival.is_watched() {
                kept.push(arrival);
                continue;
            }
            let stirs = ready.next().copied().unwrap_or(false);
            let was_known = arrival.is_known();
            let went = match arrival.stage {
                Stage::Ready if stirs => Err(PagesError::Gone(arrival.came)),
                _ if stirs => arrival.advance(self.layout),
                _ => Ok(()),
            };
            if !was_known && arrival.is_known() {
                arrival.until = self.header.and_then(|header| now.checked_add(header));
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
            // What comes is for the session to read: only the end matters.
            Stage::Ready => PollFlags::from_bits_retain(libc::POLLRDHUP),
            _ => PollFlags::POLLIN,
        }
    }

    /// Returns `true` if the connection is looked at before its session begins. A client of the
    /// server's own user may send all and end its side while it waits for a place.
    fn is_watched(&self) -> bool {
        !self.is_ready() || self.who != Who::Own
    }

    /// Returns `true` for a connection that has been silent for longer than a dump is that has
    /// connected.
    fn is_idle(&self, now: Instant) -> bool {
        !self.is_ready() && now.saturating_duration_since(self.since) >= YOUNG
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
        self.came = self.head.len() as u64;
        self.socket.put_back(mem::take(&mut self.head));
        self.stage = Stage::Ready;
        Ok(())
    }
}

/// Returns the places of so many that are for others than the server's own user and root: three
/// quarters, and one at least.
pub(super) fn for_others(places: usize) -> usize {
    places.saturating_sub(places.div_ceil(4)).max(1)
}

/// The time for which a silent connection of the server's own user or of root gives way to nobody:
/// CRIU connects before it freezes the tasks, which may take 10 seconds.
const YOUNG: Duration = Duration::from_secs(15);

/// Returns a quarter of the descriptors that this process may open.
fn places() -> usize {
    let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1024, 1024));
    usize::try_from(soft / 4).unwrap_or(usize::MAX)
}
