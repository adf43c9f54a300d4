//! Names at which criu writes, and who else can write there.

use std::ffi::CStr;
use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};
use nix::unistd::geteuid;

use super::system::SystemError;
use super::text::printable;

/// A place at which criu would write into a file that is not its own. Nothing was written into a
/// file that was there.
///
/// CRIU follows links, and writes into files that are there, so another user who can write into
/// the directory could choose the file that criu overwrites.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {}", self.what(), problem.hint())]
#[non_exhaustive]
pub struct PlaceError {
    /// The file, or the directory if the directory itself is the problem.
    pub path: PathBuf,
    /// The problem.
    pub problem: PlaceProblem,
}

impl PlaceError {
    /// Returns the path and the problem, without advice.
    pub fn what(&self) -> String {
        format!("{} {}", printable(self.path.as_os_str().as_encoded_bytes()), self.problem)
    }
}

/// The reason why criu must not write at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlaceProblem {
    /// A symbolic link, which leads here.
    Link(PathBuf),
    /// Anything else than a file or a symbolic link, such as "a FIFO" or "a directory".
    NoFile(&'static str),
    /// Anything else than a socket, at the name of the lazy-pages daemon's socket.
    NoSocket,
    /// A socket at which another handler of lazy pages listens.
    InUse,
    /// A file with several hard links.
    HardLinks(u64),
    /// A file or link of another user, with this uid.
    Foreign(u32),
    /// A directory in which a new one of mode 0700 does not belong to this user alone. The file
    /// system keeps no owners and modes, or another user has replaced the new directory.
    NoOwners {
        /// The owner of the new directory.
        uid: u32,
        /// The mode of the new directory.
        mode: u32,
    },
    /// A directory that others can write, in which criu cannot do this safely.
    Shared {
        /// The users who can write there.
        writers: Writers,
        /// The purpose of the directory, such as "the log of a configuration file".
        purpose: &'static str,
    },
}

impl PlaceProblem {
    /// Returns advice: a verb phrase.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Shared { writers: Writers::Everyone, .. } => {
                "use another directory, or take the right to write away (chmod go-w)"
            }
            Self::NoOwners { .. } => {
                "use a directory on another file system, or set trust_directory if nobody else can \
                 write there"
            }
            Self::Foreign(_) => {
                "remove it, or use another directory, or set trust_directory on a file system that \
                 keeps no owners"
            }
            Self::Shared { writers: Writers::Owner(_), .. } => {
                "use a directory of your own, or take this one over (chown)"
            }
            Self::Shared { writers: Writers::Group(_), .. } => {
                "use another directory, or take the right to write away (chmod g-w, and setfacl -b \
                 if it has an access control list)"
            }
            Self::InUse => "end that daemon, or use another work directory",
            _ => "remove it, or use another directory",
        }
    }
}

impl fmt::Display for PlaceProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link(target) => write!(
                f,
                "is a symbolic link to {}, where criu is to write a file of its own",
                printable(target.as_os_str().as_encoded_bytes())
            ),
            Self::NoFile(what) => write!(f, "is {what}, where criu is to write a file"),
            Self::NoSocket => f.write_str("is no socket, and has the name of lazy-pages' socket"),
            Self::InUse => f.write_str("is the socket of a lazy-pages daemon that runs"),
            Self::HardLinks(links) => {
                write!(f, "has {links} hard links, and criu would write into all of them")
            }
            Self::Foreign(uid) => {
                write!(f, "belongs to user {uid}, where criu is to write a file of its own")
            }
            Self::NoOwners { uid, mode } => write!(
                f,
                "does not keep the owner and mode of a new private directory, which has user \
                 {uid}, mode {mode:o}"
            ),
            Self::Shared { writers, purpose } => {
                write!(f, "can be written by {writers}, which is not safe for {purpose}")
            }
        }
    }
}

/// The users, beside the own one and root, who can write into a directory.
///
/// They can replace the files in it at any time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Writers {
    /// Every user.
    Everyone,
    /// The owner, with this uid.
    Owner(u32),
    /// The group with this gid, or users and groups of an access control list.
    Group(u32),
}

impl fmt::Display for Writers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everyone => f.write_str("every user"),
            Self::Owner(uid) => write!(f, "user {uid}"),
            Self::Group(gid) => write!(f, "group {gid}"),
        }
    }
}

/// Returns who else can write into an open directory, or `None` if nobody else can.
///
/// An access control list counts, too: its mask is the group's part of the mode.
pub(crate) fn writers(directory: impl AsFd) -> nix::Result<Option<Writers>> {
    let stat = fstat(directory.as_fd())?;
    let mode = Mode::from_bits_truncate(stat.st_mode);
    Ok(if mode.contains(Mode::S_IWOTH) {
        Some(Writers::Everyone)
    } else if !is_ours(&stat) {
        Some(Writers::Owner(stat.st_uid))
    } else if mode.contains(Mode::S_IWGRP) {
        Some(Writers::Group(stat.st_gid))
    } else {
        None
    })
}

/// Looks at every name in a directory that `role` says criu will use.
///
/// # Errors
/// [`PlaceFault::Unsafe`] for the first name at which criu would write somewhere else.
pub(crate) fn look(
    directory: &OwnedFd,
    shown: &Path,
    role: impl Fn(&CStr) -> Option<Role>,
) -> Result<(), PlaceFault> {
    let list = |source: Errno| {
        PlaceFault::System(SystemError::new(format!("list {}", shown.display()), source))
    };
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut entries = Dir::openat(directory.as_fd(), ".", flags, Mode::empty()).map_err(list)?;
    for entry in entries.iter() {
        let entry = entry.map_err(list)?;
        if let Some(role) = role(entry.file_name()) {
            look_at(directory, shown, entry.file_name(), role)?;
        }
    }
    Ok(())
}

