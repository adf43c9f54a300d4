//! A running `criu service`.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};

use crate::place::Short;
use crate::wait::soon;

/// A running `criu service`. It ends when the value is dropped.
#[derive(Debug)]
pub struct Service {
    child: Child,
    socket: PathBuf,
    _folder: Short,
}

impl Service {
    /// Starts a service of the criu at `program`, with its log in `dir`, and waits until it
    /// answers: `answers` asks the service at a socket.
    ///
    /// # Panics
    /// Panics if the service does not answer. The message is its log.
    pub fn start(program: &Path, dir: &Path, answers: impl Fn(&Path) -> bool) -> Self {
        let folder = Short::folder();
        let socket = folder.join("service.socket");
        let child = Command::new(program)
            .args(["service", "-o", "service.log", "-W"])
            .arg(dir)
            .arg("--address")
            .arg(&socket)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let service = Self { child, socket, _folder: folder };
        let is_up = soon(|| answers(&service.socket));
        assert!(is_up, "{:?}", fs::read_to_string(dir.join("service.log")));
        service
    }

    /// The path of the service's socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// A connection to the service.
    pub fn connect(&self) -> OwnedFd {
        let flags = SockFlag::SOCK_CLOEXEC;
        let fd = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).unwrap();
        connect(fd.as_raw_fd(), &UnixAddr::new(&self.socket).unwrap()).unwrap();
        fd
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
