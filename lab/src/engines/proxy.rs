//! A running `criu-cri-proxy`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::place::Short;
use crate::wait::{soon, within};

/// A running proxy. It is killed when the value is dropped.
#[derive(Debug)]
pub struct CriProxy {
    child: Child,
    socket: PathBuf,
    log: PathBuf,
    /// A short path of the socket's folder, if the folder's own may be long.
    link: Option<Short>,
}

impl CriProxy {
    /// Starts the proxy `program` in front of an engine, with its socket and log in a directory and
    /// with further options, and waits until it listens.
    ///
    /// # Panics
    /// Panics if the proxy does not listen. The message is its log.
    #[track_caller]
    pub fn start(program: &Path, dir: &Path, engine: &Path, options: &[&str]) -> Self {
        let mut command = Command::new(program);
        command.arg("--engine").arg(engine).args(options);
        Self::start_by(command, dir)
    }

    /// Starts a proxy by a command, with its socket and log in a directory.
    #[track_caller]
    pub fn start_by(mut command: Command, dir: &Path) -> Self {
        let link = Short::link(dir);
        let socket = link.join("cri.sock");
        command.arg("--listen").arg(&socket);
        let mut proxy = Self::run(command, socket, dir.join("proxy.log"));
        proxy.link = Some(link);
        proxy
    }

    /// Starts a proxy by a command whose socket and log have these paths.
    #[track_caller]
    pub fn run(mut command: Command, socket: PathBuf, log: PathBuf) -> Self {
        let file = File::options().create(true).append(true).open(&log).unwrap();
        let before = fs::read_to_string(&log).unwrap().matches(LISTENS).count();
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file).spawn();
        let mut proxy = Self { child: child.unwrap(), socket, log, link: None };
        let is_up = soon(|| {
            proxy.log().matches(LISTENS).count() > before
                || proxy.child.try_wait().unwrap().is_some()
        });
        let is_up = is_up && proxy.child.try_wait().unwrap().is_none();
        assert!(is_up, "the proxy does not listen: {}", proxy.log());
        proxy
    }

    /// The socket for clients.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The log so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits for a text in the log.
    ///
    /// # Panics
    /// Panics if the text does not come.
    #[track_caller]
    pub fn says(&self, text: &str) {
        assert!(soon(|| self.log().contains(text)), "no {text:?}: {}", self.log());
    }

    /// The memory of the process, in KiB.
    pub fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.id().try_into().unwrap()), signal).unwrap();
    }

    /// Sends SIGTERM, and waits for the end.
    ///
    /// # Panics
    /// Panics if the proxy does not end in 30 s.
    #[track_caller]
    pub fn end(mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        let mut status = None;
        let has_ended = within(Duration::from_secs(30), || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        assert!(has_ended, "the proxy does not end: {}", self.log());
        status.unwrap()
    }
}

impl Drop for CriProxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The text of the log when the proxy is ready.
const LISTENS: &str = "listens on ";
