//! Ways to reach a criu: a child of ours, a service, a socket the caller has.

mod ending;
mod handed;
#[cfg(feature = "libcriu")]
mod libcriu;
mod safe_point;
#[cfg(test)]
mod scripted;
mod standstill;
mod subject;
mod worker;

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::sys::socket::{
    AddressFamily, Shutdown, SockFlag, SockType, UnixAddr, connect, getsockopt, shutdown, socket,
    sockopt,
};

pub(crate) use ending::{Endable, Ending, Next};
pub(crate) use handed::{Handed, Launch};
#[cfg(feature = "libcriu")]
pub(crate) use libcriu::{Library, Served};
#[cfg(test)]
pub(crate) use scripted::Scripted;
pub(crate) use subject::Subject;
pub(crate) use worker::Worker;

use crate::bounds;
use crate::error::{Error, Result};
use crate::rpc::ProtocolError;
use crate::sys::seqpacket::{self, Packet, Received};
use crate::sys::spawn;
use crate::value::Pid;

/// How to reach a criu.
#[derive(Clone, Debug)]
pub(crate) enum Transport {
    /// Start `criu swrk` for each request.
    Swrk(PathBuf),
    /// Connect to a `criu service`.
    Service(PathBuf),
    /// A socket connected to one.
    Connected(Arc<OwnedFd>),
    /// Have libcriu start `criu swrk` for each request.
    #[cfg(feature = "libcriu")]
    Libcriu(Library, PathBuf),
}

/// A connection to one criu.
#[derive(Debug)]
pub(crate) struct Link {
    socket: OwnedFd,
    pub(crate) worker: Option<Worker>,
    /// Open until CRIU has no more use for them.
    handed: Handed,
    /// What looks at requests before they are sent.
    #[cfg(feature = "libcriu")]
    served: Option<Served>,
}

/// What CRIU has to say.
#[derive(Debug)]
pub(crate) enum Heard {
    Packet(Packet),
    /// Nothing yet.
    Nothing,
    /// Nothing any more.
    Closed,
}

impl Transport {
    /// Whether all requests share a connection.
    pub(crate) fn is_one_connection(&self) -> bool {
        matches!(self, Self::Connected(_))
    }

    /// Whether libcriu is in between.
    pub(crate) fn is_libcriu(&self) -> bool {
        !matches!(self, Self::Swrk(_) | Self::Service(_) | Self::Connected(_))
    }

    pub(crate) fn open(&self, launch: &Launch<'_>, mut handed: Handed) -> Result<Link> {
        #[cfg(feature = "libcriu")]
        let mut served = None;
        let (socket, worker) = match self {
            #[cfg(feature = "libcriu")]
            Self::Libcriu(library, program) => {
                let why = "libcriu starts it";
                if !launch.arguments.is_empty() {
                    return Err(Error::NotOverSocket { what: "argument", why });
                }
                if !launch.env.is_empty() {
                    return Err(Error::NotOverSocket { what: "env", why });
                }
                let failed = |source| Error::Start { program: program.to_owned(), source };
                let path = spawn::find(program).map_err(failed)?;
                let (ours, theirs) = seqpacket::pair()
                    .map_err(|source| Error::system("make a socket pair", source))?;
                let thread = library.serve(path, theirs);
                served = Some(thread.map_err(|e| Error::system("start a thread for libcriu", e))?);
                (ours, None)
            }
            Self::Swrk(program) => {
                let (socket, worker) = start(program, launch, std::mem::take(&mut handed.placed))?;
                (socket, Some(worker))
            }
            Self::Service(path) => (connect_to(path)?, None),
            Self::Connected(fd) => {
                let copy = fd.try_clone();
                (copy.map_err(|e| Error::system("duplicate the connection to criu", e))?, None)
            }
        };
        Ok(Link {
            socket,
            worker,
            handed,
            #[cfg(feature = "libcriu")]
            served,
        })
    }

    /// Refuses what only a worker of ours can do.
    pub(crate) fn require_worker(&self, what: &'static str, why: &'static str) -> Result<()> {
        match self {
            Self::Swrk(_) => Ok(()),
            // It has a function that makes the restored root a child of this process.
            #[cfg(feature = "libcriu")]
            Self::Libcriu(..) if what == "rst_sibling" => Ok(()),
            #[cfg(feature = "libcriu")]
            Self::Libcriu(..) => Err(Error::NotOverSocket { what, why }),
            Self::Service(_) | Self::Connected(_) => Err(Error::NotOverSocket { what, why }),
        }
    }
}

