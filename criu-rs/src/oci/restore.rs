//! What bringing a container back takes.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use criu_images::{Checkpoint, ImageSet, Namespace, NamespaceKind as Saved};
use oci_spec::runtime::{LinuxNamespaceType, Root};

use super::cgroups::{Cgroups, Made};
use super::container::{Container, NET_KEY, PID_KEY};
use super::descriptors::Descriptors;
use super::error::{Error, Result};
use super::prepare::{OwnMount, mount_points};
use super::sources::{ExternalMount, Sources};
use crate::criu::Criu;
use crate::hooks::Hooks;
use crate::operation::{Restore, Restored};
use crate::value::{
    CgroupMode, Dir, External, InheritFd, JoinNs, JoinableNs, LsmProfile, MountContext,
};

/// What bringing a container back takes: values, until [`prepare`](Self::prepare) makes what CRIU needs to find.
///
/// ```no_run
/// use criu_rs::Criu;
/// use criu_rs::oci::Container;
///
/// let container = Container::open("/run/bundles/web")?;
/// let restoring = container.restoring("/ckpt/web")?;
/// for mount in restoring.mounts() {
///     println!("{} on {}", mount.source.display(), mount.point.display());
/// }
/// let prepared = restoring.prepare("/run/my-runtime/web")?;
/// let restore = prepared.restore("/ckpt/web");
/// let restored = prepared.run(&restore, &Criu::new(), &mut ())?;
/// println!("process {} runs again", restored.pid);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Restoring<'a> {
    container: &'a Container,
    mounts: Vec<ExternalMount>,
    inherit: Vec<(OsString, PathBuf)>,
    join: Vec<JoinNs>,
    profile: Option<LsmProfile>,
    context: Option<MountContext>,
    cgroups: Option<Cgroups>,
    /// Whether the images have its cgroups.
    has_cgroups: bool,
    descriptors: Descriptors,
}

impl Container {
    /// What bringing it back from the images takes. Nothing is done yet.
    ///
    /// # Errors
    /// When the images cannot be read, or do not fit `config.json`.
    pub fn restoring(&self, images: impl AsRef<Path>) -> Result<Restoring<'_>> {
        let images = images.as_ref();
        Restoring::new(self, images).map_err(|error| error.of_images_in(images))
    }
}

impl<'a> Restoring<'a> {
    fn new(container: &'a Container, images: &Path) -> Result<Self> {
        container.refuse_namespaces()?;
        let set = ImageSet::open(images)?;
        let checkpoint = set.checkpoint()?;
        let cgroups = match &container.cgroups {
            Some(cgroups) => Some(cgroups.clone()),
            None => of_spec(container)?,
        };
        let mut restoring = Self {
            container,
            mounts: Vec::new(),
            inherit: Vec::new(),
            join: Vec::new(),
            profile: changed_label(container.lsm_profile()?, checkpoint),
            context: container.mount_context()?,
            cgroups,
            has_cgroups: checkpoint.cgroups()?.controllers.iter().any(|one| !one.dirs.is_empty()),
            descriptors: Descriptors::load(images)?,
        };
        restoring.namespaces(checkpoint)?;
        let sources = Sources::of(container, restoring.cgroups.as_ref())?;
        restoring.mounts = sources.find_all(checkpoint)?;
        Ok(restoring)
    }

    /// The mounts that come from outside.
    pub fn mounts(&self) -> &[ExternalMount] {
        &self.mounts
    }

    /// The namespaces that take the places of those left out of the images, by their keys.
    pub fn inherited(&self) -> impl Iterator<Item = (&OsStr, &Path)> {
        self.inherit.iter().map(|(key, path)| (key.as_os_str(), path.as_path()))
    }

    /// The namespaces it joins instead of those in the images.
    pub fn joined(&self) -> &[JoinNs] {
        &self.join
    }

    /// The label or profile it gets: that of `config.json`, where the images have another.
    pub fn lsm_profile(&self) -> Option<&LsmProfile> {
        self.profile.as_ref()
    }

    /// The cgroups it is to be in.
    pub fn cgroups(&self) -> Option<&Cgroups> {
        self.cgroups.as_ref()
    }

    /// What its standard streams led to.
    pub fn descriptors(&self) -> &Descriptors {
        &self.descriptors
    }

