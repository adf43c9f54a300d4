//! A file that only the tasks of one copy see.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{
    AtFlags, Flock, FlockArg, OFlag, OpenHow, ResolveFlag, open, openat, openat2, readlinkat,
};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::{Mode, SFlag, fstatat};
use nix::unistd::{UnlinkatFlags, chroot, fchdir, unlinkat};
use procfs::process::Process;

use crate::host::in_a_thread;
use crate::value::Pid;

/// A file that covers another one in the mount namespace of a task. Dropped, the covered file is
/// removed if it was made for this purpose and no other copy uses it.
#[derive(Debug)]
pub(super) struct Placed {
    world: World,
    covered: Covered,
}

/// The mount namespace and the root directory of a task.
#[derive(Debug)]
struct World {
    mounts: OwnedFd,
    root: OwnedFd,
    /// The links to this process's descriptors, which the task may not see.
    links: OwnedFd,
}

/// The file at the path, in the file system that all copies share.
#[derive(Debug)]
struct Covered {
    directory: OwnedFd,
    name: OsString,
    /// Locked as long as the file is in use.
    file: Flock<File>,
}

/// Lets a task see a file with these bytes at a path, and no other file there. The task is held.
///
/// # Errors
/// The directory of the path is not there or is `/`; the file is missing and cannot be made; there
/// is something else than a file.
pub(super) fn place(task: Pid, path: &Path, bytes: &[u8]) -> io::Result<Placed> {
    let status = Process::new(task.as_raw()).and_then(|process| process.status());
    let status = status.map_err(io::Error::other)?;
    let world = World::of(task)?;
    let covered = world.enter(|| {
        let covered = Covered::open(&world, path)?;
        let owner = (status.fuid, status.fgid);
        covered.cover(&world, bytes, owner)?;
        Ok(covered)
    })?;
    Ok(Placed { world, covered })
}

/// Opens a namespace of a task.
pub(super) fn namespace(task: Pid, kind: &str) -> io::Result<OwnedFd> {
    Ok(File::open(format!("/proc/{task}/ns/{kind}"))?.into())
}

impl World {
    fn of(task: Pid) -> io::Result<Self> {
        let opened = |path: &str| Ok::<_, io::Error>(open(path, DIRECTORY, Mode::empty())?);
        Ok(Self {
            mounts: namespace(task, "mnt")?,
            root: opened(&format!("/proc/{task}/root"))?,
            links: opened("/proc/self/fd")?,
        })
    }

    /// Does something in a thread that is in the namespace and has the task's root directory.
    fn enter<T: Send>(&self, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        in_a_thread(|| {
            // Threads that share a root directory cannot enter a mount namespace.
            unshare(CloneFlags::CLONE_FS)?;
            setns(&self.mounts, CloneFlags::CLONE_NEWNS)?;
            fchdir(&self.root)?;
            chroot(".")?;
            // The name of a descriptor's link is then a path, also where the task has no /proc.
            fchdir(&self.links)?;
            work()
        })
    }

    /// Returns the path of an open directory, as it is in the namespace.
    fn path_of(&self, directory: &OwnedFd) -> io::Result<PathBuf> {
        let path = PathBuf::from(readlinkat(&self.links, link(directory).as_os_str())?);
        let is_usable = path.is_absolute() && path != Path::new("/");
        is_usable.then_some(path).ok_or_else(|| io::Error::other("its directory is `/`"))
    }
}

