//! A relay: the pages of a dump over a unix socket of ours, and from there to a page server elsewhere.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SpliceFFlags, fcntl, splice};

use super::error::PagesError;
use super::socket::wide_pair;

/// A way to a page server elsewhere, ours or CRIU's, that spares a dump the 200 ms for which CRIU leaves its
/// last word corked in a TCP socket. The dump ends when the far end has confirmed that it has everything.
///
/// ```no_run
/// use criu_rs::pages::Relay;
/// use criu_rs::{Criu, Dump, Pid};
///
/// let pid: Pid = "4711".parse()?;
/// let relay = Relay::connect("198.51.100.7:27000")?;
/// Dump::new(pid, "/ckpt").page_server_socket(&relay).run(&Criu::new())?;
/// println!("{} bytes", relay.finish()?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Relay {
    socket: OwnedFd,
    there: JoinHandle<io::Result<u64>>,
    back: JoinHandle<io::Result<()>>,
}

impl Relay {
    /// Connects to the page server.
    ///
    /// # Errors
    /// Those of connecting.
    pub fn connect(address: impl ToSocketAddrs) -> Result<Self, PagesError> {
        let far = TcpStream::connect(address).map_err(PagesError::socket("connect"))?;
        Self::begin(far).map_err(PagesError::socket("set up the relay"))
    }

    fn begin(far: TcpStream) -> io::Result<Self> {
        far.set_nodelay(true)?;
        let (socket, near) = wide_pair(BUFFER)?;
        let (from, to) = (near.try_clone()?, far.try_clone()?);
        let there = thread::Builder::new().name("relay".into()).spawn(move || {
            let sent = forward(&from, &to);
            // Each end sees that the other has ended, however.
            let _ = to.shutdown(Shutdown::Write);
            if sent.is_err() {
                let _ = from.shutdown(Shutdown::Both);
            }
            sent
        })?;
        let back = thread::Builder::new().name("relay back".into()).spawn(move || {
            let answered = answer(far, &near);
            let _ = near.shutdown(Shutdown::Both);
            answered
        })?;
        Ok(Self { socket: socket.into(), there, back })
    }

    /// The dump is done: ends the connection. Returns how many bytes went over it.
    ///
    /// # Errors
    /// Those of either socket.
    pub fn finish(self) -> Result<u64, PagesError> {
        drop(self.socket);
        let lost = |_| io::Error::other("the relay's thread has ended");
        let sent = self.there.join().unwrap_or_else(|end| Err(lost(end)));
        let back = self.back.join().unwrap_or_else(|end| Err(lost(end)));
        back.and(sent).map_err(PagesError::socket("relay"))
    }
}

/// The end for criu.
impl AsFd for Relay {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Moves everything through a pipe, which copies nothing.
fn forward(from: &UnixStream, to: &TcpStream) -> io::Result<u64> {
    let (out, into) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    // A smaller one does as well.
    let _ = fcntl(&into, FcntlArg::F_SETPIPE_SZ(1 << 20));
    let flags = SpliceFFlags::SPLICE_F_MOVE;
    let mut sent = 0u64;
    loop {
        let mut moved = match splice(from.as_fd(), None, &into, None, AT_ONCE, flags) {
            Ok(0) => return Ok(sent),
            Ok(moved) => moved,
            Err(Errno::EINTR) => continue,
            Err(error) => return Err(error.into()),
        };
        sent = sent.saturating_add(moved as u64);
        while moved > 0 {
            match splice(&out, None, to.as_fd(), None, moved, flags) {
                Ok(now) => moved = moved.saturating_sub(now),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn answer(mut from: TcpStream, mut to: &UnixStream) -> io::Result<()> {
    let mut bytes = [0; 256];
    loop {
        match from.read(&mut bytes) {
            Ok(0) => return Ok(()),
            Ok(size) => to.write_all(bytes.get(..size).unwrap_or_default())?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Bytes that may be on their way.
const BUFFER: usize = 4 << 20;
/// Bytes moved by one system call.
const AT_ONCE: usize = 1 << 20;
