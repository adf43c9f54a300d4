//! The restore of a container, and what was made for it.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::sys::statfs::{NSFS_MAGIC, fstatfs};

use super::cgroups::{Cgroups, MadeCgroups};
use super::clean_up::clean_up;
use super::descriptors::Descriptors;
use super::error::{Error, Result};
use super::own_mounts::OwnMounts;
use super::plan::RestorePlan;
use crate::criu::Criu;
use crate::hooks::Hooks;
#[cfg(feature = "lazy")]
use crate::lazy::{LazyHandle, LazyPages};
use crate::operation::{Restore, Restored, Session};
#[cfg(feature = "preflight")]
use crate::preflight::Report;
use crate::sys::proc_link;
use crate::value::{CgroupMode, External, InheritFd};

/// The restore of a container: a [`Restore`] with what was made for it, such as a mount point for
/// the container's root. Mounts, descriptors and unused cgroups are removed when this value is
/// dropped, which is safe once the restore is over. Mount points that were made in the root file
/// system stay.
///
/// The options of a [`Restore`] are methods here. Repeat what the dump was told: TCP connections,
/// file locks, shell jobs. The restored root is this process's child. [`run`](Self::run) does more
/// than a restore: the tasks are in the container's cgroups from the start, also where the images
/// have none.
///
/// ```no_run
/// use criu_rs::oci::Container;
/// use criu_rs::{Criu, Tcp};
///
/// let container = Container::open("/run/bundles/web")?;
/// let restore = container.restore("/ckpt/web")?.prepare("/run/my-runtime/web")?;
/// let restored = restore.tcp(Tcp::Established).run(&Criu::new())?;
/// println!("process {} runs again", restored.pid);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// The cgroups cannot be left out by mistake, because the value is not a [`Restore`]:
///
/// ```compile_fail,E0308
/// use criu_rs::oci::Container;
/// use criu_rs::{Criu, Restore, Tcp};
///
/// let container = Container::open("/run/bundles/web")?;
/// let restore: Restore<'_> = container.restore("/ckpt/web")?.prepare("/run/my-runtime/web")?;
/// let restored = restore.tcp(Tcp::Established).run(&Criu::new())?;
/// println!("process {} runs again", restored.pid);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "nothing is restored before `run`"]
pub struct ContainerRestore<'a> {
    /// The restore without the descriptors of `namespaces`.
    pub(super) operation: Restore<'a>,
    namespaces: Vec<(OsString, OwnedFd)>,
    mounts: OwnMounts,
    /// Cgroups that were made for the container's.
    _cgroups: Option<MadeCgroups>,
    cgroups: Option<Cgroups>,
    has_cgroups: bool,
    descriptors: Descriptors,
}

impl RestorePlan<'_> {
    /// Makes what CRIU needs to find: missing mount points in the root file system, a mount point
    /// for that root, descriptors of the namespaces, and the cgroups above the container's.
    ///
    /// `state` is the runtime's directory of this container. Nothing is mounted there, so that a
    /// recursive removal of the directory is safe at any time, also after the runtime was killed.
    /// Mounts that another runtime or an earlier version has left there are
    /// [unmounted](super::clean_up). The mounts for CRIU are made in a mount namespace in which
    /// [`run`](ContainerRestore::run) starts criu. That namespace is a copy of this process's, and
    /// the kernel removes it when the value is dropped or the process ends.
    ///
    /// Cgroups come back as they were saved. Where the dump ignored them, the tasks begin in the
    /// cgroups of criu, and [`run`](ContainerRestore::run) puts criu into the container's.
    ///
    /// # Errors
    /// When one of them cannot be made. Everything except mount points is removed again then.
    pub fn prepare(self, state: impl AsRef<Path>) -> Result<ContainerRestore<'static>> {
        let state = state.as_ref();
        state.canonicalize().map_err(|source| Error::path("find the directory", state, source))?;
        clean_up(state)?;
        let mounts = OwnMounts::of(&self)?;
        let made = match self.cgroups.as_ref().filter(|_| self.has_cgroups) {
            Some(cgroups) => Some(cgroups.make_above()?),
            None => None,
        };
        let operation = self.operation();
        for join in &self.join {
            open_namespace(Path::new(join.place()))?;
        }
        let open = |(key, path): (OsString, PathBuf)| Ok((key, open_namespace(&path)?.into()));
        Ok(ContainerRestore {
            operation,
            namespaces: self.inherit.into_iter().map(open).collect::<Result<_>>()?,
            mounts,
            _cgroups: made,
            cgroups: self.cgroups,
            has_cgroups: self.has_cgroups,
            descriptors: self.descriptors,
        })
    }

    /// A restore with everything that needs no descriptor.
    fn operation(&self) -> Restore<'static> {
        let mut restore = Restore::new(self.images.clone())
            .root(self.container.rootfs())
            .rst_sibling(true)
            .evasive_devices(true)
            .orphan_pts_master(true)
            .manage_cgroups(if self.has_cgroups { CgroupMode::Soft } else { CgroupMode::Ignore });
        for (key, source) in self.sources() {
            restore = restore.external(External::mount(key, source));
        }
        for join in &self.join {
            restore = restore.join_ns(join.clone());
        }
        if let Some(profile) = &self.profile {
            restore = restore.lsm_profile(profile.clone());
        }
        if let Some(context) = &self.context {
            restore = restore.lsm_mount_context(context.clone());
        }
        if let Some(cgroups) = self.cgroups.as_ref().filter(|_| self.has_cgroups) {
            restore = cgroups.become_roots(restore);
        }
        if let Some(file) = self.container.config_file() {
            restore = restore.config_file(file);
        }
        restore
    }
}

