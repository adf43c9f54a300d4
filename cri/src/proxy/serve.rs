//! The server: takes connections until it is to end.

use std::fmt;
use std::future::Future;
use std::io;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http2::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use nix::sys::socket::{MsgFlags, getsockopt, recv, sockopt::PeerCredentials};
use nix::unistd::geteuid;
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};

use super::answer::Answer;
use super::authority::Named;
use super::bounds::{
    CALLS_OF_CONNECTION, CLIENT_CONNECTION_WINDOW, CONNECTIONS, HEADERS, SEND_BUFFER, STREAM_WINDOW,
};
use super::clients::{Clients, Entry};
use super::forward::Desk;
use super::notice::{Notice, Tell};
use super::phase::{Count, Phase, Phases};
use super::socket::Listening;
use super::upstream::Upstream;

/// A proxy in front of an engine.
pub struct Proxy {
    engine: PathBuf,
    answer: Option<Arc<dyn Answer>>,
    grace: Duration,
    tell: Tell,
}

impl Proxy {
    /// A proxy in front of the engine at a socket.
    pub fn new(engine: impl Into<PathBuf>) -> Self {
        Self { engine: engine.into(), answer: None, grace: GRACE, tell: Arc::new(|_| {}) }
    }

    /// Lets `answer` have a part in methods.
    #[must_use]
    pub fn answer(self, answer: Arc<dyn Answer>) -> Self {
        Self { answer: Some(answer), ..self }
    }

    /// Sets the time that calls have to end when the proxy ends; 10 s by default. An
    /// [`Answer`] is told to come to an end, and its calls to the engine have this time, too.
    #[must_use]
    pub fn grace(self, grace: Duration) -> Self {
        Self { grace, ..self }
    }

    /// Sets a receiver of notices, for a log.
    #[must_use]
    pub fn tell(self, tell: impl Fn(Notice) + Send + Sync + 'static) -> Self {
        Self { tell: Arc::new(tell), ..self }
    }

    /// Serves connections until `end`, then lets calls end and returns.
    ///
    /// # Errors
    /// If the socket cannot be used. Connections and calls that fail are told as notices.
    pub async fn run(self, listening: Listening, end: impl Future<Output = ()>) -> io::Result<()> {
        let listener = listening.listener()?;
        let upstream = Upstream::new(self.engine, Arc::clone(&self.tell));
        let phases = Phases::new();
        let desk = Arc::new(Desk {
            upstream,
            answer: self.answer,
            phases: phases.clone(),
            calls: Count::new(),
            grace: self.grace,
            answers: Count::new(),
        });
        let (clients, open) = (Arc::new(Clients::default()), Count::new());
        let mut end = std::pin::pin!(end);
        loop {
            let accepted = tokio::select! {
                biased;
                () = &mut end => break,
                accepted = listener.accept() => accepted,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    (self.tell)(Notice::Accept(error.to_string()));
                    // A shortage of descriptors or memory: others have to end first.
                    sleep(SHORTAGE).await;
                    continue;
                }
            };
            if let Some(notice) = stranger(&stream) {
                (self.tell)(notice);
                continue;
            }
            let Some(entry) = clients.add(CONNECTIONS) else {
                (self.tell)(Notice::Accept(format!("all {CONNECTIONS} have calls")));
                continue;
            };
            let (desk, tell, is_open) = (Arc::clone(&desk), Arc::clone(&self.tell), open.one());
            tokio::spawn(async move {
                serve(stream, entry, desk, &tell).await;
                drop(is_open);
            });
        }
        // A socket of a service manager stays, and has a queue for the next proxy.
        drop(listener);
        drop(listening);
        (self.tell)(Notice::Ending(desk.calls.now()));
        phases.go_on_to(Phase::Ending);
        if timeout(self.grace, open.none()).await.is_err() {
            (self.tell)(Notice::Cut(desk.calls.now()));
            phases.go_on_to(Phase::Cutting);
        }
        // An answer may have a pod in its hands.
        desk.answers.none().await;
        let _ = timeout(LAST, open.none()).await;
        Ok(())
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").field("engine", &self.engine).finish_non_exhaustive()
    }
}