    /// Makes what CRIU needs to find: missing mount points in the root file system, that at a mount point of its
    /// own below the directory `state`, which exists, descriptors of the namespaces, and the cgroups above the
    /// container's.
    ///
    /// # Errors
    /// When one of them cannot be made; then none is left.
    pub fn prepare(self, state: impl AsRef<Path>) -> Result<Prepared> {
        // CRIU need not be where this process is.
        let state = state.as_ref();
        let state = state
            .canonicalize()
            .map_err(|source| Error::path("find the directory", state, source))?;
        let root = OwnMount::of_root(self.container.rootfs(), &state.join("criu-root"))?;
        mount_points(self.container, &root.path)?;
        if self.container.spec().root().as_ref().and_then(Root::readonly) == Some(true) {
            root.make_read_only()?;
        }
        let has_empty = self.mounts.iter().any(|mount| mount.source.as_os_str().is_empty());
        let empty = has_empty.then(|| OwnMount::empty(&state.join("criu-empty"))).transpose()?;
        let made = match self.cgroups.as_ref().filter(|_| self.has_cgroups) {
            Some(cgroups) => Some(cgroups.make_above().map_err(|source| {
                Error::path("make the cgroups above those of", self.container.bundle(), source)
            })?),
            None => None,
        };
        let (mut external, mut alone, mut keys) = (Vec::new(), Vec::new(), HashSet::new());
        for mount in &self.mounts {
            let mut source = match &empty {
                Some(empty) if mount.source.as_os_str().is_empty() => &empty.path,
                _ => &mount.source,
            };
            if self.container.has(LinuxNamespaceType::User) {
                let at = state.join(format!("criu-mount-{}", alone.len()));
                alone.extend(OwnMount::alone(source, &at)?);
                source = alone.last().filter(|own| own.path == at).map_or(source, |own| &own.path);
            }
            let named = External::mount(&mount.key, source);
            // Several masked files have one key.
            if keys.insert(&mount.key) {
                external.push(named);
            }
        }
        let open = |(key, path): (OsString, PathBuf)| {
            let file = File::open(&path);
            let file = file.map_err(|source| Error::path("open the namespace", path, source))?;
            Ok((key, file.into()))
        };
        let namespaces = self.inherit.into_iter().map(open).collect::<Result<_>>()?;
        Ok(Prepared {
            root,
            _sources: empty.into_iter().chain(alone).collect(),
            _cgroups: made,
            external,
            namespaces,
            join: self.join,
            profile: self.profile,
            context: self.context,
            cgroups: self.cgroups,
            has_cgroups: self.has_cgroups,
            descriptors: self.descriptors,
            config_file: self.container.config_file(),
        })
    }

    /// Refuses tasks in the machine's namespace where the container is to have one of its own.
    fn isolates(&self, saved: Namespace) -> Result<()> {
        let kind = match saved.kind {
            Saved::Net => LinuxNamespaceType::Network,
            Saved::Pid => LinuxNamespaceType::Pid,
            Saved::Ipc => LinuxNamespaceType::Ipc,
            Saved::Uts => LinuxNamespaceType::Uts,
            Saved::Mnt => LinuxNamespaceType::Mount,
            Saved::User => LinuxNamespaceType::User,
            Saved::Cgroup => LinuxNamespaceType::Cgroup,
            // CRIU gives a time namespace to tasks that had none.
            _ => return Ok(()),
        };
        let has_own = self.container.has(kind) && self.container.shared(kind).is_none();
        match saved.host && has_own && !self.container.trusts_images {
            true => {
                let why = format!(
                    "a {kind} namespace of its own is asked for, and the images have tasks in the machine's: \
                     they are of another container, or not to be trusted"
                );
                Err(Error::unsupported("linux.namespaces", why))
            }
            false => Ok(()),
        }
    }

    /// Finds each namespace of the specification a way into the restore.
    fn namespaces(&mut self, checkpoint: Checkpoint<'_>) -> Result<()> {
        let mut keys = Vec::new();
        for saved in checkpoint.namespaces()? {
            self.isolates(saved.namespace())?;
            if let Some(key) = saved.external()? {
                keys.push((saved.namespace().kind, OsString::from(key)));
            }
        }
        for (kind, path) in self.container.namespaces() {
            let Some(path) = path else { continue };
            let (saved, joined) = match kind {
                LinuxNamespaceType::Network => (Saved::Net, Some(JoinableNs::Net)),
                LinuxNamespaceType::Pid => (Saved::Pid, None),
                LinuxNamespaceType::Ipc => (Saved::Ipc, Some(JoinableNs::Ipc)),
                LinuxNamespaceType::Uts => (Saved::Uts, Some(JoinableNs::Uts)),
                LinuxNamespaceType::User => (Saved::User, Some(JoinableNs::User)),
                LinuxNamespaceType::Time => (Saved::Time, Some(JoinableNs::Time)),
                _ => continue,
            };
            let at = keys.iter().position(|(kind, _)| *kind == saved);
            match (at.map(|at| keys.remove(at)), joined) {
                (Some((_, key)), _) => self.inherit.push((key, path.into())),
                (None, Some(kind)) => self.join.push(JoinNs::path(kind, path)),
                (None, None) => {
                    let why = format!(
                        "the images have a {kind} namespace of their own: CRIU cannot restore them into {}",
                        path.display()
                    );
                    return Err(Error::unsupported("linux.namespaces", why));
                }
            }
        }
        let missing = keys.iter().find(|(_, key)| *key == NET_KEY || *key == PID_KEY);
        match missing {
            Some((kind, _)) => {
                let why = format!(
                    "the images left the {kind} namespace out: give the path of one to put in its place"
                );
                Err(Error::unsupported("linux.namespaces", why))
            }
            None => Ok(()),
        }
    }
}

