//! Ways to reach a criu: a child of ours, a service, a socket of the caller.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};

use super::handed::{Handed, Launch};
#[cfg(feature = "libcriu")]
use super::libcriu::Library;
use super::link::Link;
use super::worker::Worker;
use crate::error::{Error, Result};
use crate::sys::{seqpacket, spawn};

/// The way to reach a criu.
#[derive(Clone, Debug)]
pub(crate) enum Transport {
    /// Starts `criu swrk` for each request.
    Swrk(PathBuf),
    /// Connects to a `criu service`.
    Service(PathBuf),
    /// Uses a socket that is connected to a criu.
    Connected(Arc<OwnedFd>),
    /// Has libcriu start `criu swrk` for each request.
    #[cfg(feature = "libcriu")]
    Libcriu(Library, PathBuf),
}

impl Transport {
    /// Says whether all requests share a connection.
    pub(crate) fn is_one_connection(&self) -> bool {
        matches!(self, Self::Connected(_))
    }

    /// Says whether libcriu starts criu.
    pub(crate) fn is_libcriu(&self) -> bool {
        !matches!(self, Self::Swrk(_) | Self::Service(_) | Self::Connected(_))
    }

    /// Says whether a criu is started by this process, by itself or through libcriu.
    pub(crate) fn starts_criu(&self) -> bool {
        !matches!(self, Self::Service(_) | Self::Connected(_))
    }

    /// Starts or connects to a criu.
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
                let failed = |source: io::Error| Error::Start {
                    program: program.to_owned(),
                    source: source.into(),
                };
                let path = spawn::find(program).map_err(failed)?;
                let (ours, theirs) = seqpacket::pair()
                    .map_err(|source| Error::system("make a socket pair", source))?;
                let thread = within(launch, || library.serve(path, theirs))?;
                served = Some(thread.map_err(|e| Error::system("start a thread for libcriu", e))?);
                (ours, None)
            }
            Self::Swrk(program) => {
                let (socket, worker) = start(program, launch, std::mem::take(&mut handed.placed))?;
                (socket, Some(worker))
            }
            #[cfg(feature = "oci")]
            Self::Service(_) | Self::Connected(_) if launch.mounts.is_some() => {
                let why = "its root is mounted where only that criu sees it";
                return Err(Error::NotOverSocket { what: "a container", why });
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

    /// Refuses a request that only a worker of ours can serve.
    pub(crate) fn require_worker(&self, what: &'static str, why: &'static str) -> Result<()> {
        match self {
            Self::Swrk(_) => Ok(()),
            // libcriu has a function that makes the restored root a child of this process.
            #[cfg(feature = "libcriu")]
            Self::Libcriu(..) if what == "rst_sibling" => Ok(()),
            #[cfg(feature = "libcriu")]
            Self::Libcriu(..) => Err(Error::NotOverSocket { what, why }),
            Self::Service(_) | Self::Connected(_) => Err(Error::NotOverSocket { what, why }),
        }
    }
}

/// Starts a worker, with a socket to it.
fn start(program: &Path, launch: &Launch<'_>, placed: Vec<OwnedFd>) -> Result<(OwnedFd, Worker)> {
    let failed =
        |source: io::Error| Error::Start { program: program.to_owned(), source: source.into() };
    let path = spawn::find(program).map_err(failed)?;
    let (ours, theirs) =
        seqpacket::pair().map_err(|source| Error::system("make a socket pair", source))?;
    let worker = within(launch, || Worker::start(&path, launch, theirs, placed))?;
    Ok((ours, worker.map_err(failed)?))
}

/// Starts a criu, or the thread that starts it, in the mount namespace that is asked for.
#[cfg(feature = "oci")]
fn within<T: Send>(launch: &Launch<'_>, start: impl FnOnce() -> T + Send) -> Result<T> {
    match launch.mounts {
        Some(space) => {
            space.enter(start).map_err(|source| Error::system("enter a mount namespace", source))
        }
        None => Ok(start()),
    }
}

/// Starts a criu, or the thread that starts it.
#[cfg(not(feature = "oci"))]
fn within<T>(_: &Launch<'_>, start: impl FnOnce() -> T) -> Result<T> {
    Ok(start())
}

/// Connects to a service.
fn connect_to(path: &Path) -> Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let connected = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)
        .and_then(|fd| connect(fd.as_raw_fd(), &UnixAddr::new(path)?).map(|()| fd));
    connected.map_err(|source| {
        let source = Arc::new(io::Error::from(source));
        Error::Connect { socket: path.to_owned(), source }
    })
}