/// Looks at one name in a directory. A name that is not there is safe.
///
/// # Errors
/// [`PlaceFault::Unsafe`] if criu would write somewhere else.
pub(crate) fn look_at(
    directory: &OwnedFd,
    shown: &Path,
    name: &CStr,
    role: Role,
) -> Result<(), PlaceFault> {
    let path = shown.join(Path::new(std::ffi::OsStr::new(&*name.to_string_lossy())));
    let stat = match fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(Errno::ENOENT) => return Ok(()),
        Err(source) => {
            let doing = format!("look at {}", path.display());
            return Err(PlaceFault::System(SystemError::new(doing, source)));
        }
    };
    let target = || readlinkat(directory, name).map(PathBuf::from).unwrap_or_default();
    match problem(&stat, role, target) {
        Some(problem) => Err(PlaceFault::Unsafe(PlaceError { path, problem })),
        None => Ok(()),
    }
}

/// Returns the reason why criu must not write at a name.
fn problem(stat: &FileStat, role: Role, target: impl Fn() -> PathBuf) -> Option<PlaceProblem> {
    let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
    if role == Role::Link && kind == SFlag::S_IFLNK {
        return (!is_ours(stat)).then_some(PlaceProblem::Foreign(stat.st_uid));
    }
    if kind != SFlag::S_IFREG {
        return Some(match kind {
            SFlag::S_IFLNK => PlaceProblem::Link(target()),
            SFlag::S_IFDIR => PlaceProblem::NoFile("a directory"),
            SFlag::S_IFIFO => PlaceProblem::NoFile("a FIFO"),
            SFlag::S_IFSOCK => PlaceProblem::NoFile("a socket"),
            _ => PlaceProblem::NoFile("a device"),
        });
    }
    if !is_ours(stat) {
        return Some(PlaceProblem::Foreign(stat.st_uid));
    }
    let links = stat.st_nlink;
    let wanted = if role == Role::LinkedFile { 2 } else { 1 };
    #[allow(clippy::useless_conversion)] // Narrower on some platforms.
    (links > wanted).then(|| PlaceProblem::HardLinks(links.into()))
}

/// Says whether a file belongs to this process's user or to root.
pub(crate) fn is_ours(stat: &FileStat) -> bool {
    stat.st_uid == 0 || stat.st_uid == geteuid().as_raw()
}

/// The use that criu makes of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// A file that criu writes.
    File,
    /// A file that criu writes, to which this process has made another link.
    LinkedFile,
    /// The link to the parent images, which criu follows only to read.
    Link,
}

/// The result of a look that did not end well.
#[derive(Debug)]
pub(crate) enum PlaceFault {
    Unsafe(PlaceError),
    System(SystemError),
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("criu-rs-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        path
    }

    #[test]
    fn links_fifos_and_directories_are_no_place_for_a_file() {
        let path = scratch("place");
        let directory = OwnedFd::from(File::open(&path).unwrap());
        let role = |name: &CStr| (name == c"files.img").then_some(Role::File);
        let look = |make: &dyn Fn(&Path)| {
            make(&path.join("files.img"));
            let found = look(&directory, &path, role);
            let _ = fs::remove_file(path.join("files.img"));
            let _ = fs::remove_dir(path.join("files.img"));
            match found {
                Ok(()) => None,
                Err(PlaceFault::Unsafe(error)) => Some(error.problem),
                Err(PlaceFault::System(error)) => panic!("{error}"),
            }
        };
        assert_eq!(look(&|_| ()), None);
        assert_eq!(look(&|at| fs::write(at, "").unwrap()), None);
        let link = look(&|at| symlink("/etc/shadow", at).unwrap());
        assert_eq!(link, Some(PlaceProblem::Link("/etc/shadow".into())));
        let folder = look(&|at| fs::create_dir(at).unwrap());
        assert_eq!(folder, Some(PlaceProblem::NoFile("a directory")));
        let fifo = look(&|at| nix::unistd::mkfifo(at, Mode::S_IRWXU).unwrap());
        assert_eq!(fifo, Some(PlaceProblem::NoFile("a FIFO")));
        fs::write(path.join("other"), "").unwrap();
        let linked = look(&|at| fs::hard_link(path.join("other"), at).unwrap());
        assert_eq!(linked, Some(PlaceProblem::HardLinks(2)));
        fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn advice_for_a_shared_directory_takes_the_right_of_its_writers() {
        let hint = |writers| PlaceProblem::Shared { writers, purpose: "a log" }.hint();
        assert!(hint(Writers::Everyone).contains("chmod go-w"));
        assert!(hint(Writers::Owner(1000)).contains("chown"));
        assert!(hint(Writers::Group(100)).contains("setfacl -b"));
    }

    #[test]
    fn a_directory_is_shared_by_its_mode() {
        let path = scratch("shared");
        let directory = File::open(&path).unwrap();
        for (mode, shared) in [(0o700, false), (0o755, false), (0o775, true), (0o1777, true)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(writers(&directory).unwrap().is_some(), shared, "{mode:o}");
        }
        fs::remove_dir_all(path).unwrap();
    }
}
