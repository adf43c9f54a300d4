//! The socket that clients connect to.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrLike, SockaddrStorage, UnixAddr, bind,
    getsockname, getsockopt, listen, socket, sockopt,
};
use nix::sys::stat::{Mode, fchmod};
use thiserror::Error;

/// A socket that listens. The file of a socket that this process has made goes with the value.
#[derive(Debug)]
pub struct Listening {
    listener: UnixListener,
    /// The path of a socket that this process has made.
    made: Option<Made>,
}

#[derive(Debug)]
struct Made {
    path: PathBuf,
    identity: (u64, u64),
    /// Held while this process lives. No other proxy takes the socket's path meanwhile.
    _lock: Flock<File>,
}

/// The reason for which a socket cannot be listened on.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SocketError {
    /// Somebody listens there.
    #[error("{}: a process listens on this socket; end it first, or choose another path", .0.display())]
    InUse(PathBuf),
    /// There is something else at the path.
    #[error("{}: found a file that is no socket; remove it, or choose another path", .0.display())]
    NoSocket(PathBuf),
    /// The socket of another user is at the path.
    #[error("{}: found a socket of user {user}; remove it, or choose another path", .path.display())]
    Foreign {
        /// The path.
        path: PathBuf,
        /// The user.
        user: u32,
    },
    /// The descriptor is no such socket.
    #[error("the given descriptor is no unix stream socket that listens")]
    NoListener,
    /// A system call has failed.
    #[error("{}: {source}", .path.display())]
    System {
        /// The path.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

impl Listening {
    /// Makes a socket of mode 0600. Its directory is made if it is missing, with mode 0700.
    ///
    /// A socket that an earlier proxy has left is replaced. One that somebody listens on is not.
    ///
    /// # Errors
    /// If the path is taken, or cannot be used.
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        let failed = |source| SocketError::System { path: path.to_owned(), source };
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
            made.map_err(failed)?;
        }
        let lock = lock(path)?;
        if let Ok(found) = fs::symlink_metadata(path) {
            if !found.file_type().is_socket() {
                return Err(SocketError::NoSocket(path.to_owned()));
            }
            if found.uid() != nix::unistd::geteuid().as_raw() {
                return Err(SocketError::Foreign { path: path.to_owned(), user: found.uid() });
            }
            match UnixStream::connect(path) {
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                // Also a full queue means that somebody listens.
                Ok(_) | Err(_) => return Err(SocketError::InUse(path.to_owned())),
            }
        }
        // The socket comes to its path with its mode, in the place of one that was left.
        let new = beside(path, &format!(".{}", std::process::id()));
        let _ = fs::remove_file(&new);
        let listener = listen_at(&new).map_err(|errno| failed(errno.into()))?;
        let placed = fs::symlink_metadata(&new)
            .and_then(|made| fs::rename(&new, path).map(|()| (made.dev(), made.ino())));
        let identity = placed.map_err(|source| {
            let _ = fs::remove_file(&new);
            failed(source)
        })?;
        Ok(Self { listener, made: Some(Made { path: path.to_owned(), identity, _lock: lock }) })
    }

    /// Takes a socket that a service manager has made and listens on already. Its file stays.
    ///
    /// # Errors
    /// If the descriptor is something else.
    pub fn inherited(fd: OwnedFd) -> Result<Self, SocketError> {
        let is_unix = getsockname::<SockaddrStorage>(fd.as_raw_fd())
            .is_ok_and(|name| name.family() == Some(AddressFamily::Unix));
        let is_stream = getsockopt(&fd, sockopt::SockType) == Ok(SockType::Stream);
        let is_listening = getsockopt(&fd, sockopt::AcceptConn) == Ok(true);
        if !is_unix || !is_stream || !is_listening {
            return Err(SocketError::NoListener);
        }
        let listener = UnixListener::from(fd);
        listener.set_nonblocking(true).map_err(|_| SocketError::NoListener)?;
        Ok(Self { listener, made: None })
    }

    /// The path of the socket, if it has one.
    pub fn path(&self) -> Option<PathBuf> {
        match &self.made {
            Some(made) => Some(made.path.clone()),
            None => self.listener.local_addr().ok()?.as_pathname().map(Path::to_owned),
        }
    }

    /// The socket, in a runtime.
    pub(super) fn listener(&self) -> io::Result<tokio::net::UnixListener> {
        tokio::net::UnixListener::from_std(self.listener.try_clone()?)
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        // Somebody may have put another socket in the place of this one.
        let found = fs::symlink_metadata(&self.path);
        if found.is_ok_and(|found| (found.dev(), found.ino()) == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Locks the file beside a socket. It stays, because a lock on a file that was removed keeps nobody
/// out.
fn lock(path: &Path) -> Result<Flock<File>, SocketError> {
    let name = beside(path, ".lock");
    let failed = |source| SocketError::System { path: name.clone(), source };
    let mut options = File::options();
    options.write(true).create(true).mode(0o600).custom_flags(OFlag::O_NOFOLLOW.bits());
    let file = options.open(&name).map_err(failed)?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        Errno::EWOULDBLOCK => SocketError::InUse(path.to_owned()),
        errno => failed(errno.into()),
    })
}

/// Makes a socket that only this user and root can connect to.
fn listen_at(path: &Path) -> nix::Result<UnixListener> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let own = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    // The kernel makes the file with the mode of the socket, less the umask.
    fchmod(&own, Mode::S_IRUSR | Mode::S_IWUSR)?;
    bind(own.as_raw_fd(), &UnixAddr::new(path)?)?;
    listen(&own, Backlog::MAXCONN)?;
    Ok(UnixListener::from(own))
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
