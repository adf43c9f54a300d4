//! Requests to a coordinator.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use criu_rs::pages::LocalUsers;
use criu_rs::{Cancel, Tls};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::geteuid;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use super::answer::{Answer, MAX_ANSWER};
use super::error::CoordinatorError;
use super::line::Line;
use super::message::{Graph, KUBESCR, Request, What};
use super::step::Step;

/// The way to a coordinator: its address, and how long an answer may take.
///
/// ```
/// use criu_cri::coordinator::Client;
/// use std::time::Duration;
///
/// let client = Client::new("127.0.0.1:8080").limit(Duration::from_secs(120));
/// # drop(client);
/// ```
#[derive(Clone, Debug)]
pub struct Client {
    address: String,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    exposed: bool,
    other_users: bool,
    limit: Duration,
    cancel: Option<Cancel>,
}

/// A connection that tells the coordinator that a member lives.
#[derive(Debug)]
pub(super) struct Held {
    _line: Line,
}

impl Client {
    /// The way to a coordinator at `HOST:PORT`, without TLS. An answer may take 60 seconds.
    pub fn new(address: impl Into<String>) -> Self {
        let limit = Duration::from_secs(60);
        let address = address.into();
        Self { address, tls: None, exposed: false, other_users: false, limit, cancel: None }
    }