impl Covered {
    /// Opens the file, and makes it if it is missing.
    fn open(world: &World, path: &Path) -> io::Result<Self> {
        let (Some(above), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::Error::other("it has no directory"));
        };
        let no_links = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        let how = OpenHow::new().flags(DIRECTORY).resolve(no_links);
        let directory = openat2(&world.root, above, how).map_err(|error| {
            let why = format!("its directory cannot be opened: {}", error.desc());
            io::Error::new(io::Error::from(error).kind(), why)
        })?;
        for _ in 0..MAX_TRIES {
            let file = match make(&directory, name) {
                Err(Errno::EEXIST) => existing(&directory, name)?,
                made => made.map_err(|error| {
                    let why = format!("there is no file, and none can be made: {}", error.desc());
                    io::Error::new(io::Error::from(error).kind(), why)
                })?,
            };
            let file = Flock::lock(file, FlockArg::LockShared).map_err(|(_, error)| error)?;
            let covered = Self { directory: directory.try_clone()?, name: name.to_owned(), file };
            // The last copy of another start may have removed the file meanwhile.
            if covered.is_there() {
                return Ok(covered);
            }
        }
        Err(io::Error::other("somebody removes the file again and again"))
    }

    /// Covers the file with a new one.
    fn cover(&self, world: &World, bytes: &[u8], owner: (u32, u32)) -> io::Result<()> {
        let above = world.path_of(&self.directory)?;
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        let none = None::<&str>;
        // The new file needs a file system of its own, for which its directory is borrowed: the
        // tasks are held, and no other process is in the namespace.
        mount(Some("tmpfs"), &above, Some("tmpfs"), flags, Some("mode=755,size=1m"))?;
        let covered = (|| {
            let new = above.join(&self.name);
            let mut file = fs::OpenOptions::new();
            let mut file = file.write(true).create_new(true).open(&new)?;
            nix::sys::stat::fchmod(&file, Mode::S_IRUSR | Mode::S_IWUSR)?;
            file.write_all(bytes)?;
            fchown(&file, Some(owner.0), Some(owner.1))?;
            Ok(mount(Some(&new), &link(&*self.file), none, MsFlags::MS_BIND, none)?)
        })();
        umount2(&above, MntFlags::MNT_DETACH)?;
        covered
    }

    /// Returns true if the open file is still the one at the path.
    fn is_there(&self) -> bool {
        let found = fstatat(&self.directory, &*self.name, AtFlags::AT_SYMLINK_NOFOLLOW);
        let own = self.file.metadata();
        matches!((found, own), (Ok(found), Ok(own))
            if (found.st_dev, found.st_ino) == (own.dev(), own.ino()))
    }

    /// Removes the file, if it was made by this crate and nobody else uses it.
    fn remove(&self) {
        let is_last = self.file.relock(FlockArg::LockExclusiveNonblock).is_ok();
        let mut text = Vec::new();
        let read = (&*self.file).take(MARK.len() as u64 + 1).read_to_end(&mut text);
        if is_last && read.is_ok() && text == MARK.as_bytes() && self.is_there() {
            let _ = unlinkat(&self.directory, &*self.name, UnlinkatFlags::NoRemoveDir);
        }
    }
}

impl Drop for Placed {
    fn drop(&mut self) {
        let _ = self.world.enter(|| {
            if let Ok(above) = self.world.path_of(&self.covered.directory) {
                let _ = umount2(&above.join(&self.covered.name), MntFlags::MNT_DETACH);
            }
            self.covered.remove();
            Ok(())
        });
    }
}

/// Makes the file that is to be covered.
fn make(directory: &OwnedFd, name: &OsStr) -> nix::Result<File> {
    let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
    let file = openat(directory, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)?;
    let mut file = File::from(file);
    // A file without the mark stays, which is better than to have none.
    let _ = file.write_all(MARK.as_bytes());
    let _ = io::Seek::rewind(&mut file);
    Ok(file)
}

/// Opens the file that is there.
fn existing(directory: &OwnedFd, name: &OsStr) -> io::Result<File> {
    let found = fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    if found.st_mode & SFlag::S_IFMT.bits() != SFlag::S_IFREG.bits() {
        return Err(io::Error::other("there is something else than a file"));
    }
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    Ok(File::from(openat(directory, name, flags, Mode::empty())?))
}

/// Returns the name of a descriptor's link.
fn link(fd: impl AsFd) -> PathBuf {
    fd.as_fd().as_raw_fd().to_string().into()
}

const DIRECTORY: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);

/// The text of a file that is there to be covered.
const MARK: &str = "# A place for the identity of a copy, made by criu-rs. Not a copy.\n";

/// The most tries to open a file that others remove.
const MAX_TRIES: usize = 16;
