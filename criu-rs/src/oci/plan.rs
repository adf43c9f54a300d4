//! A restore as images and bundle describe it, before anything is made.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use criu_images::{Checkpoint, ImageSet, Namespace, NamespaceKind as Saved};
use oci_spec::runtime::LinuxNamespaceType;

use super::cgroups::Cgroups;
use super::container::{Container, NET_KEY, PID_KEY};
use super::descriptors::{Descriptors, hold};
use super::error::{Error, Result};
use super::sources::{ExternalMount, Sources};
use crate::sys::proc_link;
use crate::value::{Dir, JoinNs, JoinableNs, LsmProfile, MountContext};

/// A container's restore as its images and its bundle describe it: values to look at.
///
/// A plan changes nothing. [`prepare`](Self::prepare) turns it into a
/// [`ContainerRestore`](super::ContainerRestore).
///
/// ```no_run
/// use criu_rs::oci::Container;
///
/// let container = Container::open("/run/bundles/web")?;
/// let plan = container.restore("/ckpt/web")?;
/// for mount in plan.mounts() {
///     println!("{} on {}", mount.source.display(), mount.point.display());
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is restored before this is prepared and run"]
pub struct RestorePlan<'a> {
    /// The images directory, which is opened once: the images that are restored are those that the
    /// plan was made of, even if the path leads elsewhere by then.
    pub(super) images: Dir<'static>,
    pub(super) container: &'a Container,
    pub(super) mounts: Vec<ExternalMount>,
    pub(super) inherit: Vec<(OsString, PathBuf)>,
    pub(super) join: Vec<JoinNs>,
    pub(super) profile: Option<LsmProfile>,
    pub(super) context: Option<MountContext>,
    pub(super) cgroups: Option<Cgroups>,
    /// Set if the images have a mount namespace of the container's own.
    pub(super) has_mounts: bool,
    /// Set if the images have cgroups.
    pub(super) has_cgroups: bool,
    pub(super) descriptors: Descriptors,
}

impl Container {
    /// Plans the restore of the container from the images in a directory. Nothing is done yet.
    ///
    /// # Errors
    /// When the images cannot be read, or do not fit `config.json`.
    pub fn restore(&self, images: impl AsRef<Path>) -> Result<RestorePlan<'_>> {
        let images = images.as_ref();
        RestorePlan::new(self, images).map_err(|error| error.of_images_in(images))
    }
}

impl<'a> RestorePlan<'a> {
    fn new(container: &'a Container, images: &Path) -> Result<Self> {
        container.refuse_namespaces()?;
        let (held, directory) = hold(&images.into())?;
        let set = ImageSet::open(proc_link(directory.as_fd()))?;
        let checkpoint = set.checkpoint()?;
        let cgroups = match &container.cgroups {
            Some(cgroups) => Some(cgroups.clone()),
            None => of_spec(container)?,
        };
        let mut plan = Self {
            container,
            mounts: Vec::new(),
            inherit: Vec::new(),
            join: Vec::new(),
            profile: changed_label(container.lsm_profile()?, checkpoint),
            context: container.mount_context()?,
            cgroups,
            has_mounts: false,
            has_cgroups: checkpoint.cgroups()?.controllers.iter().any(|one| !one.dirs.is_empty()),
            descriptors: Descriptors::load_in(directory.as_fd(), images)?,
            images: held,
        };
        plan.namespaces(checkpoint)?;
        let sources = Sources::of(container, plan.cgroups.as_ref())?;
        plan.mounts = sources.find_all(checkpoint)?;
        Ok(plan)
    }

    /// The mounts that come from outside the container.
    pub fn mounts(&self) -> &[ExternalMount] {
        &self.mounts
    }

    /// The sources of external mounts, one a key: several masked files have one key.
    pub(super) fn sources(&self) -> impl Iterator<Item = (&OsStr, &Path)> {
        let mut keys = HashSet::new();
        let mounts = self.mounts.iter().map(|mount| (mount.key.as_os_str(), &*mount.source));
        mounts.filter(move |(key, _)| keys.insert(*key))
    }

    /// The namespaces that replace the ones left out of the images, with the keys of the latter.
    pub fn inherited(&self) -> impl Iterator<Item = (&OsStr, &Path)> {
        self.inherit.iter().map(|(key, path)| (key.as_os_str(), path.as_path()))
    }

    /// The namespaces that the tasks join instead of namespaces in the images.
    pub fn joined(&self) -> &[JoinNs] {
        &self.join
    }

    /// The label or profile that the tasks get: the one of `config.json`, if the images have
    /// another.
    pub fn lsm_profile(&self) -> Option<&LsmProfile> {
        self.profile.as_ref()
    }

    /// The cgroups in which the restored tasks are to be.
    pub fn cgroups(&self) -> Option<&Cgroups> {
        self.cgroups.as_ref()
    }

    /// The files behind the container's standard streams at the dump.
    pub fn descriptors(&self) -> &Descriptors {
        &self.descriptors
    }

    /// Refuses images with tasks in a namespace of the machine if the container is to have a
    /// namespace of its own.
    fn isolates(&self, saved: Namespace) -> Result<()> {
        let kind = match saved.kind {
            Saved::Net => LinuxNamespaceType::Network,
            Saved::Pid => LinuxNamespaceType::Pid,
            Saved::Ipc => LinuxNamespaceType::Ipc,
            Saved::Uts => LinuxNamespaceType::Uts,
            Saved::Mnt => LinuxNamespaceType::Mount,
            Saved::User => LinuxNamespaceType::User,
            Saved::Cgroup => LinuxNamespaceType::Cgroup,
            // CRIU gives a time namespace also to tasks that were in the machine's.
            _ => return Ok(()),
        };
        let has_own = self.container.has(kind) && self.container.shared(kind).is_none();
        if saved.host && has_own && !self.container.trusts_images {
            let why = format!(
                "the container is to have a {kind} namespace of its own, and the images have tasks \
                 in the machine's: they belong to another container, or must not be trusted"
            );
            return Err(Error::unsupported("linux.namespaces", why));
        }
        Ok(())
    }

    /// Finds for each shared namespace of the specification whether the tasks inherit or join it.
    fn namespaces(&mut self, checkpoint: Checkpoint<'_>) -> Result<()> {
        let mut keys = Vec::new();
        for saved in checkpoint.namespaces()? {
            let found = saved.namespace();
            self.isolates(found)?;
            self.has_mounts |= found.kind == Saved::Mnt && !found.host;
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
                        "the images have a {kind} namespace of their own: CRIU cannot restore the \
                         tasks into {}",
                        path.display()
                    );
                    return Err(Error::unsupported("linux.namespaces", why));
                }
            }
        }
        let missing = keys.iter().find(|(_, key)| *key == NET_KEY || *key == PID_KEY);
        if let Some((kind, _)) = missing {
            let why = format!(
                "the images lack the {kind} namespace, which was left out: give the path of \
                 another one"
            );
            return Err(Error::unsupported("linux.namespaces", why));
        }
        Ok(())
    }
}

/// The cgroups of the specification.
fn of_spec(container: &Container) -> Result<Option<Cgroups>> {
    let path = container.linux().and_then(|linux| linux.cgroups_path().as_deref());
    // Only the runtime understands other forms, such as systemd's `slice:prefix:name`.
    let Some(path) = path.filter(|path| path.is_absolute()) else { return Ok(None) };
    Cgroups::at(path).map(Some)
}

/// The label that is asked for, if the images have another.
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
