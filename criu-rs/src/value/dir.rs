//! Directories that operations take.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::fcntl::{OFlag, open, openat, renameat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::place::{Writers, writers};
use super::system::SystemError;

/// A directory for images or logs: a path, or a descriptor of an open directory.
///
/// An operation opens a path once, when it starts. CRIU and the guards of the operation use this
/// open directory, even if it is renamed meanwhile.
///
/// ```
/// use criu_rs::Dir;
/// use std::fs::File;
///
/// let by_path: Dir = "/var/lib/ckpt".into();
/// let open = File::open("/tmp")?;
/// let by_descriptor: Dir = (&open).into();
/// # drop((by_path, by_descriptor));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Dir<'fd>(Kind<'fd>);

#[derive(Clone, Debug)]
#[cfg_attr(not(any(feature = "oci", feature = "pages")), expect(dead_code))]
enum Kind<'fd> {
    Path(PathBuf),
    Fd(BorrowedFd<'fd>),
    Named(PathBuf),
    /// A directory that is open already, with its path for messages.
    Held(Arc<OwnedFd>, PathBuf),
}

impl Dir<'static> {
    /// A directory that CRIU opens itself by this path (`images_dir`), for a service that does not
    /// see this process's /proc. Needs CRIU 3.19; before 4.2 the path must name a symbolic link.
    ///
    /// This crate then cannot look into the directory: an existing checkpoint is overwritten, and
    /// the files of a failed dump stay.
    pub fn opened_by_criu(path: impl Into<PathBuf>) -> Self {
        Self(Kind::Named(path.into()))
    }
}

impl Dir<'_> {
    /// Returns who can write into the directory, beside this process's user and root, or `None` if
    /// nobody else can.
    ///
    /// An operation is safe in a directory that others can write, and its files are not: others can
    /// replace them at any time. A directory that CRIU opens itself is not looked at.
    ///
    /// # Errors
    /// The directory cannot be opened.
    pub fn writers(&self) -> Result<Option<Writers>, SystemError> {
        let Some(directory) = self.open()? else { return Ok(None) };
        writers(&directory).map_err(|source| {
            SystemError::new(format!("look at the directory {}", self.path().display()), source)
        })
    }

    /// Opens the directory for several parts of one operation, which then use the same directory
    /// even if its path comes to lead elsewhere. Returns `None` if CRIU opens the directory itself.
    #[cfg(any(feature = "oci", feature = "pages"))]
    pub(crate) fn hold(&self) -> Result<Option<(Dir<'static>, Arc<OwnedFd>)>, SystemError> {
        let held = self.open()?.map(Arc::new);
        Ok(held.map(|held| (Dir(Kind::Held(Arc::clone(&held), self.path())), held)))
    }

    /// Returns a descriptor of the directory, or `None` if CRIU opens the directory itself.
    pub(crate) fn open(&self) -> Result<Option<OwnedFd>, SystemError> {
        let system = |source: nix::Error| {
            SystemError::new(format!("open the directory {}", self.path().display()), source)
        };
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        match &self.0 {
            Kind::Path(path) => open(path, flags, Mode::empty()).map(Some).map_err(system),
            // Opened anew, not duplicated: the descriptor may be O_PATH, or not of a directory.
            Kind::Fd(fd) => {
                nix::fcntl::openat(fd, ".", flags, Mode::empty()).map(Some).map_err(system)
            }
            Kind::Held(held, _) => {
                nix::fcntl::openat(held, ".", flags, Mode::empty()).map(Some).map_err(system)
            }
            Kind::Named(_) => Ok(None),
        }
    }

    /// Returns the path that CRIU opens itself, if any.
    pub(crate) fn named(&self) -> Option<&Path> {
        match &self.0 {
            Kind::Named(path) => Some(path),
            _ => None,
        }
    }

    /// Returns the directory's path for messages.
    pub(crate) fn path(&self) -> PathBuf {
        match &self.0 {
            Kind::Path(path) | Kind::Named(path) | Kind::Held(_, path) => path.clone(),
            Kind::Fd(fd) => name_of(fd),
        }
    }
}

/// Returns the present path of a descriptor's file, or its link in /proc if that is unreadable.
pub(crate) fn name_of(fd: impl AsFd) -> PathBuf {
    let link = crate::sys::proc_link(fd.as_fd());
    std::fs::read_link(&link).unwrap_or(link)
}

/// The conversions of types that are paths.
macro_rules! from_paths {
    ($($path:ty),*) => {$(
        impl From<$path> for Dir<'_> {
            fn from(path: $path) -> Self {
                Self(Kind::Path(path.into()))
            }
        }
    )*};
}

from_paths!(&Path, PathBuf, &PathBuf, &str, String, &String, &OsStr, OsString, &OsString);

impl<'fd> From<BorrowedFd<'fd>> for Dir<'fd> {
    fn from(fd: BorrowedFd<'fd>) -> Self {
        Self(Kind::Fd(fd))
    }
}

impl<'fd> From<&'fd OwnedFd> for Dir<'fd> {
    fn from(fd: &'fd OwnedFd) -> Self {
        Self(Kind::Fd(fd.as_fd()))
    }
}

impl<'fd> From<&'fd File> for Dir<'fd> {
    fn from(file: &'fd File) -> Self {
        Self(Kind::Fd(file.as_fd()))
    }
}

/// Reads a file in a directory. Returns `None` if the file is unreadable or larger than
/// [`MAX_FILE`].
pub(crate) fn read_file(directory: impl AsFd, name: &str) -> Option<Vec<u8>> {
    let directory: BorrowedFd<'_> = directory.as_fd();
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let file = File::from(openat(directory, name, flags, Mode::empty()).ok()?);
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).ok()?;
    (u64::try_from(bytes.len()).ok()? <= MAX_FILE).then_some(bytes)
}

/// Writes a file into a directory, whole or not at all. A link that has the name is replaced, and
/// never followed.
#[cfg(any(feature = "oci", feature = "pod"))]
pub(crate) fn replace_file(directory: BorrowedFd<'_>, name: &str, bytes: &[u8]) -> io::Result<()> {
    let new = format!(".{name}.new");
    let new = new.as_str();
    let write = || -> io::Result<()> {
        let _ = unlinkat(directory, new, UnlinkatFlags::NoRemoveDir);
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
        let flags = flags | OFlag::O_NOFOLLOW;
        let mut file = File::from(openat(directory, new, flags, Mode::from_bits_truncate(0o600))?);
        file.write_all(bytes)?;
        file.sync_all()?;
        Ok(renameat(directory, new, directory, name)?)
    };
    write().inspect_err(|_| {
        let _ = unlinkat(directory, new, UnlinkatFlags::NoRemoveDir);
    })
}

/// The largest file that is read. Statistics take some 200 bytes, a process tree some 50 bytes a
/// task.
const MAX_FILE: u64 = 16 << 20;