    /// Speaks TLS. The coordinator's certificate has to be for the host of the address, unless
    /// [any name](Tls::any_name) is accepted.
    ///
    /// # Errors
    /// [`CoordinatorError::Invalid`] for an address without a port, and
    /// [`CoordinatorError::Pages`] if a file cannot be used.
    pub fn tls(mut self, tls: &Tls) -> Result<Self, CoordinatorError> {
        let (host, _) = self.address.rsplit_once(':').ok_or_else(|| self.no_port())?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned());
        let name = name.map_err(|_| CoordinatorError::Invalid(format!("{host:?} is no host")))?;
        self.tls = Some((tls.client_config(host)?, name));
        Ok(self)
    }

    /// Allows a coordinator on another machine without TLS. Whoever is between can read and forge
    /// what is said.
    #[must_use]
    pub fn exposed(mut self, on: bool) -> Self {
        self.exposed = on;
        self
    }

    /// Trusts a coordinator of any user of this machine. By default a coordinator that is reached
    /// without TLS on a loopback address has to run as this process's user or as root, and others
    /// are refused.
    #[must_use]
    pub fn other_users(mut self, on: bool) -> Self {
        self.other_users = on;
        self
    }

    /// Sets the time for connecting to the coordinator and for its answer: 60 seconds by default.
    ///
    /// The coordinator waits for the other members up to a [limit](super::Limits::barrier) of its
    /// own. If this time is shorter, the request may fail before the coordinator answers. Its job
    /// then fails.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Ends a wait when `cancel` is cancelled.
    #[must_use]
    pub fn cancel(mut self, cancel: &Cancel) -> Self {
        self.cancel = Some(cancel.clone());
        self
    }

    /// Sets the dependencies of members that name none themselves. With TLS this needs a
    /// certificate that names `kubescr`.
    ///
    /// # Errors
    /// [`CoordinatorError`].
    pub fn add_dependencies(&self, graph: Graph) -> Result<(), CoordinatorError> {
        let request = Request { id: KUBESCR.to_owned(), what: What::AddDependencies(graph) };
        self.ask(&request).map(drop)
    }

    /// Asks to go on at a step. Returns after the coordinator has agreed.
    ///
    /// # Errors
    /// [`CoordinatorError`].
    pub fn step(&self, id: &str, step: Step, needs: &[String]) -> Result<(), CoordinatorError> {
        let what = What::Step { step, needs: needs.to_vec(), hold: false };
        self.ask(&Request { id: id.to_owned(), what }).map(drop)
    }

    /// Sends a request and waits for the answer. Returns the connection if it is held.
    pub(super) fn ask(&self, request: &Request) -> Result<Option<Held>, CoordinatorError> {
        let (step, hold) = match &request.what {
            What::Step { step, hold, .. } => (step.name(), *hold),
            What::AddDependencies(_) => ("add-dependencies", false),
        };
        let end = Instant::now().checked_add(self.limit);
        let wait = Wait { client: self, step, end };
        let mut line = self.connect(&wait)?;
        wait.send(&mut line, request.to_json().as_bytes())?;
        let text = wait.answer(&mut line, hold)?;
        let unknown = || CoordinatorError::Unknown(shown(&text));
        match Answer::parse(&text).ok_or_else(unknown)? {
            Answer::Ack => Ok(hold.then_some(Held { _line: line })),
            answer => {
                let (id, step) = (request.id.clone(), step.to_owned());
                Err(CoordinatorError::Answer { id, step, answer })
            }
        }
    }

    fn connect(&self, wait: &Wait<'_>) -> Result<Line, CoordinatorError> {
        let failed = |source| CoordinatorError::Connect { address: self.address.clone(), source };
        if !self.address.contains(':') {
            return Err(self.no_port());
        }
        let name = self.address.clone();
        let found = wait.aside(move || name.to_socket_addrs())?;
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for address in found.map_err(failed)? {
            if self.tls.is_none() && !self.exposed && !address.ip().is_loopback() {
                return Err(CoordinatorError::Unprotected(address.to_string()));
            }
            let left = wait.left()?.min(CONNECT).max(Duration::from_millis(1));
            match wait.aside(move || TcpStream::connect_timeout(&address, left))? {
                Ok(socket) => {
                    self.check_owner(&socket, address, wait)?;
                    return Line::connected(socket, self.tls.as_ref());
                }
                Err(error) => last = error,
            }
        }
        Err(failed(last))
    }

    /// Refuses a coordinator that another user of this machine runs. Waits until the coordinator
    /// accepts the connection.
    fn check_owner(
        &self,
        socket: &TcpStream,
        address: SocketAddr,
        wait: &Wait<'_>,
    ) -> Result<(), CoordinatorError> {
        if self.tls.is_some() || self.other_users || !address.ip().is_loopback() {
            return Ok(());
        }
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::NotConnected => wait.failed(error),
            io::ErrorKind::NotFound => {
                let why = "the kernel does not know the connection, which may have ended";
                wait.failed(io::Error::new(error.kind(), why))
            }
            _ => CoordinatorError::system("find out who the coordinator is")(error),
        };
        let mut pause = Duration::from_millis(1);
        let user = loop {
            if let Some(user) = LocalUsers::accepted_by(socket).map_err(failed)? {
                break user;
            }
            wait.pause(pause)?;
            pause = (pause * 2).min(LOOK);
        };
        if user == 0 || user == geteuid().as_raw() {
            return Ok(());
        }
        Err(CoordinatorError::Stranger { address: self.address.clone(), user })
    }

    fn no_port(&self) -> CoordinatorError {
        CoordinatorError::Invalid(format!("{:?} is no HOST:PORT", self.address))
    }
}

/// A request that waits.
struct Wait<'c> {
    client: &'c Client,
    step: &'static str,
    /// The end of the time, unless it is too far away to tell.
    end: Option<Instant>,
}

