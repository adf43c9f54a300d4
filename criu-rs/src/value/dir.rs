//! Directories as operations take them.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use crate::error::{Error, Result};

/// A directory for images or for logs: a path, or a descriptor of one.
///
/// A path is opened when the operation starts, and CRIU is handed the descriptor, so that renaming it
/// meanwhile does no harm.
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
enum Kind<'fd> {
    Path(PathBuf),
    Fd(BorrowedFd<'fd>),
    Named(PathBuf),
}

impl Dir<'static> {
    /// A directory that CRIU opens itself by this path (`images_dir`), for a service that does not
    /// see this process's /proc. CRIU 3.19; before 4.2 the path must be a symbolic link's.
    ///
    /// This crate then cannot look into it: an existing checkpoint is overwritten, and what a failed
    /// dump leaves there stays.
    pub fn opened_by_criu(path: impl Into<PathBuf>) -> Self {
        Self(Kind::Named(path.into()))
    }
}

impl Dir<'_> {
    /// A descriptor of the directory, unless CRIU opens it itself.
    pub(crate) fn open(&self) -> Result<Option<OwnedFd>> {
        let system = |source: nix::Error| {
            Error::system(format!("open the directory {}", self.path().display()), source)
        };
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        match &self.0 {
            Kind::Path(path) => open(path, flags, Mode::empty()).map(Some).map_err(system),
            // Opened anew rather than duplicated: it may be an O_PATH descriptor, or not a directory.
            Kind::Fd(fd) => {
                nix::fcntl::openat(fd, ".", flags, Mode::empty()).map(Some).map_err(system)
            }
            Kind::Named(_) => Ok(None),
        }
    }

    /// The path CRIU is to open itself.
    pub(crate) fn named(&self) -> Option<&Path> {
        match &self.0 {
            Kind::Named(path) => Some(path),
            _ => None,
        }
    }

    /// What to call the directory in a message.
    pub(crate) fn path(&self) -> PathBuf {
        match &self.0 {
            Kind::Path(path) | Kind::Named(path) => path.clone(),
            Kind::Fd(fd) => name_of(fd),
        }
    }
}

/// What a descriptor's file is called at present.
pub(crate) fn name_of(fd: impl AsFd) -> PathBuf {
    let link = crate::sys::proc_link(fd.as_fd());
    std::fs::read_link(&link).unwrap_or(link)
}

impl From<&Path> for Dir<'_> {
    fn from(path: &Path) -> Self {
        Self(Kind::Path(path.into()))
    }
}

impl From<&str> for Dir<'_> {
    fn from(path: &str) -> Self {
        Self(Kind::Path(path.into()))
    }
}

impl From<PathBuf> for Dir<'_> {
    fn from(path: PathBuf) -> Self {
        Self(Kind::Path(path))
    }
}

impl From<&PathBuf> for Dir<'_> {
    fn from(path: &PathBuf) -> Self {
        Self(Kind::Path(path.clone()))
    }
}

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
