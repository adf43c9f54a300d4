//! `lazy-pages.socket`: the file by which restores find a handler.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, getsockopt, listen,
    socket, sockopt::PeerCredentials,
};
use nix::sys::stat::{Mode, SFlag, fchmod, fstatat};
use nix::unistd::{UnlinkatFlags, geteuid, unlinkat};

use super::error::LazyError;
use crate::sys::{proc_link, stream};
use crate::value::{Dir, PlaceError, PlaceProblem, is_ours};

/// A socket that listens at `lazy-pages.socket` in a directory. Its file is removed with the value.
#[derive(Debug)]
pub struct LazySocket {
    listener: UnixListener,
    file: Named,
}

/// The file of a socket, which is removed with the value.
#[derive(Debug)]
struct Named {
    directory: OwnedFd,
    /// The device and inode of the file. `None` if the file is to stay.
    identity: Option<(u64, u64)>,
}

impl LazySocket {
    /// Listens in a directory, the work directory of the restores. Only this user and root can
    /// connect. A socket that an earlier handler has left is replaced, if nobody listens at it.
    ///
    /// # Errors
    /// [`LazyError::Place`] for a socket of another user or of a handler that runs, and for
    /// anything that is no socket; [`LazyError::Call`] and [`LazyError::System`] if the directory
    /// or the socket cannot be used.
    pub fn bind<'d>(directory: impl Into<Dir<'d>>) -> Result<Self, LazyError> {
        let directory = directory.into();
        // A directory that only CRIU opens is no directory for a socket of this process.
        let held = directory.open()?.ok_or(LazyError::NoDirectory)?;
        Self::bind_in(held, &directory.path())
    }

    /// Takes a socket that listens in a directory already, such as one of a process that has
    /// [given](Self::into_listener) it to this one. It has to be at the name.
    ///
    /// # Errors
    /// [`LazyError::Call`] if the directory cannot be used, and [`LazyError::System`] if there is
    /// no socket in it.
    pub fn from_listener<'d>(
        listener: UnixListener,
        directory: impl Into<Dir<'d>>,
    ) -> Result<Self, LazyError> {
        let directory = directory.into().open()?.ok_or(LazyError::NoDirectory)?;
        let failed = LazyError::system("take lazy-pages.socket");
        let file = Named::new(directory).map_err(|source| failed(source.into()))?;
        listener.set_nonblocking(true).map_err(failed)?;
        Ok(Self { listener, file })
    }

    /// Returns the socket, which goes on listening, and leaves its file.
    #[must_use]
    pub fn into_listener(mut self) -> UnixListener {
        self.file.identity = None;
        self.listener
    }

    /// Listens in an open directory, whose path is for messages.
    pub(crate) fn bind_in(directory: OwnedFd, shown: &Path) -> Result<Self, LazyError> {
        remove_old(&directory, shown)?;
        let failed =
            |source: Errno| LazyError::system("listen on lazy-pages.socket")(source.into());
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let own = socket(AddressFamily::Unix, SockType::Stream, flags, None).map_err(failed)?;
        // The kernel makes the file with the mode of the socket, less the umask.
        fchmod(&own, Mode::S_IRUSR | Mode::S_IWUSR).map_err(failed)?;
        stream::tell_senders(&own).map_err(LazyError::system("ask for the senders of messages"))?;
        // A path in a directory that is held: nothing can be moved into its way, and it is short.
        let path = proc_link(directory.as_fd()).join(NAME);
        bind(own.as_raw_fd(), &UnixAddr::new(&path).map_err(failed)?).map_err(failed)?;
        let file = Named::new(directory).map_err(failed)?;
        let bound = Self { listener: UnixListener::from(own), file };
        listen(&bound.listener, Backlog::MAXCONN).map_err(failed)?;
        Ok(bound)
    }

    /// Returns the next connection, if one waits.
    ///
    /// # Errors
    /// [`LazyError::Stranger`] for a connection of another user than this one and root.
    pub(crate) fn accept(&self) -> Result<Option<UnixStream>, LazyError> {
        let stream = match self.listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) => {
                return match error.kind() {
                    io::ErrorKind::WouldBlock
                    | io::ErrorKind::Interrupted
                    | io::ErrorKind::ConnectionAborted => Ok(None),
                    _ => Err(LazyError::system("accept a restore")(error)),
                };
            }
        };
        let peer = getsockopt(&stream, PeerCredentials)
            .map_err(|source| LazyError::system("look who connects")(source.into()))?;
        let own = geteuid().as_raw();
        if peer.uid() != 0 && peer.uid() != own {
            return Err(LazyError::Stranger { user: peer.uid(), own });
        }
        // The mode is not inherited on every kernel.
        stream::tell_senders(&stream)
            .map_err(LazyError::system("ask for the senders of messages"))?;
        Ok(Some(stream))
    }
}

impl AsFd for LazySocket {
    /// A descriptor that is readable when a restore connects.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Named {
    fn new(directory: OwnedFd) -> nix::Result<Self> {
        let identity = Some(identity(&directory)?);
        Ok(Self { directory, identity })
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        // Another handler may have put its socket in the place of this one.
        let found = identity(&self.directory).ok();
        if found.is_some() && found == self.identity {
            let _ = unlinkat(&self.directory, NAME_C, UnlinkatFlags::NoRemoveDir);
        }
    }
}