/// Opens a namespace at a path that `config.json` names, without a wait where the path leads to a
/// FIFO or to a device.
fn open_namespace(path: &Path) -> Result<File> {
    let failed = |source| Error::path("open the namespace", path, source);
    let look = File::options().read(true).custom_flags(libc::O_PATH).open(path).map_err(failed)?;
    if fstatfs(&look).map_err(|error| failed(error.into()))?.filesystem_type() != NSFS_MAGIC {
        return Err(failed(io::Error::other("it is not a namespace")));
    }
    File::open(proc_link(look.as_fd())).map_err(failed)
}

impl<'a> ContainerRestore<'a> {
    /// Puts these standard streams (input, output, error) in the places of the container's pipes.
    pub fn stdio(mut self, stdio: [BorrowedFd<'a>; 3]) -> Self {
        let inherited = self.descriptors.inherit(stdio);
        self.operation = inherited.into_iter().fold(self.operation, Restore::inherit_fd);
        self
    }

    /// Restores. The tasks are in the container's cgroups from the start.
    ///
    /// # Errors
    /// See [`crate::Error`]. [`Error::Path`] when a cgroup cannot be made.
    /// [`Error::OutsideCgroups`] where the images have no cgroups, the container's are known, and
    /// the criu at hand is not one that this process has started, but a service, a connected socket
    /// or libcriu's. No process is left behind.
    pub fn run(&self, criu: &Criu) -> Result<Restored> {
        self.run_with(criu, &mut ())
    }

    /// Restores, answering CRIU's actions with `hooks`, such as
    /// [`RestoreHooks`](super::RestoreHooks).
    ///
    /// # Errors
    /// See [`run`](Self::run).
    pub fn run_with(&self, criu: &Criu, hooks: &mut dyn Hooks) -> Result<Restored> {
        // Dropped after the session: while criu is in them, the cgroups cannot be removed.
        let mut made = MadeCgroups::default();
        let session = self.enter(criu, &mut made, |restore| restore.start(criu))?;
        let restored = session.finish(hooks)?;
        made.keep();
        Ok(restored)
    }

    /// Starts a criu in the container's cgroups, and does not send the request yet. An event loop
    /// goes on with [`Session::advance`](crate::Session::advance). This value has to live until the
    /// session is over. Cgroups that are made for criu stay, even if the restore fails.
    ///
    /// # Errors
    /// See [`run`](Self::run).
    pub fn start(&self, criu: &Criu) -> Result<Session<Restored>> {
        let mut made = MadeCgroups::default();
        let session = self.enter(criu, &mut made, |restore| restore.start(criu))?;
        made.keep();
        Ok(session)
    }

    /// Lets the container run before its memory is there, which `pages` brings later: see
    /// [`Restore::lazy`].
    #[cfg(feature = "lazy")]
    pub fn lazy(self, pages: &LazyPages) -> LazyContainerRestore<'a> {
        LazyContainerRestore { restore: self, pages: pages.clone() }
    }

    /// Starts a criu, and moves it into the container's cgroups. `made` takes those that are made.
    fn enter<T>(
        &self,
        criu: &Criu,
        made: &mut MadeCgroups,
        start: impl FnOnce(Restore<'_>) -> crate::error::Result<Session<T>>,
    ) -> Result<Session<T>> {
        let session = start(self.for_criu(criu)?)?;
        if let Some(cgroups) = self.cgroups_of_criu() {
            let criu = session.pid().ok_or(Error::OutsideCgroups {
                why: "this process has not started the criu that restores, and cannot move it \
                      there: use Criu::new or Criu::at",
            })?;
            cgroups.enter(criu, made)?;
        }
        Ok(session)
    }

    #[cfg(feature = "pod")]
    /// The plain restore, for a [`PodRestore`](crate::PodRestore). It is borrowed from this value,
    /// which is to live until the pod is restored.
    ///
    /// # Errors
    /// [`Error::OutsideCgroups`] where the images have no cgroups and the container's are known: a
    /// pod moves no criu into them.
    pub fn for_pod(&self) -> Result<Restore<'_>> {
        if self.cgroups_of_criu().is_some() {
            return Err(Error::OutsideCgroups {
                why: "a pod does not move criu there: restore the container by itself",
            });
        }
        Ok(self.mounts.seen_by_own_criu(self.with_namespaces()))
    }

