//! The engine of this node, and calls that signals and deadlines end.

use std::future::Future;
use std::path::PathBuf;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use criu_cri::client::{Client, SOCKETS, default_socket, socket_path};
use criu_cri::{Error, ErrorKind};
use tokio::runtime::{Builder, Runtime};

use crate::fault::Fault;
use crate::progress::Progress;
use crate::signals::{STOP, Signals};

/// Options of all words of `cri`.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Engine")]
pub(super) struct EngineArgs {
    /// The engine's socket, with or without unix://. By default the first that exists of
    /// /run/criu-cri-proxy/cri.sock, /run/containerd/containerd.sock, /run/crio/crio.sock and
    /// /run/cri-dockerd.sock
    #[arg(long, value_name = "SOCKET", global = true, value_parser = socket)]
    endpoint: Option<PathBuf>,
    /// The time that one call to the engine may take, in seconds
    #[arg(long, value_name = "SECONDS", global = true, default_value_t = 120,
        value_parser = clap::value_parser!(u32).range(1..=86_400))]
    timeout: u32,
}

/// A connection to the engine of this node.
pub(super) struct Engine {
    pub(super) client: Client,
    runtime: Runtime,
    signals: Signals,
}

impl EngineArgs {
    /// Seconds that a call may take.
    pub(super) fn seconds(&self) -> i64 {
        i64::from(self.timeout)
    }

    /// Connects to the engine. From then on a signal that asks to stop ends a call.
    pub(super) fn connect(&self) -> Result<Engine, Fault> {
        let socket = match &self.endpoint {
            Some(socket) => socket.clone(),
            None => default_socket().ok_or_else(no_socket)?.to_owned(),
        };
        let signals = Signals::hold(STOP)?;
        let failed = |source| Fault::system("wait for the engine", source);
        let runtime = Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let client = runtime.block_on(Client::connect(socket)).map_err(fault)?;
        let client = client.within(Duration::from_secs(u64::from(self.timeout)));
        Ok(Engine { client, runtime, signals })
    }
}

impl Engine {
    /// Runs calls to their end, and shows their time on a terminal.
    ///
    /// # Errors
    /// The failure of the calls, or the signal that ended them.
    pub(super) fn run<T>(
        &self,
        what: &str,
        calls: impl Future<Output = criu_cri::Result<T>>,
    ) -> Result<T, Fault> {
        self.wait(what, calls, || self.stopped())
    }

    /// Runs a call that makes something, which only the answer tells how to remove. A signal does
    /// not end the wait for the answer: [`Engine::stopped`] returns it afterwards.
    ///
    /// # Errors
    /// The failure of the call.
    pub(super) fn make<T>(
        &self,
        what: &str,
        call: impl Future<Output = criu_cri::Result<T>>,
    ) -> Result<T, Fault> {
        self.wait(what, call, || Ok(()))
    }

    fn wait<T>(
        &self,
        what: &str,
        calls: impl Future<Output = criu_cri::Result<T>>,
        stopped: impl Fn() -> Result<(), Fault>,
    ) -> Result<T, Fault> {
        let progress = Progress::of_time(what);
        let begun = Instant::now();
        self.runtime.block_on(async {
            let mut calls = std::pin::pin!(calls);
            loop {
                if let Ok(done) = tokio::time::timeout(TICK, &mut calls).await {
                    return done.map_err(fault);
                }
                stopped()?;
                if progress.pause().is_some_and(|pause| begun.elapsed() > pause) {
                    progress.show();
                }
            }
        })
    }

    /// Runs work that cannot be ended in another thread, and gives it a listener to the number of
    /// bytes that are done. A signal ends the wait, and the program then ends.
    pub(super) fn work<T: Send + 'static>(
        &self,
        progress: Progress,
        work: impl FnOnce(Box<dyn Fn(u64) + Send + Sync>) -> T + Send + 'static,
    ) -> Result<T, Fault> {
        let tell = Box::new(progress.listener());
        let (done, wait) = mpsc::channel();
        let thread = thread::Builder::new().spawn(move || {
            let _ = done.send(work(tell));
        });
        thread.map_err(|source| Fault::system("start a thread", source))?;
        loop {
            match wait.recv_timeout(TICK) {
                Ok(done) => return Ok(done),
                Err(RecvTimeoutError::Timeout) => self.stopped()?,
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Fault::Failed("the work ended without a result".into()));
                }
            }
        }
    }

    /// Runs calls that undo others. No signal ends them.
    pub(super) fn undo<T>(&self, calls: impl Future<Output = T>) -> T {
        self.runtime.block_on(calls)
    }

    /// Returns the fault of a signal that has come since the last call.
    pub(super) fn stopped(&self) -> Result<(), Fault> {
        match self.signals.next() {
            Some(received) => Err(Fault::Interrupted(received.signal.as_str())),
            None => Ok(()),
        }
    }
}

/// Makes the fault of a failed call.
fn fault(error: Error) -> Fault {
    Fault::Cri { error: Box::new(error), hints: advice }
}

/// Returns what to do about a failed call, in the options of this program.
fn advice(error: &Error) -> Option<&'static str> {
    match error.kind() {
        ErrorKind::Connect(source) if source.kind() != std::io::ErrorKind::PermissionDenied => {
            Some("start the engine, or name its socket with --endpoint")
        }
        ErrorKind::Deadline(_) => Some("give the call more time with --timeout"),
        ErrorKind::Refused { code: criu_cri::Code::NotFound, .. } => {
            Some("look at `criu-rs cri list` for what is there")
        }
        _ => error.advice(),
    }
}

fn no_socket() -> Fault {
    let sockets = SOCKETS.join(", ");
    Fault::Failed(format!(
        "there is no engine on this node: none of {sockets} exists; name its socket with --endpoint"
    ))
}

fn socket(text: &str) -> Result<PathBuf, String> {
    socket_path(text).ok_or_else(|| "the absolute path of a Unix socket is wanted".into())
}

/// Time between two looks at the signals.
const TICK: Duration = Duration::from_millis(50);
