//! Handlers: who brings the pages.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use criu_lab::{soon, within};

use crate::daemon::{self, Settings};
use crate::scene::Scene;
use crate::source::Source;

/// The daemon that brings the pages of restores.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// `criu lazy-pages`.
    Criu,
    /// `criu-rs lazy-pages`.
    Program,
    /// The library's daemon.
    Library(Settings),
}

/// A running daemon. It is killed with this value.
#[derive(Debug)]
pub struct Handler {
    child: Child,
    /// The directory of its socket.
    pub work: PathBuf,
}

impl Handler {
    /// Starts a daemon for one restore with its socket in `work`, and waits until it listens.
    pub fn start(kind: Kind, scene: &Scene, images: &Path, source: &Source, work: &Path) -> Self {
        Self::for_several(kind, scene, images, source, work, 1)
    }

    /// Starts a daemon for so many restores.
    pub fn for_several(
        kind: Kind,
        scene: &Scene,
        images: &Path,
        source: &Source,
        work: &Path,
        restores: usize,
    ) -> Self {
        let socket = work.join("lazy-pages.socket");
        let _ = std::fs::remove_file(&socket);
        let (port, number) = (source.port.unwrap_or(0).to_string(), restores.to_string());
        let mut command = match kind {
            Kind::Criu | Kind::Program => {
                let words = ["lazy-pages", "-v1", "-o", "lazy-pages.log"];
                let mut command = match kind {
                    Kind::Criu => scene.criu(&words),
                    _ => scene.program(&[&words[..], &["--restores", &number]].concat()),
                };
                command.arg("-D").arg(images).arg("-W").arg(work);
                if source.port.is_some() {
                    let server = ["--page-server", "--address", "127.0.0.1", "--port", &port];
                    command.args(server);
                }
                command
            }
            Kind::Library(settings) => {
                let mut command = Command::new("/proc/self/exe");
                command.arg(daemon::DAEMON).arg(images).arg(work).args([&port, &number]);
                command.args(settings.words()).stdin(Stdio::null()).stdout(Stdio::null());
                command.stderr(File::create(work.join("daemon.log")).unwrap());
                command
            }
        };
        let child = command.spawn().unwrap();
        let mut handler = Self { child, work: work.into() };
        let is_up = soon(|| socket.exists() || handler.child.try_wait().unwrap().is_some());
        let ended = handler.child.try_wait().unwrap();
        assert!(is_up && socket.exists(), "the daemon does not listen: {ended:?}, {}", said(work));
        handler
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the daemon has ended.
    ///
    /// # Errors
    /// If it does not end, or not with success.
    pub fn ends(mut self) -> Result<(), String> {
        let limit = std::time::Duration::from_secs(30);
        if !within(limit, || self.child.try_wait().unwrap().is_some()) {
            return Err("the daemon does not end".into());
        }
        let status = self.child.wait().unwrap();
        match status.signal() {
            None if status.success() => Ok(()),
            _ => Err(format!("the daemon ended with {status}")),
        }
    }
}

/// The last lines of the logs in a directory.
pub fn said(work: &Path) -> String {
    let log = |name: &&str| std::fs::read_to_string(work.join(name)).unwrap_or_default();
    let logs: Vec<String> =
        ["lazy-pages.log", "daemon.log", "restore.log"].iter().map(log).collect();
    let lines = logs.iter().flat_map(|log| log.lines().rev().take(3));
    lines.collect::<Vec<_>>().join("; ")
}

impl Drop for Handler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