fn start(program: &Path, launch: &Launch<'_>, placed: Vec<OwnedFd>) -> Result<(OwnedFd, Worker)> {
    let failed = |source| Error::Start { program: program.to_owned(), source };
    let path = spawn::find(program).map_err(failed)?;
    let (ours, theirs) =
        seqpacket::pair().map_err(|source| Error::system("make a socket pair", source))?;
    let worker = Worker::start(&path, launch, theirs, placed).map_err(failed)?;
    Ok((ours, worker))
}

fn connect_to(path: &Path) -> Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let connected = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)
        .and_then(|fd| connect(fd.as_raw_fd(), &UnixAddr::new(path)?).map(|()| fd));
    connected.map_err(|source| Error::Connect { socket: path.to_owned(), source: source.into() })
}

impl Link {
    pub(crate) fn send(&self, packet: &[u8]) -> std::io::Result<()> {
        #[cfg(feature = "libcriu")]
        if let Some(served) = &self.served {
            served.check(packet).map_err(std::io::Error::other)?;
        }
        seqpacket::send(&self.socket, packet)
    }

    /// What CRIU has to say, if anything yet.
    pub(crate) fn receive(&self) -> Result<Heard> {
        let received = seqpacket::receive(&self.socket, bounds::length(&bounds::PACKET))
            .map_err(|source| Error::system("hear from criu", source))?;
        match received {
            Received::Packet(packet) => Ok(Heard::Packet(packet)),
            Received::Nothing => Ok(Heard::Nothing),
            Received::Closed => Ok(Heard::Closed),
            Received::TooLarge(size) => {
                Err(ProtocolError::TooLarge { size, limit: bounds::length(&bounds::PACKET) }.into())
            }
        }
    }

    /// When what does the work was started, in the kernel's ticks: a worker of ours, or libcriu's.
    pub(crate) fn since(&self) -> Option<u64> {
        #[cfg(feature = "libcriu")]
        if let Some(served) = &self.served {
            return served.since;
        }
        self.pid().and_then(crate::host::tree::started_at)
    }

    /// Says what the worker is at work on, so that ending it early does no harm.
    pub(crate) fn protect(&mut self, subject: Subject) {
        if let Some(worker) = &mut self.worker {
            worker.subject = subject;
        }
    }

    /// Whether a process id of CRIU's means the same process here: a service can be in another pid
    /// namespace.
    pub(crate) fn numbers_processes_as_here(&self) -> bool {
        if self.worker.is_some() {
            return true;
        }
        let namespace = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let peer = getsockopt(&self.socket, sockopt::PeerCredentials);
        peer.is_ok_and(|peer| {
            let theirs = namespace(&peer.pid().to_string());
            theirs.is_some() && theirs == namespace("self")
        })
    }

    /// The criu that does the work, as far as that is known; else this process, whose child it may be.
    pub(crate) fn criu(&self) -> Pid {
        let peer = || getsockopt(&self.socket, sockopt::PeerCredentials).ok();
        self.pid().or_else(|| Pid::new(peer()?.pid())).unwrap_or_else(Pid::this)
    }

    /// Returns the worker, and a way to tell the other side that nothing more will come from here.
    pub(crate) fn parts(&mut self) -> (Option<&mut Worker>, impl FnOnce() + use<'_>) {
        let socket = self.socket.as_raw_fd();
        let hang_up = move || {
            let _ = shutdown(socket, Shutdown::Write);
        };
        (self.worker.as_mut(), hang_up)
    }

    /// The process id of a worker of ours.
    pub(crate) fn pid(&self) -> Option<Pid> {
        self.worker.as_ref().map(Worker::pid)
    }

    /// Keeps further descriptors open for a later request on this connection.
    ///
    /// The worker is running already, so none can be put into it any more.
    pub(crate) fn hand(&mut self, handed: Handed) -> Result<()> {
        if !handed.placed.is_empty() {
            let why = "its descriptors are placed when it is started";
            return Err(Error::NotOverSocket { what: "page_server_socket", why });
        }
        self.handed.shown.extend(handed.shown);
        Ok(())
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
