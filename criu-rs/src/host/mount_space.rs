//! A mount namespace in which criu is started.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::{env, io};

use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::Mode;
use nix::unistd::{chdir, chroot, fchdir};

use super::own_thread::in_a_thread;

/// A copy of this process's mount namespace, with a place for mounts that only a criu started in
/// the copy sees.
///
/// The kernel removes the namespace with its mounts when no process is in it and no descriptor of
/// it is open: so also when this process is killed. Mounts of the copy are peers of the original
/// ones, so that bind mounts from them propagate as they do outside.
#[derive(Debug)]
pub(crate) struct MountSpace {
    namespace: OwnedFd,
    /// The root directory of this process in the namespace.
    root: OwnedFd,
}

impl MountSpace {
    /// The place for mounts: a small tmpfs, which others do not see.
    ///
    /// A mount over a directory of any other file system would propagate to the mount namespaces of
    /// others, or bind mounts from that file system would no longer propagate. Nothing is bound
    /// from procfs, and CRIU does not look for drivers there.
    pub(crate) const PLACE: &str = "/proc/driver";

    /// Copies the mount namespace of this process, and makes the place.
    pub(crate) fn new() -> io::Result<Self> {
        in_a_thread(|| {
            unshare(CloneFlags::CLONE_NEWNS)?;
            make_place()?;
            let opened = |path, flags| open(path, flags | OFlag::O_CLOEXEC, Mode::empty());
            Ok(Self {
                namespace: opened("/proc/thread-self/ns/mnt", OFlag::O_RDONLY)?,
                root: opened("/", OFlag::O_PATH | OFlag::O_DIRECTORY)?,
            })
        })
    }

    /// Does something in a thread that is in the namespace, with the root and working directory of
    /// this process. Processes and threads that are started there are in the namespace, too.
    pub(crate) fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        let directory = env::current_dir();
        in_a_thread(|| {
            // Threads that share a root directory cannot enter a mount namespace.
            unshare(CloneFlags::CLONE_FS)?;
            setns(&self.namespace, CloneFlags::CLONE_NEWNS)?;
            fchdir(&self.root)?;
            chroot(".")?;
            if let Ok(directory) = directory {
                let _ = chdir(&directory);
            }
            Ok(work())
        })
    }
}

fn make_place() -> io::Result<()> {
    let none = None::<&str>;
    mount(none, "/proc", none, MsFlags::MS_PRIVATE, none)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let place = Path::new(MountSpace::PLACE);
    mount(Some("tmpfs"), place, Some("tmpfs"), flags, Some("mode=755,size=1m"))?;
    mount(none, place, none, MsFlags::MS_PRIVATE, none)?;
    // Tasks in a user namespace may only mount a procfs if they see one that is not covered. The
    // kernel refuses this bind mount where they could not mount one before.
    let proc = place.join("proc");
    std::fs::create_dir(&proc)?;
    let _ = mount(Some("/proc"), &proc, none, MsFlags::MS_BIND, none);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> bool {
        let mounts = std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        mounts.lines().any(|line| line.split(' ').nth(4) == Some(MountSpace::PLACE))
    }

    #[test]
    fn the_place_is_seen_by_whoever_enters_and_nobody_else() {
        let Ok(space) = MountSpace::new() else {
            assert!(!nix::unistd::geteuid().is_root(), "root has no mount namespace");
            return;
        };
        let directory = env::current_dir().unwrap();
        let (is_seen, is_inherited, there) = space
            .enter(|| {
                let other = std::thread::scope(|scope| scope.spawn(place).join().unwrap());
                (place(), other, env::current_dir().unwrap())
            })
            .unwrap();
        assert!(is_seen && is_inherited && !place());
        assert_eq!(there, directory);
    }
}
