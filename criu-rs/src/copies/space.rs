//! The namespaces of a copy.

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, fstat};
use nix::unistd::{getpid, sethostname};

use crate::error::{Error, Result};
use crate::host::loopback;
use crate::sys::proc_link;

/// The namespaces of a copy, beside its pid namespace.
///
/// The first process of a new pid namespace makes them for itself, while it has one thread: mount,
/// UTS and IPC namespaces, and if wanted a network. A criu that it starts restores the tasks there.
/// The kernel kills all tasks when this process ends.
#[derive(Clone, Debug)]
#[must_use = "nothing is made until it is entered"]
pub struct Space {
    hostname: String,
    network: bool,
    private: Vec<PathBuf>,
}

impl Space {
    /// Namespaces with this hostname.
    pub fn new(hostname: impl Into<String>) -> Self {
        Self { hostname: hostname.into(), network: false, private: Vec::new() }
    }

    /// Adds a network namespace, in which the loopback interface is up and nothing else is.
    pub fn network(mut self, on: bool) -> Self {
        self.network = on;
        self
    }

    /// Covers a directory with an empty one of the same mode and owner, which only this copy sees.
    pub fn private(mut self, directory: impl Into<PathBuf>) -> Self {
        self.private.push(directory.into());
        self
    }

    /// Puts this process into the namespaces. Its mounts are those from before, except `/proc`, and
    /// no mount reaches the outside or comes from there.
    ///
    /// # Errors
    /// [`Error::System`]: this process is not the first of its pid namespace, has several threads,
    /// or may not make namespaces.
    pub fn enter(&self) -> Result<()> {
        if getpid().as_raw() != 1 {
            let why = "this process is not the first of a pid namespace";
            return Err(Error::system("enter the namespaces of a copy", io::Error::other(why)));
        }
        let mut flags = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS;
        flags |= CloneFlags::CLONE_NEWIPC;
        flags.set(CloneFlags::CLONE_NEWNET, self.network);
        unshare(flags).map_err(|error| Error::system("make namespaces for a copy", error))?;
        let none = None::<&str>;
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(none, "/", none, private, none)
            .map_err(|error| Error::system("part from the mounts of the caller", error))?;
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount(Some("proc"), "/proc", Some("proc"), flags, none)
            .map_err(|error| Error::system("mount /proc for a copy", error))?;
        sethostname(&self.hostname)
            .map_err(|error| Error::system("set the hostname of a copy", error))?;
        if self.network {
            loopback::bring_up()
                .map_err(|error| Error::system("start the loopback interface", error))?;
        }
        self.private.iter().try_for_each(|directory| cover(directory))
    }
}

/// Mounts an empty directory over one. The path is looked up once.
fn cover(directory: &Path) -> Result<()> {
    let failed = |error: Errno| {
        Error::system(format!("cover {} with an empty directory", directory.display()), error)
    };
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let opened = open(directory, flags, Mode::empty()).map_err(failed)?;
    let found = fstat(&opened).map_err(failed)?;
    let (mode, uid, gid) = (found.st_mode & 0o7777, found.st_uid, found.st_gid);
    let options = format!("mode={mode:o},uid={uid},gid={gid}");
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    let place = proc_link(opened.as_fd());
    mount(Some("tmpfs"), &place, Some("tmpfs"), flags, Some(options.as_str())).map_err(failed)
}