/// Serves one connection to its end.
async fn serve(mut stream: UnixStream, entry: Entry, desk: Arc<Desk>, tell: &Tell) {
    let client = Arc::clone(&entry.client);
    let phases = desk.phases.clone();
    let begun = tokio::select! {
        begun = timeout(PREFACE, begins_with_preface(&stream)) => begun,
        () = client.end.notified() => return,
        () = phases.reaches(Phase::Ending) => return,
    };
    match begun {
        Ok(Ok(true)) => {}
        Ok(Ok(false)) => {
            tell(Notice::Foreign);
            let _ = timeout(PREFACE, stream.write_all(FOREIGN)).await;
            return;
        }
        Ok(Err(_)) | Err(_) => return,
    }
    let of_calls = Arc::clone(&client);
    let service = service_fn(move |request| {
        let (desk, running) = (Arc::clone(&desk), of_calls.run());
        async move { desk.take(request, running).await }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .auto_date_header(false)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CLIENT_CONNECTION_WINDOW)
        .max_concurrent_streams(CALLS_OF_CONNECTION)
        .max_header_list_size(HEADERS)
        .max_send_buf_size(SEND_BUFFER);
    let connection = builder.serve_connection(TokioIo::new(Named::new(stream)), service);
    let mut connection = std::pin::pin!(connection);
    // A client that breaks off has no one to tell, and its calls have been reset.
    let is_ending = tokio::select! {
        _ = connection.as_mut() => return,
        () = client.end.notified() => false,
        () = phases.reaches(Phase::Ending) => true,
    };
    connection.as_mut().graceful_shutdown();
    if is_ending {
        tokio::select! {
            _ = connection.as_mut() => return,
            () = phases.reaches(Phase::Cutting) => {}
        }
    }
    let _ = timeout(LAST, connection).await;
}

/// Returns the notice about a process that may not connect. The socket's mode has kept others out
/// already, unless somebody has changed the mode.
fn stranger(stream: &UnixStream) -> Option<Notice> {
    match getsockopt(stream, PeerCredentials) {
        Ok(peer) if peer.uid() == 0 || peer.uid() == geteuid().as_raw() => None,
        Ok(peer) => {
            // A process of another pid namespace has no number here.
            let pid = Some(peer.pid()).filter(|pid| *pid > 0);
            Some(Notice::Stranger(peer.uid(), pid))
        }
        Err(errno) => Some(Notice::Accept(errno.to_string())),
    }
}

/// Returns true if the client begins as HTTP/2 does. The bytes stay in the socket.
async fn begins_with_preface(stream: &UnixStream) -> io::Result<bool> {
    let mut bytes = [0; PREFACE_BYTES.len()];
    let mut seen = 0;
    loop {
        stream.readable().await?;
        let peek = || {
            let read = recv(stream.as_raw_fd(), &mut bytes, MsgFlags::MSG_PEEK);
            read.map_err(io::Error::from)
        };
        let count = match stream.try_io(Interest::READABLE, peek) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        };
        let begins = bytes.get(..count).is_some_and(|found| PREFACE_BYTES.starts_with(found));
        if !begins || count == 0 {
            return Ok(false);
        }
        if count == PREFACE_BYTES.len() {
            return Ok(true);
        }
        // The socket stays readable: only time tells if more comes.
        if count == seen {
            sleep(TRICKLE).await;
        }
        seen = count;
    }
}

/// The first bytes of HTTP/2.
const PREFACE_BYTES: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The answer to a client that speaks HTTP/1 or anything else.
const FOREIGN: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\n\
    Content-Length: 52\r\nConnection: close\r\n\r\n\
    this socket takes gRPC calls, which are HTTP/2 only\n";

/// Time for a client's first bytes.
const PREFACE: Duration = Duration::from_secs(5);

/// Time between two looks for more of the first bytes.
const TRICKLE: Duration = Duration::from_millis(20);

/// Time that calls have to end, by default.
const GRACE: Duration = Duration::from_secs(10);

/// Time for the last frames of a connection.
const LAST: Duration = Duration::from_secs(1);

/// Time to wait when no connection can be taken.
const SHORTAGE: Duration = Duration::from_millis(100);
