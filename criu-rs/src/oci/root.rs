//! A directory tree, seen by processes whose root it is.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, open, openat, openat2};
use nix::sys::stat::{Mode, mkdirat};

/// A root directory. Paths are followed inside it: absolute links begin at this directory, and `..`
/// does not leave it, whatever another process does to the tree meanwhile.
#[derive(Debug)]
pub(crate) struct Root {
    fd: OwnedFd,
    /// The path of the directory, seen by this process.
    at: PathBuf,
    /// The kernel's number of the mount that the directory is in.
    mount: u64,
}

impl Root {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let fd = open(path, flags, Mode::empty())?;
        let at = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))?;
        let mount = mount_of(&fd)?;
        Ok(Self { fd, at, mount })
    }

    /// The root of a process, with the mounts that it sees.
    pub(crate) fn of_process(pid: crate::value::Pid) -> io::Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let fd = openat(AT_FDCWD, format!("/proc/{pid}/root").as_str(), flags, Mode::empty())?;
        // Names of files in another mount namespace begin at its root.
        let mount = mount_of(&fd)?;
        Ok(Self { fd, at: std::fs::read_link(format!("/proc/{pid}/root"))?, mount })
    }

    /// Opens the file that a path leads to.
    pub(crate) fn find(&self, path: &Path) -> io::Result<OwnedFd> {
        let resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        Ok(self.resolve(path, resolve)?)
    }

    fn resolve(&self, path: &Path, resolve: ResolveFlag) -> Result<OwnedFd, Errno> {
        let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC).resolve(resolve);
        // The kernel asks for another try if a directory of the path was renamed meanwhile.
        for _ in 0..MAX_TRIES {
            match openat2(&self.fd, path, how) {
                Err(Errno::EAGAIN) => {}
                result => return result,
            }
        }
        Err(Errno::EAGAIN)
    }

    /// Says whether a path of the root's own leads over a link. Parts that are missing count as no
    /// links: they may be in a mount that is not there yet.
    ///
    /// # Errors
    /// The kernel cannot say: a directory may not be searched, or a filter refuses openat2(2).
    pub(crate) fn leads_over_link(&self, path: &Path) -> io::Result<bool> {
        let resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_SYMLINKS;
        match self.resolve(path, resolve) {
            Ok(_) | Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(false),
            Err(Errno::ELOOP) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// The path, from the root and without links, of a file that was found in it.
    pub(crate) fn name(&self, found: &OwnedFd) -> io::Result<PathBuf> {
        let path = std::fs::read_link(format!("/proc/self/fd/{}", found.as_raw_fd()))?;
        let inside = path.strip_prefix(&self.at).map_err(|_| io::Error::from(Errno::EXDEV))?;
        Ok(Path::new("/").join(inside))
    }

    /// Opens a path, and makes its missing directories and its end: a directory or an empty file.
    ///
    /// Mount points are made in the root's own mount only. A bind mount shows a directory of the
    /// machine, and a link in the root can lead there.
    pub(crate) fn make(&self, path: &Path, is_directory: bool) -> io::Result<OwnedFd> {
        match self.find(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => return result,
        }
        let names: Vec<_> = path
            .components()
            .filter_map(|part| match part {
                Component::Normal(name) => Some(Ok(name)),
                Component::ParentDir => Some(Err(io::Error::from(Errno::EINVAL))),
                _ => None,
            })
            .collect::<io::Result<_>>()?;
        let mut done = PathBuf::from("/");
        let mut parent = self.find(&done)?;
        for (index, name) in names.iter().enumerate() {
            done.push(name);
            parent = match self.find(&done) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    if mount_of(&parent)? != self.mount {
                        let done = done.display();
                        return Err(io::Error::other(format!(
                            "{done} is missing and would be made in another mount, outside of the \
                             root file system: make it in what is mounted there"
                        )));
                    }
                    let last = index + 1 == names.len();
                    if last && !is_directory {
                        make_file(&parent, name)?;
                    } else {
                        mkdirat(&parent, *name, Mode::from_bits_truncate(0o755))?;
                    }
                    // The target of a dangling link is not made.
                    self.find(&done)?
                }
                result => result?,
            };
        }
        Ok(parent)
    }
}

