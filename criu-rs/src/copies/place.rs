//! A file that only the tasks of one copy see.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, fchown};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, Flock, FlockArg, OFlag, OpenHow, ResolveFlag, open, openat, openat2};
use nix::mount::{MntFlags, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::{Mode, SFlag, fchmod, fstat, fstatat};
use nix::unistd::{UnlinkatFlags, chroot, fchdir, unlinkat};
use procfs::process::Process;

use crate::host::{MountInfo, in_a_thread};
use crate::sys::mounts;
use crate::value::Pid;

/// A file that covers another one in the mount namespace of a task. Dropped, the covered file is
/// removed if it was made for this purpose and no other copy uses it.
#[derive(Debug)]
pub(super) struct Placed {
    world: World,
    covered: Covered,
    /// The mount of the new file.
    mount: Option<OwnedFd>,
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
    file: OwnedFd,
    /// A file that was made to be covered is locked as long as it is in use.
    lock: Option<Flock<File>>,
}

/// Lets a task see a file with these bytes at a path, and no other file there. The task is held.
/// Paths are looked up once: descriptors say where things are from then on.
///
/// # Errors
/// The directory of the path is not there, is reached by a symbolic link, or is in a mount that is
/// shared with other namespaces; the file is missing and cannot or `may_make` not be made; there is
/// something else than a file; another program has locked a file of this crate.
pub(super) fn place(task: Pid, path: &Path, bytes: &[u8], may_make: bool) -> io::Result<Placed> {
    let status = Process::new(task.as_raw()).and_then(|process| process.status());
    let status = status.map_err(io::Error::other)?;
    let owner = (status.fuid, status.fgid);
    let world = World::of(task)?;
    let covered = world.enter(|| Covered::open(&world, path, may_make))?;
    // Dropped at a failure, this removes a file that was made.
    let mut placed = Placed { world, covered, mount: None };
    placed.covered.is_in_private_mounts(task)?;
    let mount = placed.world.enter(|| placed.covered.cover(bytes, owner))?;
    placed.mount = Some(mount);
    Ok(placed)
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
}

impl Covered {
    /// Opens the file, and makes it if it is missing.
    fn open(world: &World, path: &Path, may_make: bool) -> io::Result<Self> {
        let (Some(above), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::Error::other("it has no directory"));
        };
        let directory = directory(world, above)?;
        let mut is_locked = false;
        for _ in 0..MAX_TRIES {
            let (file, mark) = match existing(&directory, name)? {
                Some(found) => found,
                None if !may_make => {
                    let why = "there is no file, and the images may not choose a place for one, \
                               because others can write them: name the file yourself";
                    return Err(io::Error::other(why));
                }
                None => match make(&directory, name) {
                    Ok(made) => made,
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                    Err(error) => {
                        let why = format!("there is no file, and none can be made: {error}");
                        return Err(io::Error::new(error.kind(), why));
                    }
                },
            };
            let lock = mark.map(|mark| Flock::lock(mark, FlockArg::LockSharedNonblock)).transpose();
            is_locked = matches!(lock, Err((_, Errno::EWOULDBLOCK)));
            if is_locked {
                thread::sleep(PAUSE);
                continue;
            }
            let lock = lock.map_err(|(_, error)| error)?;
            let directory = directory.try_clone()?;
            let covered = Self { directory, name: name.to_owned(), file, lock };
            // The last copy of another start may have removed the file meanwhile.
            if covered.is_there() {
                return Ok(covered);
            }
        }
        Err(io::Error::other(if is_locked {
            "another program has locked the file"
        } else {
            "somebody removes the file again and again"
        }))
    }

    /// Refuses mounts whose peers in other namespaces would see the new file, too.
    fn is_in_private_mounts(&self, task: Pid) -> io::Result<()> {
        let all = MountInfo::all(&task.to_string())?;
        for fd in [self.directory.as_fd(), self.file.as_fd()] {
            let id = mount_id(fd)?;
            let mount = all.iter().find(|mount| mount.id == id);
            let mount = mount.ok_or_else(|| io::Error::other("its mount is not the task's"))?;
            if mount.shared.is_some() {
                let why = format!(
                    "the mount at {} is shared, and others would see the file: choose a directory \
                     in a private mount",
                    mount.point.display()
                );
                return Err(io::Error::other(why));
            }
        }
        Ok(())
    }

    /// Covers the file with a new one, and returns the mount of that.
    fn cover(&self, bytes: &[u8], owner: (u32, u32)) -> io::Result<OwnedFd> {
        let storage = mounts::new_tmpfs(c"1m", c"755")?;
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
        let file = openat(&storage, &*self.name, flags, Mode::S_IRUSR | Mode::S_IWUSR)?;
        let mut file = File::from(file);
        // The umask may have taken more away.
        fchmod(&file, Mode::S_IRUSR | Mode::S_IWUSR)?;
        file.write_all(bytes)?;
        fchown(&file, Some(owner.0), Some(owner.1))?;
        // Only a file in a mounted file system can get a mount of its own. So the directory is
        // borrowed: the tasks are held, and no other process is in the namespace.
        mounts::attach(&storage, &self.directory)?;
        let mount = mounts::clone(&file).and_then(|mount| {
            mounts::attach(&mount, &self.file)?;
            Ok(mount)
        });
        umount2(&link(&storage), MntFlags::MNT_DETACH)?;
        mount
    }

    /// Returns true if the open file is still the one at the path.
    fn is_there(&self) -> bool {
        let found = fstatat(&self.directory, &*self.name, AtFlags::AT_SYMLINK_NOFOLLOW);
        matches!((found, fstat(&self.file)), (Ok(found), Ok(own))
            if (found.st_dev, found.st_ino) == (own.st_dev, own.st_ino))
    }

    /// Removes the file, if it was made by this crate and nobody else uses it.
    fn remove(&self) {
        let Some(lock) = &self.lock else { return };
        let is_last = lock.relock(FlockArg::LockExclusiveNonblock).is_ok();
        if is_last && has_mark(lock) && self.is_there() {
            let _ = unlinkat(&self.directory, &*self.name, UnlinkatFlags::NoRemoveDir);
        }
    }
}

