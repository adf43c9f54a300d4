//! A coordinator that listens: one thread, and no call that waits for a single client.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criu_rs::pages::LocalUsers;
use criu_rs::{Cancel, Tls};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustls::ServerConfig;

use super::answer::Answer;
use super::connection::{Client, Gone, Part};
use super::error::CoordinatorError;
use super::event::Event;
use super::jobs::{Deed, Jobs, Ticket};
use super::limits::Limits;
use super::line::Line;
use super::message::{Graph, Request, Scan, check_row};

/// A coordinator, before it listens.
///
/// Without TLS it listens on loopback addresses only, and serves this process's user and root.
///
/// ```no_run
/// use criu_cri::coordinator::Server;
/// use criu_rs::{Cancel, Tls};
///
/// let tls = Tls::new().ca("ca.pem").certificate("node-1.pem").key("node-1.key");
/// let listening = Server::new().tls(&tls)?.listen("192.0.2.1:8080".parse()?)?;
/// listening.run(&Cancel::new()?, |event| eprintln!("{event:?}"))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "the coordinator listens after `listen`"]
pub struct Server {
    limits: Limits,
    tls: Option<Arc<ServerConfig>>,
    graph: Graph,
    exposed: bool,
    other_users: bool,
}

/// A coordinator that listens.
#[derive(Debug)]
#[must_use = "the coordinator serves nobody until it runs"]
pub struct Listening {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<Arc<ServerConfig>>,
    users: Option<LocalUsers>,
    limits: Limits,
    jobs: Jobs,
    clients: BTreeMap<Ticket, Client>,
    tickets: Ticket,
    /// The end of a shortage of descriptors, during which no connection is accepted.
    short_until: Option<Instant>,
}

impl Server {
    /// A coordinator without TLS.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets what the coordinator accepts.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Speaks TLS. A client may use the ids that its certificate names: as the common name, or as
    /// alternative names of hosts. The id `kubescr`, which sets dependencies, is one of these.
    ///
    /// # Errors
    /// [`CoordinatorError::Pages`] if a file cannot be used.
    pub fn tls(mut self, tls: &Tls) -> Result<Self, CoordinatorError> {
        self.tls = Some(tls.server_config()?);
        Ok(self)
    }

    /// Sets the dependencies of members that name none themselves. They count in both directions.
    ///
    /// # Errors
    /// [`CoordinatorError::Invalid`] for an id that is empty, too long, or has a colon or a control
    /// character, and for more than 1,024 dependencies of a member or more members than the limit.
    pub fn graph(mut self, graph: Graph) -> Result<Self, CoordinatorError> {
        let checked = graph.iter().try_for_each(|(id, needs)| check_row(id, needs));
        checked.map_err(CoordinatorError::Invalid)?;
        let (rows, limit) = (graph.len(), self.limits.members);
        if rows > limit {
            let why = format!("dependencies of {rows} members, and {limit} are the limit");
            return Err(CoordinatorError::Invalid(why));
        }
        self.graph = graph;
        Ok(self)
    }

    /// Allows an address that other machines can reach, without TLS. Everybody who can connect can
    /// join a job under any id, and let it fail.
    pub fn exposed(mut self, on: bool) -> Self {
        self.exposed = on;
        self
    }

    /// Serves every user of this machine on a loopback address. By default this process's user and
    /// root are served. With TLS, certificates are looked at and not users.
    pub fn other_users(mut self, on: bool) -> Self {
        self.other_users = on;
        self
    }

    /// Listens. With port 0 the system chooses the port.
    ///
    /// # Errors
    /// [`CoordinatorError::Exposed`] for an address that other machines can reach, without TLS;
    /// [`CoordinatorError::System`].
    pub fn listen(self, address: SocketAddr) -> Result<Listening, CoordinatorError> {
        let is_local = address.ip().is_loopback();
        if self.tls.is_none() && !is_local && !self.exposed {
            return Err(CoordinatorError::Exposed(address.to_string()));
        }
        let failed = CoordinatorError::system("listen");
        let listener = TcpListener::bind(address).map_err(&failed)?;
        listener.set_nonblocking(true).map_err(&failed)?;
        let address = listener.local_addr().map_err(&failed)?;
        let is_checked = self.tls.is_none() && is_local && !self.other_users;
        let users = is_checked.then(|| LocalUsers::of(&listener)).transpose();
        let users = users.map_err(CoordinatorError::system("find out which users connect"))?;
        Ok(Listening {
            listener,
            address,
            tls: self.tls,
            users,
            jobs: Jobs::new(self.limits.clone(), self.graph),
            limits: self.limits,
            clients: BTreeMap::new(),
            tickets: 0,
            short_until: None,
        })
    }
}

impl Listening {
    /// Returns the address with the port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves members until `stop` is cancelled, and calls `note` for each event. Members that wait
    /// then lose their connections, and fail.
    ///
    /// # Errors
    /// [`CoordinatorError::System`] if the system does not let the coordinator wait for clients. An
    /// error of a client ends that client's connection only.
    pub fn run(
        mut self,
        stop: &Cancel,
        mut note: impl FnMut(&Event),
    ) -> Result<(), CoordinatorError> {
        while !stop.is_cancelled() {
            let ready = self.wait(stop)?;
            self.accept();
            let mut deeds = Vec::new();
            for ticket in ready {
                deeds.extend(self.serve(ticket));
            }
            let now = Instant::now();
            deeds.extend(self.jobs.expire(now));
            self.close_late(now, &mut deeds);
            self.apply(deeds, &mut note);
        }
        Ok(())
    }

