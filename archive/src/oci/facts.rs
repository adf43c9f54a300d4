//! Facts about a checkpoint that annotations tell.

use criu_images::{Architecture, ImageSet};

use super::manifest::{Annotations, go_name};
use crate::archive::Archive;
use crate::metadata::{Engine, Identity, Metadata};

/// Facts about a checkpoint that engines look for in the annotations of its image. An unknown fact
/// is absent, and so is its annotation.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Facts {
    /// Engine that wrote the archive: `Podman`, `CRI-O` or `containerd`.
    pub engine: Option<String>,
    /// Name of the container.
    pub name: Option<String>,
    /// Name of the container's pod.
    pub pod_name: Option<String>,
    /// Id of the container's pod sandbox.
    pub pod_id: Option<String>,
    /// Namespace of the container's pod.
    pub pod_namespace: Option<String>,
    /// UID of the container's pod.
    pub pod_uid: Option<String>,
    /// Name of the image of the container's root file system.
    pub image_name: Option<String>,
    /// Name of the root file system's image as the user gave it.
    pub raw_image_name: Option<String>,
    /// Id of the root file system's image.
    pub image_id: Option<String>,
    /// OCI runtime: `runc` or `crun`.
    pub runtime: Option<String>,
    /// Time of the checkpoint, in the form of RFC 3339.
    pub checkpointed: Option<String>,
    /// Architecture of the machine, in the words of OCI: `amd64`.
    pub architecture: Option<String>,
}

impl Facts {
    /// Reads the facts of an archive. A member that is missing or faulty tells nothing.
    #[must_use]
    pub fn of(archive: &Archive) -> Self {
        let top = archive.folder("");
        let metadata = Metadata::of(archive.name(), &top);
        let (config, spec) = (metadata.config().ok().flatten(), metadata.spec().ok().flatten());
        let engine = Engine::of(&top, config.as_ref(), spec.as_ref()).unwrap_or(Engine::Unknown);
        let names = Identity::of(engine, config.as_ref(), spec.as_ref());
        let config = config.unwrap_or_default();
        let raw = config.other.get("RawImageName").and_then(|name| name.as_str());
        let id = [&config.rootfs_image_id, &config.rootfs_image_ref].into_iter().find(known);
        let time = config.checkpointed.filter(|time| !time.is_zero());
        Self {
            engine: (engine != Engine::Unknown).then(|| engine.to_string()),
            name: text(&names.container),
            pod_name: text(&names.pod),
            pod_id: text(&names.sandbox),
            pod_namespace: text(&names.namespace),
            pod_uid: text(&names.pod_uid),
            image_name: text(&names.image),
            raw_image_name: text(raw.unwrap_or(&names.image)),
            image_id: id.and_then(|id| text(id)),
            runtime: text(&config.runtime),
            checkpointed: time.map(|time| time.to_string()),
            architecture: architecture(archive),
        }
    }

    /// Returns the annotations that tell the facts to each engine.
    #[must_use]
    pub fn annotations(&self) -> Annotations {
        let rows: [(&Option<String>, &[&str]); 11] = [
            (&self.engine, &["org.criu.checkpoint.engine.name"]),
            (
                &self.name,
                &[
                    "io.podman.annotations.checkpoint.name",
                    "io.kubernetes.cri-o.annotations.checkpoint.name",
                    "org.criu.checkpoint.container.name",
                ],
            ),
            (&self.pod_name, &["org.criu.checkpoint.pod.name"]),
            (&self.pod_id, &["org.criu.checkpoint.pod.id"]),
            (&self.pod_namespace, &["org.criu.checkpoint.pod.namespace"]),
            (&self.pod_uid, &["org.criu.checkpoint.pod.uid"]),
            (
                &self.image_name,
                &[
                    "io.podman.annotations.checkpoint.rootfsImageName",
                    "io.kubernetes.cri-o.annotations.checkpoint.rootfsImageName",
                    "org.criu.checkpoint.rootfsImageName",
                ],
            ),
            (
                &self.raw_image_name,
                &[
                    "io.podman.annotations.checkpoint.rawImageName",
                    "io.kubernetes.cri-o.annotations.checkpoint.rawImageName",
                    "org.criu.checkpoint.rawImageName",
                ],
            ),
            (
                &self.image_id,
                &[
                    "io.podman.annotations.checkpoint.rootfsImageID",
                    "io.kubernetes.cri-o.annotations.checkpoint.rootfsImageID",
                    "org.criu.checkpoint.rootfsImageID",
                ],
            ),
            (
                &self.runtime,
                &[
                    "io.podman.annotations.checkpoint.runtime.name",
                    "org.criu.checkpoint.runtime.name",
                ],
            ),
            (
                &self.architecture,
                &["io.podman.annotations.checkpoint.host.arch", "org.criu.checkpoint.host.arch"],
            ),
        ];
        let known = rows.iter().filter_map(|(value, keys)| Some((value.as_ref()?, keys)));
        known
            .flat_map(|(value, keys)| keys.iter().map(|key| ((*key).to_owned(), value.clone())))
            .collect()
    }
}

fn known(text: &&String) -> bool {
    !text.is_empty()
}

fn text(text: &str) -> Option<String> {
    (!text.is_empty() && text.len() <= LONGEST).then(|| text.to_owned())
}

/// Returns the architecture of the root task of the first set that has one.
fn architecture(archive: &Archive) -> Option<String> {
    let of = |folder: String| -> Option<Architecture> {
        let set = ImageSet::new(archive.folder(&folder)).ok()?;
        let threads = set.checkpoint().ok()?.root().threads().ok()?;
        threads.first()?.architecture()
    };
    let found = archive.sets().find_map(of)?;
    Some(match found {
        // A 32-bit task of a 64-bit machine.
        Architecture::X86_64 | Architecture::X86 => "amd64".to_owned(),
        Architecture::Aarch64 | Architecture::Arm => "arm64".to_owned(),
        Architecture::Mips64 => "mips64le".to_owned(),
        other => go_name(&other.to_string()).to_owned(),
    })
}

/// The longest annotation.
const LONGEST: usize = 4096;