/// Removes the socket of an earlier handler.
fn remove_old(directory: &OwnedFd, shown: &Path) -> Result<(), LazyError> {
    let failed =
        |source: Errno| LazyError::system("look at lazy-pages.socket")(io::Error::from(source));
    let stat = match fstatat(directory, NAME_C, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(Errno::ENOENT) => return Ok(()),
        Err(source) => return Err(failed(source)),
    };
    let is_socket = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFSOCK;
    let problem = match is_socket {
        _ if !is_socket => PlaceProblem::NoSocket,
        _ if !is_ours(&stat) => PlaceProblem::Foreign(stat.st_uid),
        _ if is_bound(directory).map_err(failed)? => PlaceProblem::InUse,
        _ => {
            return match unlinkat(directory, NAME_C, UnlinkatFlags::NoRemoveDir) {
                Ok(()) | Err(Errno::ENOENT) => Ok(()),
                Err(source) => Err(failed(source)),
            };
        }
    };
    Err(PlaceError { path: shown.join(PathBuf::from(NAME)), problem }.into())
}

/// Returns true if the socket at the name belongs to a process that runs.
///
/// The kernel says so without a connection, which a daemon would take for a restore: it refuses a
/// socket of another type with `EPROTOTYPE`, and a socket that nobody has with `ECONNREFUSED`.
fn is_bound(directory: &OwnedFd) -> nix::Result<bool> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let probe = socket(AddressFamily::Unix, SockType::Datagram, flags, None)?;
    let path = proc_link(directory.as_fd()).join(NAME);
    Ok(connect(probe.as_raw_fd(), &UnixAddr::new(&path)?) == Err(Errno::EPROTOTYPE))
}

fn identity(directory: &OwnedFd) -> nix::Result<(u64, u64)> {
    let stat = fstatat(directory, NAME_C, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    Ok((stat.st_dev, stat.st_ino))
}

/// The name that CRIU has for the socket.
const NAME: &str = "lazy-pages.socket";

const NAME_C: &CStr = c"lazy-pages.socket";

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use criu_lab::place::Short;

    use super::*;

    /// Makes a directory with a short path, because clients connect by the path of the socket.
    fn folder() -> (Short, impl Fn() -> Result<LazySocket, LazyError>) {
        let folder = Short::folder();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o700)).unwrap();
        let path = folder.path().to_owned();
        (folder, move || LazySocket::bind(&*path))
    }

    #[test]
    fn the_socket_is_its_owner_s_and_takes_the_place_of_one_that_was_left() {
        let (path, bind) = folder();
        let name = path.join(NAME);
        let first = bind().unwrap();
        let mode = fs::metadata(&name).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);
        // A handler that listens keeps its name, and sees no connection.
        let error = bind().unwrap_err().to_string();
        assert!(error.contains("daemon that runs: end that daemon"), "{error}");
        assert!(first.accept().unwrap().is_none());
        fs::remove_file(&name).unwrap();
        let second = bind().unwrap();
        let inode = fs::metadata(&name).unwrap().ino();
        // The first is no longer at the name, and leaves the second there.
        drop(first);
        assert_eq!(fs::metadata(&name).unwrap().ino(), inode);
        assert!(second.accept().unwrap().is_none());
        let _client = UnixStream::connect(&name).unwrap();
        assert!(second.accept().unwrap().is_some());
        // The socket goes to another owner, and its file with it.
        let listener = second.into_listener();
        assert!(name.exists());
        let third = LazySocket::from_listener(listener, path.path()).unwrap();
        let _client = UnixStream::connect(&name).unwrap();
        assert!(third.accept().unwrap().is_some());
        drop(third);
        assert!(!name.exists());
        // A handler that was killed has left its socket.
        drop(bind().unwrap().into_listener());
        assert!(name.exists());
        assert!(bind().is_ok());
    }

    #[test]
    fn a_link_or_a_file_at_the_name_stays() {
        let (path, bind) = folder();
        let name = path.join(NAME);
        let outside = path.join("outside");
        fs::write(&outside, "old").unwrap();
        symlink(&outside, &name).unwrap();
        let error = bind().unwrap_err().to_string();
        assert!(error.contains("is no socket"), "{error}");
        fs::remove_file(&name).unwrap();
        fs::write(&name, "mine").unwrap();
        assert!(matches!(bind(), Err(LazyError::Place(_))));
        assert_eq!(fs::read(&name).unwrap(), b"mine");
        assert_eq!(fs::read(&outside).unwrap(), b"old");
    }

    #[test]
    fn another_user_s_socket_is_left_alone() {
        criu_lab::needs_root();
        let (path, bind) = folder();
        let name = path.join(NAME);
        let _theirs = UnixListener::bind(&name).unwrap();
        std::os::unix::fs::chown(&name, Some(65534), None).unwrap();
        let error = bind().unwrap_err().to_string();
        assert!(error.contains("belongs to user 65534"), "{error}");
        assert!(name.exists());
    }
}
