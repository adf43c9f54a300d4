//! Facts of the images that decide how an engine can restore them.

use criu_images::{ImageSet, NamespaceKind};

use crate::metadata::names::CHECKPOINT;
use crate::write::{Draft, Folder};

/// Namespaces and outer mounts of the first process. Images that cannot be read have neither.
#[derive(Debug, Default)]
pub(super) struct Dumped {
    /// Kinds of namespaces that were the machine's, as the runtime specification names them.
    shared: Vec<String>,
    /// Kinds of namespaces that somebody else had made, and has to make again.
    outer: Vec<String>,
    /// Mount points of what lies outside of the container, for which the runtime gives a place.
    mounts: Vec<String>,
    /// Set if there are files that the runtime hides below `/dev/null`.
    masks: bool,
}

impl Dumped {
    /// Looks into the images of a draft.
    pub(super) fn of(draft: &Draft) -> Self {
        let set = ImageSet::new(Folder::of(draft, CHECKPOINT));
        let found = set.and_then(|set| Self::read(&set));
        // A conversion is no check: the engine, or `crit check`, tells what is wrong with them.
        found.unwrap_or_default()
    }

    fn read(set: &ImageSet) -> criu_images::Result<Self> {
        let mut found = Self::default();
        let checkpoint = set.checkpoint()?;
        let root = checkpoint.root().pid();
        for saved in checkpoint.namespaces()?.iter().filter(|saved| saved.pids().contains(&root)) {
            let kind = name(saved.namespace().kind);
            if saved.namespace().host {
                found.shared.push(kind);
            } else if saved.external()?.is_some() {
                found.outer.push(kind);
            }
            let Some(mounts) = saved.mounts()? else { continue };
            for mount in mounts.iter() {
                match mount.external().map(|key| key.to_string()) {
                    Some(key) if key == "/dev/null" => found.masks = true,
                    Some(_) => found.mounts.push(mount.target().to_string()),
                    None => {}
                }
            }
        }
        Ok(found)
    }

    /// Returns true if the container was in the machine's namespace of a kind.
    pub(super) fn shares(&self, kind: &str) -> bool {
        self.shared.iter().any(|shared| shared == kind)
    }

    /// Returns true if somebody else made the container's namespace of a kind.
    pub(super) fn was_given(&self, kind: &str) -> bool {
        self.outer.iter().any(|outer| outer == kind)
    }

    /// Mount points of what lies outside of the container.
    pub(super) fn mounts(&self) -> &[String] {
        &self.mounts
    }

    /// Returns true if there are files that the runtime hides below `/dev/null`.
    pub(super) fn has_masks(&self) -> bool {
        self.masks
    }
}

/// Name of a kind of namespaces in a runtime specification.
fn name(kind: NamespaceKind) -> String {
    match kind {
        NamespaceKind::Net => "network".to_owned(),
        NamespaceKind::Mnt => "mount".to_owned(),
        kind => kind.to_string(),
    }
}