    #[cfg(feature = "preflight")]
    /// Looks at the images and at this host, and says whether this restore would work: see
    /// [`Restore::preflight`].
    ///
    /// # Errors
    /// When criu does not start or does not answer. Everything else is a finding.
    pub fn preflight(&self, criu: &Criu) -> Result<Report> {
        Ok(self.with_namespaces().preflight(criu)?)
    }

    /// The cgroups in which the restored tasks are to be.
    pub fn cgroups(&self) -> Option<&Cgroups> {
        self.cgroups.as_ref()
    }

    /// The restore as this criu can do it.
    fn for_criu(&self, criu: &Criu) -> Result<Restore<'_>> {
        let restore = self.with_namespaces();
        if criu.transport().starts_criu() {
            return Ok(self.mounts.seen_by_own_criu(restore));
        }
        self.mounts.refuse_without(criu)?;
        Ok(restore)
    }

    /// The restore with all its descriptors.
    fn with_namespaces(&self) -> Restore<'_> {
        let inherited = self.namespaces.iter().map(|(key, fd)| InheritFd::new(key, fd));
        inherited.fold(self.operation.clone(), Restore::inherit_fd)
    }

    /// The cgroups into which criu is to be moved. Where the images have cgroups, CRIU itself moves
    /// the tasks.
    fn cgroups_of_criu(&self) -> Option<&Cgroups> {
        self.cgroups.as_ref().filter(|_| !self.has_cgroups)
    }
}

/// A [`ContainerRestore`] whose container runs before its memory is there. Threads of this process
/// bring the memory: see [`LazyRestore`](crate::LazyRestore).
#[cfg(feature = "lazy")]
#[derive(Debug)]
#[must_use = "nothing is restored before `run`"]
pub struct LazyContainerRestore<'a> {
    restore: ContainerRestore<'a>,
    pages: LazyPages,
}

#[cfg(feature = "lazy")]
impl LazyContainerRestore<'_> {
    /// Restores. Returns when the container runs, with a handle for its memory.
    ///
    /// # Errors
    /// See [`ContainerRestore::run`]. [`crate::Error::Lazy`] if the memory cannot be taken over.
    pub fn run(&self, criu: &Criu) -> Result<(Restored, LazyHandle)> {
        self.run_with(criu, &mut ())
    }

    /// Restores, answering CRIU's actions with `hooks`, such as
    /// [`RestoreHooks`](super::RestoreHooks).
    ///
    /// # Errors
    /// See [`run`](Self::run).
    pub fn run_with(&self, criu: &Criu, hooks: &mut dyn Hooks) -> Result<(Restored, LazyHandle)> {
        let mut made = MadeCgroups::default();
        let start = |restore: Restore<'_>| restore.lazy(&self.pages).start(criu);
        let session = self.restore.enter(criu, &mut made, start)?;
        let restored = session.finish(hooks)?;
        made.keep();
        Ok(restored)
    }

    /// Starts a criu in the container's cgroups, and does not send the request yet: see
    /// [`ContainerRestore::start`].
    ///
    /// # Errors
    /// See [`run`](Self::run).
    pub fn start(&self, criu: &Criu) -> Result<Session<(Restored, LazyHandle)>> {
        let mut made = MadeCgroups::default();
        let start = |restore: Restore<'_>| restore.lazy(&self.pages).start(criu);
        let session = self.restore.enter(criu, &mut made, start)?;
        made.keep();
        Ok(session)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_that_is_none_is_not_waited_for() {
        let dir = std::env::temp_dir().join(format!("criu-rs-namespace-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let (fifo, link) = (dir.join("fifo"), dir.join("link"));
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
        for path in [fifo.as_path(), Path::new("/dev/zero"), Path::new("/proc/self/status")] {
            let error = open_namespace(path).unwrap_err().to_string();
            assert!(error.contains("not a namespace"), "{}: {error}", path.display());
        }
        std::os::unix::fs::symlink("/proc/self/ns/net", &link).unwrap();
        for path in [link.as_path(), Path::new("/proc/self/ns/uts")] {
            open_namespace(path).unwrap();
        }
        std::fs::remove_dir_all(dir).unwrap();
    }
}