/// The kernel's number of the mount in which a file was found.
fn mount_of(found: &OwnedFd) -> io::Result<u64> {
    let path = format!("/proc/thread-self/fdinfo/{}", found.as_raw_fd());
    let text = std::fs::read_to_string(path)?;
    let number = text.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok());
    number.ok_or_else(|| Errno::ENODATA.into())
}

fn make_file(parent: &OwnedFd, name: &std::ffi::OsStr) -> Result<(), Errno> {
    let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
    openat(parent, name, flags, Mode::from_bits_truncate(0o644)).map(drop)
}

/// Most tries of a lookup that loses races to renames.
const MAX_TRIES: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("criu-rs-root-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        dir.canonicalize().unwrap()
    }

    #[test]
    fn links_and_dots_do_not_lead_out() {
        let dir = scratch("links");
        let inside = dir.join("root");
        std::fs::create_dir_all(inside.join("var/run")).unwrap();
        std::fs::create_dir_all(dir.join("outside")).unwrap();
        symlink("/var/run", inside.join("run")).unwrap();
        symlink("../../../outside", inside.join("out")).unwrap();
        let root = Root::open(&inside).unwrap();
        let name = |path: &str| root.find(Path::new(path)).and_then(|fd| root.name(&fd));
        assert_eq!(name("/run").unwrap(), Path::new("/var/run"));
        assert_eq!(name("run/../run").unwrap(), Path::new("/var/run"));
        assert_eq!(name("/../..").unwrap(), Path::new("/"));
        assert_eq!(name("/out").unwrap_err().kind(), io::ErrorKind::NotFound);
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_path_that_cannot_be_looked_at_does_not_count_as_free_of_links() {
        let dir = scratch("leads");
        symlink("/", dir.join("link")).unwrap();
        std::fs::write(dir.join("file"), "").unwrap();
        let root = Root::open(&dir).unwrap();
        let leads = |path: &str| root.leads_over_link(Path::new(path));
        for (path, is_link) in [
            ("/", false),
            ("/missing/a", false),
            ("/file/a", false),
            ("/link", true),
            ("/link/a", true),
        ] {
            assert_eq!(leads(path).unwrap(), is_link, "{path}");
        }
        let long = "a".repeat(300);
        assert_eq!(leads(&long).unwrap_err().raw_os_error(), Some(libc::ENAMETOOLONG));
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn what_is_made_is_made_inside() {
        let dir = scratch("make");
        let inside = dir.join("root");
        std::fs::create_dir_all(&inside).unwrap();
        std::fs::create_dir_all(dir.join("outside")).unwrap();
        symlink(dir.join("outside"), inside.join("out")).unwrap();
        symlink("/nowhere", inside.join("dangling")).unwrap();
        std::fs::create_dir_all(inside.join(dir.strip_prefix("/").unwrap()).join("outside"))
            .unwrap();
        let root = Root::open(&inside).unwrap();
        let made = root.make(Path::new("/out/a/b"), true).unwrap();
        assert!(root.name(&made).unwrap().ends_with("outside/a/b"));
        assert_eq!(std::fs::read_dir(dir.join("outside")).unwrap().count(), 0);
        let file = root.make(Path::new("etc/hosts"), false).unwrap();
        assert_eq!(root.name(&file).unwrap(), Path::new("/etc/hosts"));
        assert!(inside.join("etc/hosts").is_file());
        root.make(Path::new("/dangling/x"), true).unwrap_err();
        root.make(Path::new("/new/../../x"), true).unwrap_err();
        std::fs::remove_dir_all(dir).unwrap();
    }
}

#[cfg(test)]
mod process_tests {
    use super::*;

    #[test]
    fn the_root_of_a_process_is_looked_into() {
        let root = Root::of_process(crate::value::Pid::this()).unwrap();
        let found = root.find(Path::new("/proc/self/exe"));
        // A magic link can lead anywhere.
        assert_eq!(found.unwrap_err().raw_os_error(), Some(libc::ELOOP));
        let found = root.find(Path::new("/proc")).unwrap();
        assert_eq!(root.name(&found).unwrap(), Path::new("/proc"));
    }
}