impl Drop for Placed {
    fn drop(&mut self) {
        let _ = self.world.enter(|| {
            if let Some(mount) = &self.mount {
                let _ = umount2(&link(mount), MntFlags::MNT_DETACH);
            }
            self.covered.remove();
            Ok(())
        });
    }
}

/// Opens the directory of the file. A symbolic link could be replaced by somebody else at any time.
fn directory(world: &World, path: &Path) -> io::Result<OwnedFd> {
    let resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_SYMLINKS;
    openat2(&world.root, path, OpenHow::new().flags(DIRECTORY).resolve(resolve)).map_err(|error| {
        let why = match error {
            Errno::ELOOP => "a symbolic link leads there, and the path has to be without",
            error => error.desc(),
        };
        let why = format!("its directory cannot be opened: {why}");
        io::Error::new(io::Error::from(error).kind(), why)
    })
}

/// Opens the file that is there, twice if it is one of this crate: the second descriptor can be
/// locked. `None` if nothing is there.
fn existing(directory: &OwnedFd, name: &OsStr) -> io::Result<Option<(OwnedFd, Option<File>)>> {
    // Not opened for use before its kind is known.
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let file = match openat(directory, name, flags, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::ENOENT) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    if fstat(&file)?.st_mode & SFlag::S_IFMT.bits() != SFlag::S_IFREG.bits() {
        return Err(io::Error::other("there is something else than a file"));
    }
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    // A file that cannot be read is not one of this crate.
    let mark = open(&link(&file), flags, Mode::empty()).ok().map(File::from).filter(has_mark);
    Ok(Some((file, mark)))
}

/// Makes the file that is to be covered.
fn make(directory: &OwnedFd, name: &OsStr) -> io::Result<(OwnedFd, Option<File>)> {
    let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
    let file = openat(directory, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)?;
    let mut mark = File::from(file.try_clone()?);
    // A file without the mark stays, which is better than to have none.
    let _ = mark.write_all(MARK.as_bytes());
    Ok((file, Some(mark)))
}

/// Returns true for a file that is there to be covered.
fn has_mark(file: &File) -> bool {
    let mut text = [0; MARK.len() + 1];
    matches!(file.read_at(&mut text, 0), Ok(count) if text.get(..count) == Some(MARK.as_bytes()))
}

/// Returns the id of the mount that an open file is in.
fn mount_id(file: impl AsFd) -> io::Result<u32> {
    let about = fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_fd().as_raw_fd()))?;
    let id = about.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok());
    id.ok_or_else(|| io::Error::other("the kernel does not tell its mount"))
}

/// Returns the name of a descriptor's link.
fn link(fd: impl AsFd) -> PathBuf {
    fd.as_fd().as_raw_fd().to_string().into()
}

const DIRECTORY: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);

/// The text of a file that is there to be covered.
const MARK: &str = "# A place for the identity of a copy, made by criu-rs. Not a copy.\n";

/// The most tries to open a file that others remove or lock.
const MAX_TRIES: usize = 50;

/// The time between two tries to lock a file, which the last copy of another start locks for a
/// moment to remove it. All tries take a second.
const PAUSE: Duration = Duration::from_millis(20);