impl Wait<'_> {
    fn left(&self) -> Result<Duration, CoordinatorError> {
        let left = match self.end {
            Some(end) => end.saturating_duration_since(Instant::now()),
            None => Duration::MAX,
        };
        if left.is_zero() {
            let (step, limit) = (self.step.to_owned(), self.client.limit);
            return Err(CoordinatorError::Deadline { step, limit });
        }
        Ok(left)
    }

    /// Calls a function that may take longer than this wait, in a thread that is left alone then.
    fn aside<T: Send + 'static>(
        &self,
        call: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, CoordinatorError> {
        let (done, result) = mpsc::sync_channel(1);
        // Nobody may wait for the result any more.
        let thread = thread::Builder::new().spawn(move || drop(done.send(call())));
        thread.map_err(CoordinatorError::system("start a thread"))?;
        loop {
            match result.recv_timeout(self.left()?.min(LOOK)) {
                Ok(result) => return Ok(result),
                Err(RecvTimeoutError::Timeout) => self.check_cancelled()?,
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(self.failed(io::Error::other("the thread that connects has ended")));
                }
            }
        }
    }

    /// Waits for some time, and no longer than the limit or a cancellation.
    fn pause(&self, time: Duration) -> Result<(), CoordinatorError> {
        thread::sleep(self.left()?.min(time));
        self.check_cancelled()
    }

    fn check_cancelled(&self) -> Result<(), CoordinatorError> {
        if self.client.cancel.as_ref().is_some_and(Cancel::is_cancelled) {
            return Err(CoordinatorError::Cancelled(self.step.to_owned()));
        }
        Ok(())
    }

    fn failed(&self, source: io::Error) -> CoordinatorError {
        let (address, step) = (self.client.address.clone(), self.step.to_owned());
        CoordinatorError::Connection { address, step, source }
    }

    fn send(&self, line: &mut Line, mut bytes: &[u8]) -> Result<(), CoordinatorError> {
        while !bytes.is_empty() {
            match line.write(bytes) {
                Ok(0) => return Err(self.failed(io::ErrorKind::WriteZero.into())),
                Ok(size) => bytes = bytes.get(size..).unwrap_or_default(),
                Err(error) => self.or_wait(line, error, true)?,
            }
        }
        loop {
            match line.flush() {
                Ok(()) => return Ok(()),
                Err(error) => self.or_wait(line, error, true)?,
            }
        }
    }

    /// Reads an answer to the end of the connection. The connection of an `ACK` may stay, if
    /// `hold`.
    fn answer(&self, line: &mut Line, hold: bool) -> Result<Vec<u8>, CoordinatorError> {
        let mut text = Vec::new();
        let mut buffer = [0; 1024];
        while text.len() <= MAX_ANSWER && !(hold && Answer::parse(&text) == Some(Answer::Ack)) {
            match line.read(&mut buffer) {
                Ok(0) if text.is_empty() => {
                    let why = "the connection has ended without an answer";
                    let source = io::Error::new(io::ErrorKind::UnexpectedEof, why);
                    return Err(self.failed(source));
                }
                Ok(0) => break,
                Ok(size) => text.extend_from_slice(buffer.get(..size).unwrap_or_default()),
                Err(error) => self.or_wait(line, error, false)?,
            }
        }
        Ok(text)
    }

    /// Waits until a call that would have waited can be made again. Other errors are returned.
    fn or_wait(&self, line: &Line, error: io::Error, sends: bool) -> Result<(), CoordinatorError> {
        match error.kind() {
            io::ErrorKind::WouldBlock => {}
            io::ErrorKind::Interrupted => return Ok(()),
            _ => return Err(self.failed(error)),
        }
        let mut flags = PollFlags::POLLIN;
        // TLS may have to receive before it can send.
        let sends = sends && matches!(line, Line::Plain(_));
        flags.set(PollFlags::POLLOUT, sends || line.wants_write());
        let mut fds = vec![PollFd::new(line.socket().as_fd(), flags)];
        if let Some(cancel) = &self.client.cancel {
            fds.push(PollFd::new(cancel.as_fd(), PollFlags::POLLIN));
        }
        let timeout = PollTimeout::try_from(self.left()?).unwrap_or(PollTimeout::MAX);
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(source) => return Err(self.failed(source.into())),
        }
        if fds.get(1).is_some_and(|fd| fd.any() == Some(true)) {
            return Err(CoordinatorError::Cancelled(self.step.to_owned()));
        }
        Ok(())
    }
}

/// Shows the beginning of text that is no answer.
fn shown(text: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(text).chars().take(80).collect();
    format!("{text:?}")
}

/// Time that connecting to one address may take.
const CONNECT: Duration = Duration::from_secs(10);

/// Longest time between two looks at a cancellation, or at who has accepted a connection.
const LOOK: Duration = Duration::from_millis(20);
