//! The mounts that a criu needs to see and nobody else does.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci_spec::runtime::{LinuxNamespaceType, Root};

use super::error::{Error, Result};
use super::plan::RestorePlan;
use super::prepare::{
    make_directory, make_read_only, mount_alone, mount_empty, mount_points, mount_root,
};
use super::root::Root as InsideRoot;
use crate::criu::Criu;
use crate::host::MountSpace;
use crate::operation::Restore;
use crate::value::{External, Version};

/// The mounts of a container's restore, in a mount namespace that only criu is in: the root, empty
/// directories, directories without the mounts below them, and a place for cgroup hierarchies.
#[derive(Debug)]
pub(crate) struct OwnMounts {
    /// `None` for a container without a mount namespace of its own: CRIU restores the tasks into
    /// the namespace in which it runs itself, and mounts nothing.
    space: Option<Arc<MountSpace>>,
    rootfs: PathBuf,
    is_read_only: bool,
    /// The external mounts that have another source in the namespace: each as it is named outside
    /// and as it is named there.
    replaced: Vec<(External, External)>,
    has_cgroups: bool,
}

impl OwnMounts {
    /// Makes the mounts, and mount points that are missing in the root file system.
    pub(crate) fn of(plan: &RestorePlan<'_>) -> Result<Self> {
        let rootfs = plan.container.rootfs().to_path_buf();
        let is_read_only =
            plan.container.spec().root().as_ref().and_then(Root::readonly) == Some(true);
        let has_cgroups = plan.has_cgroups;
        let mut own = Self { space: None, rootfs, is_read_only, replaced: Vec::new(), has_cgroups };
        if !plan.has_mounts {
            mount_points(plan.container, &own.rootfs)?;
            return Ok(own);
        }
        let failed = |source| Error::path("make a mount namespace for", &own.rootfs, source);
        let space = MountSpace::new().map_err(failed)?;
        own.replaced = space.enter(|| make(plan)).map_err(failed)??;
        own.space = Some(Arc::new(space));
        Ok(own)
    }

    /// The restore for a criu that this process starts, in the namespace with the mounts.
    pub(crate) fn seen_by_own_criu<'a>(&self, restore: Restore<'a>) -> Restore<'a> {
        let Some(space) = &self.space else { return restore };
        let text = |path: &Path| path.as_os_str().as_encoded_bytes().to_vec();
        let outside = text(&self.rootfs);
        let restore = restore.raw(|message| {
            // The caller may have set others meanwhile.
            if message.root.as_ref() == Some(&outside) {
                message.root = Some(text(&place(ROOT)));
            }
            if self.has_cgroups && message.cgroup_yard.is_none() {
                message.cgroup_yard = Some(text(&place(CGROUPS)));
            }
            for (outside, inside) in &self.replaced {
                let outside = outside.to_bytes();
                for external in message.external.iter_mut().filter(|named| **named == outside) {
                    *external = inside.to_bytes();
                }
            }
        });
        restore.within(Arc::clone(space))
    }

    /// Refuses a restore by a criu that this process does not start, and that would need mounts
    /// which it does not see.
    pub(crate) fn refuse_without(&self, criu: &Criu) -> Result<()> {
        let refused = |field: String, why: &str| {
            let why = format!(
                "{why} a mount that only a criu started by this process sees: use Criu::new or \
                 Criu::at"
            );
            Err(Error::unsupported(field, why))
        };
        if let Some((external, _)) = self.replaced.first() {
            return refused(format!("mounts: {external}"), "needs");
        }
        // Older CRIUs forget that the root is read-only.
        let forgets = || Ok::<_, Error>(criu.version()? < Version::new(4, 3, 0));
        if self.space.is_some() && self.is_read_only && forgets()? {
            return refused("root.readonly".into(), "with this CRIU, a read-only root needs");
        }
        Ok(())
    }
}

/// Makes the mounts, in the namespace for them. Returns the external mounts that have another
/// source there.
fn make(plan: &RestorePlan<'_>) -> Result<Vec<(External, External)>> {
    let (root, empty) = (place(ROOT), place(EMPTY));
    mount_root(plan.container.rootfs(), &root)?;
    mount_points(plan.container, &root)?;
    refuse_links(plan, &root)?;
    if plan.container.spec().root().as_ref().and_then(Root::readonly) == Some(true) {
        make_read_only(&root)?;
    }
    if plan.has_cgroups {
        // CRIU would mount the hierarchies in its work directory, which may be below the runtime's
        // state.
        make_directory(&place(CGROUPS))?;
    }
    let mut replaced: Vec<(External, External)> = Vec::new();
    for (key, source) in plan.sources() {
        let mut inside = source.to_path_buf();
        if source.as_os_str().is_empty() {
            if !empty.exists() {
                mount_empty(&empty)?;
            }
            inside.clone_from(&empty);
        }
        if plan.container.has(LinuxNamespaceType::User) {
            let at = place(&format!("mount-{}", replaced.len()));
            if mount_alone(&inside, &at)? {
                inside = at;
            }
        }
        if inside != source {
            replaced.push((External::mount(key, source), External::mount(key, inside)));
        }
    }
    Ok(replaced)
}

/// Refuses links in the root where the images have mount points. The images have no links in these
/// paths, and CRIU would follow one that is there now, out of the root.
fn refuse_links(plan: &RestorePlan<'_>, root: &Path) -> Result<()> {
    let inside = InsideRoot::open(root).map_err(|source| Error::path("open", root, source))?;
    for mount in &plan.mounts {
        let leads = inside.leads_over_link(&mount.point);
        if leads.map_err(|source| Error::path("look for links in", &mount.point, source))? {
            let why = "leads over a link in the root file system, where there was none at the dump";
            return Err(Error::Mount { point: mount.point.clone(), why: why.into() });
        }
    }
    Ok(())
}

fn place(name: &str) -> PathBuf {
    Path::new(MountSpace::PLACE).join(name)
}

/// The container's root.
const ROOT: &str = "root";

/// The empty directory.
const EMPTY: &str = "empty";

/// The directory in which CRIU mounts cgroup hierarchies.
const CGROUPS: &str = "cgroups";
