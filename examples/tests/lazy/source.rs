//! Sources of pages.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};

use criu_lab::place::alone;
use criu_lab::soon;
use criu_rs::pages::Provider;
use nix::fcntl::Flock;

use crate::scene::{Scene, Target};

/// A source of the pages of an oracle.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// The images.
    Images,
    /// A page server of this crate, which has the images.
    PageServer,
}

/// A running page server or dump. It is killed with this value.
#[derive(Debug)]
pub struct Source {
    child: Option<Child>,
    pub port: Option<u16>,
    pipes: Option<LargePipes>,
}

/// A higher limit for pipes, which one test has at a time. The old one comes back with the end of
/// this value.
///
/// A dump wants pipes of 4 MiB, which without CAP_SYS_RESOURCE takes this. CRIU 4.1.1 makes some
/// of them for each request.
#[derive(Debug)]
struct LargePipes {
    before: String,
    _alone: Flock<File>,
}

impl LargePipes {
    fn allow() -> Self {
        let alone = alone("pipe-max-size");
        let before = fs::read_to_string(LIMIT).unwrap();
        fs::write(LIMIT, "16777216").unwrap();
        Self { before, _alone: alone }
    }
}

impl Drop for LargePipes {
    fn drop(&mut self) {
        fs::write(LIMIT, &self.before).unwrap();
    }
}

impl Source {
    /// The images, for which nothing runs.
    pub fn images() -> Self {
        Self { child: None, port: None, pipes: None }
    }

    /// A page server of this crate.
    pub fn server(images: &Path) -> Self {
        let mut server = Command::new("/proc/self/exe");
        server.arg(SERVE).arg(images);
        server.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = server.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = Some(line.trim().parse().unwrap());
        Self { child: Some(child), port, pipes: None }
    }

    /// A dump of a target that serves its pages.
    pub fn dump(scene: &Scene, target: &Target, images: &Path) -> Self {
        let pipes = Some(LargePipes::allow());
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let port_word = port.to_string();
        let words = ["dump", "--lazy-pages", "--address", "127.0.0.1", "--port", &port_word];
        let mut dump = scene.criu(&[&words[..], &["-t", &target.pid()]].concat());
        let mut child = dump.arg("-D").arg(images).spawn().unwrap();
        let listens = soon(|| is_listening(port) || child.try_wait().unwrap().is_some());
        let ended = child.try_wait().unwrap();
        assert!(listens && ended.is_none(), "the dump does not listen: {ended:?}");
        Self { child: Some(child), port: Some(port), pipes }
    }

    /// The process that serves, if there is one.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Ends a page server; waits until a dump has ended, successfully.
    pub fn ends(mut self) {
        if self.pipes.is_none() {
            return;
        }
        let status = self.status();
        assert!(status.is_some_and(|status| status.success()), "{status:?}");
    }

    /// Waits until a dump has ended, with a failure.
    pub fn fails(mut self) {
        let status = self.status();
        assert!(status.is_some_and(|status| !status.success()), "{status:?}");
    }

    /// Waits for the end of the process.
    fn status(&mut self) -> Option<ExitStatus> {
        let mut child = self.child.take()?;
        soon(|| child.try_wait().unwrap().is_some());
        child.try_wait().unwrap()
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Tells if somebody listens on a TCP port, without a connection, which would be the one that a
/// dump serves.
fn is_listening(port: u16) -> bool {
    let sockets = fs::read_to_string("/proc/self/net/tcp").unwrap();
    sockets.lines().any(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let is_port = |local: &str| local.ends_with(&format!(":{port:04X}"));
        fields.next().is_some_and(is_port) && fields.nth(1) == Some("0A")
    })
}

/// `IMAGES`: serves the pages of images.
pub fn serve(words: &[String]) -> ExitCode {
    let server = Provider::new(&words[0]).listen("127.0.0.1:0".parse().unwrap()).unwrap();
    println!("{}", server.port());
    let _ = server.run(None);
    ExitCode::FAILURE
}

/// The word that makes this program a page server.
pub const SERVE: &str = "--serve";
const LIMIT: &str = "/proc/sys/fs/pipe-max-size";