    /// Waits until a client, the listener or a limit of time needs attention. Returns the clients.
    fn wait(&self, stop: &Cancel) -> Result<Vec<Ticket>, CoordinatorError> {
        let mut fds = vec![PollFd::new(stop.as_fd(), PollFlags::POLLIN)];
        let listens = self.short_until.is_none_or(|until| until <= Instant::now());
        let flags = if listens { PollFlags::POLLIN } else { PollFlags::empty() };
        fds.push(PollFd::new(self.listener.as_fd(), flags));
        for client in self.clients.values() {
            let mut flags = PollFlags::POLLIN;
            flags.set(PollFlags::POLLOUT, !client.unsent.is_empty() || client.line.wants_write());
            fds.push(PollFd::new(client.line.socket().as_fd(), flags));
        }
        let ends = self.clients.values().filter_map(|client| client.end);
        let next = ends.chain(self.jobs.next_end()).chain(self.short_until).min();
        let timeout = next.map_or(PollTimeout::NONE, |next| {
            // A millisecond more, so that the time is over after the wait.
            let left = next.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
        });
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(source) => return Err(CoordinatorError::system("wait for clients")(source.into())),
        }
        let clients = self.clients.keys().zip(fds.iter().skip(2));
        Ok(clients.filter(|(_, fd)| fd.any() == Some(true)).map(|(ticket, _)| *ticket).collect())
    }

    /// Accepts connections that have come.
    fn accept(&mut self) {
        if self.short_until.is_some_and(|until| until > Instant::now()) {
            return;
        }
        self.short_until = None;
        for _ in 0..AT_ONCE {
            let socket = match self.listener.accept() {
                Ok((socket, _)) => socket,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if is_shortage(&error) && self.give_way() => continue,
                Err(error) if is_shortage(&error) => {
                    self.short_until = Instant::now().checked_add(SHORTAGE);
                    return;
                }
                // The client has gone before it was accepted.
                Err(_) => continue,
            };
            if self.clients.len() >= self.limits.connections && !self.give_way() {
                continue;
            }
            let refused = self.users.as_ref().and_then(|users| users.check(&socket).err());
            let Ok(line) = Line::accepted(socket, self.tls.as_ref()) else { continue };
            let part = Part::Asks { scan: Scan::default(), request: Vec::new() };
            let end = Instant::now().checked_add(self.limits.first);
            let mut client = Client { line, end, unsent: Vec::new(), part };
            if let Some(error) = refused {
                client.answer(&Answer::Refused(error.to_string()));
            }
            self.tickets += 1;
            self.clients.insert(self.tickets, client);
        }
    }

    /// Closes the oldest connection without a whole request, or else the oldest whose answer goes
    /// out. Returns `false` if all wait.
    fn give_way(&mut self) -> bool {
        let oldest = |is_of: fn(&Part) -> bool| {
            let mut clients = self.clients.iter();
            clients.find(|(_, client)| is_of(&client.part)).map(|(ticket, _)| *ticket)
        };
        let oldest = oldest(|part| matches!(part, Part::Asks { .. }))
            .or_else(|| oldest(|part| matches!(part, Part::Ends { .. })));
        oldest.is_some_and(|ticket| self.clients.remove(&ticket).is_some())
    }

    /// Goes on with a client as far as possible without waiting.
    fn serve(&mut self, ticket: Ticket) -> Vec<Deed> {
        let Some(client) = self.clients.get_mut(&ticket) else { return Vec::new() };
        match client.advance() {
            Ok(None) => Vec::new(),
            Ok(Some(text)) => {
                let request = Request::parse(&text).and_then(|request| client.may_be(request));
                match request {
                    Ok(request) => {
                        client.part = Part::Waits;
                        client.end = None;
                        self.jobs.request(ticket, request, Instant::now())
                    }
                    Err(why) => {
                        client.answer(&Answer::Refused(why));
                        Vec::new()
                    }
                }
            }
            Err(Gone) => {
                self.clients.remove(&ticket);
                self.jobs.gone(ticket)
            }
        }
    }

    fn close_late(&mut self, now: Instant, deeds: &mut Vec<Deed>) {
        let is_late = |client: &Client| client.end.is_some_and(|end| end <= now);
        let late = self.clients.iter().filter(|(_, client)| is_late(client));
        for ticket in late.map(|(ticket, _)| *ticket).collect::<Vec<_>>() {
            self.clients.remove(&ticket);
            deeds.extend(self.jobs.gone(ticket));
        }
    }

    fn apply(&mut self, deeds: Vec<Deed>, note: &mut impl FnMut(&Event)) {
        for deed in deeds {
            match deed {
                Deed::Answer { ticket, answer, hold } => {
                    if let Some(client) = self.clients.get_mut(&ticket) {
                        if hold { client.tell(&answer) } else { client.answer(&answer) }
                    }
                }
                Deed::Close(ticket) => {
                    if let Some(client) = self.clients.get_mut(&ticket) {
                        client.finish();
                    }
                }
                Deed::Note(event) => note(&event),
            }
        }
    }
}

fn is_shortage(error: &io::Error) -> bool {
    let short = [Errno::EMFILE, Errno::ENFILE, Errno::ENOBUFS, Errno::ENOMEM];
    error.raw_os_error().is_some_and(|errno| short.contains(&Errno::from_raw(errno)))
}

/// Connections that are accepted before those that are there get their turn.
const AT_ONCE: usize = 64;

/// Time without new connections when descriptors or memory are short.
const SHORTAGE: Duration = Duration::from_millis(100);