/// Where the specification says its cgroups are.
fn of_spec(container: &Container) -> Result<Option<Cgroups>> {
    let path = container.linux().and_then(|linux| linux.cgroups_path().as_deref());
    // Others are for the runtime to make sense of, as systemd's `slice:prefix:name`.
    let Some(path) = path.filter(|path| path.is_absolute()) else { return Ok(None) };
    let cgroups = Cgroups::at(path);
    cgroups.map(Some).map_err(|source| Error::path("use the cgroups", path, source))
}

/// The label asked for, unless that is what the images have.
fn changed_label(wanted: Option<LsmProfile>, checkpoint: Checkpoint<'_>) -> Option<LsmProfile> {
    let wanted = wanted?;
    let text = match &wanted {
        LsmProfile::Selinux(text) | LsmProfile::Apparmor(text) => text.as_bytes(),
    };
    let has_it = |task: criu_images::Task<'_>| {
        task.creds().is_some_and(|creds| creds.lsm_profile.as_deref() == Some(text))
    };
    (!checkpoint.tasks().filter(criu_images::Task::is_alive).all(has_it)).then_some(wanted)
}

/// What has been made for a restore, and goes with this value, as the container's root at a mount point of its own.
/// Keep it until the restore is over.
#[derive(Debug)]
pub struct Prepared {
    root: OwnMount,
    /// Sources of mounts.
    _sources: Vec<OwnMount>,
    /// Cgroups that were made for the container's.
    _cgroups: Option<Made>,
    external: Vec<External>,
    namespaces: Vec<(OsString, OwnedFd)>,
    join: Vec<JoinNs>,
    profile: Option<LsmProfile>,
    context: Option<MountContext>,
    cgroups: Option<Cgroups>,
    has_cgroups: bool,
    descriptors: Descriptors,
    config_file: Option<PathBuf>,
}

impl Prepared {
    /// A restore from the directory `images` with all that; the restored root is this process's child. Whatever
    /// else is wanted is for its own methods, above all what the dump was told: TCP connections, file locks,
    /// shell jobs.
    ///
    /// Cgroups come back as they were saved. Where a dump was told to ignore them, the tasks begin in criu's:
    /// [`run`](Self::run) sees to it that those are the container's.
    pub fn restore<'a>(&'a self, images: impl Into<Dir<'a>>) -> Restore<'a> {
        let mut restore = Restore::new(images)
            .root(&self.root.path)
            .rst_sibling(true)
            .evasive_devices(true)
            .orphan_pts_master(true)
            .manage_cgroups(if self.has_cgroups { CgroupMode::Soft } else { CgroupMode::Ignore });
        for external in &self.external {
            restore = restore.external(external.clone());
        }
        for (key, fd) in &self.namespaces {
            restore = restore.inherit_fd(InheritFd::new(key, fd));
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
        if let Some(file) = &self.config_file {
            restore = restore.config_file(file);
        }
        restore
    }

    /// The same with these standard streams in the places of the container's pipes.
    pub fn restore_with<'a>(
        &'a self,
        images: impl Into<Dir<'a>>,
        stdio: [BorrowedFd<'a>; 3],
    ) -> Restore<'a> {
        let inherited = self.descriptors.inherit(stdio);
        inherited.into_iter().fold(self.restore(images), Restore::inherit_fd)
    }

    /// Restores. The tasks are in the container's cgroups from the start.
    ///
    /// # Errors
    /// See [`crate::Error`]; [`Error::Path`] when a cgroup cannot be made. No process is left behind.
    pub fn run(
        &self,
        restore: &Restore<'_>,
        criu: &Criu,
        hooks: &mut dyn Hooks,
    ) -> Result<Restored> {
        let session = restore.start(criu)?;
        // CRIU moves them itself where the images have them.
        let cgroups = self.cgroups.as_ref().filter(|_| !self.has_cgroups);
        let mut made = None;
        if let (Some(cgroups), Some(criu)) = (cgroups, session.pid()) {
            let entered = cgroups.enter(criu);
            made =
                Some(entered.map_err(|source| {
                    Error::path("enter the cgroups of", &self.root.path, source)
                })?);
        }
        let restored = session.finish(hooks)?;
        if let Some(made) = made {
            made.keep();
        }
        Ok(restored)
    }

    /// The mount point that is the container's root for CRIU.
    pub fn root(&self) -> &Path {
        &self.root.path
    }

    /// The cgroups it is to be in.
    pub fn cgroups(&self) -> Option<&Cgroups> {
        self.cgroups.as_ref()
    }
}
