//! Facts about a checkpoint that annotations tell.

use criu_images::source::Source;
use criu_images::{Architecture, ImageSet};
use serde_json::Value;

use super::manifest::{Annotations, go_name, json};
use crate::archive::Archive;

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
    /// Name of that image as the user gave it.
    pub raw_image_name: Option<String>,
    /// Id of that image.
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
        let read = |name| document(&top, name).unwrap_or(Value::Null);
        let (config, spec) = (read("config.dump"), read("spec.dump"));
        let text = |key: &str| nonempty(&config, key);
        let annotation = |key: &str| nonempty(spec.get("annotations")?, key);
        let kubernetes = |crio: &str, containerd: &str| {
            annotation(&format!("io.kubernetes.cri-o.{crio}"))
                .or_else(|| annotation(&format!("io.kubernetes.cri.{containerd}")))
        };
        let label = |key: &str| {
            let labels = annotation("io.kubernetes.cri-o.Labels")?;
            nonempty(&json(labels.as_bytes()).ok()?, key)
        };
        let engine = if annotation("io.kubernetes.cri-o.Metadata").is_some() {
            Some("CRI-O")
        } else if annotation("io.kubernetes.cri.container-type").is_some() {
            Some("containerd")
        } else {
            // A plain set of images has no config.
            (!config.is_null()).then_some("Podman")
        };
        let raw_image = text("rawImageName").or_else(|| text("rootfsImageRef"));
        Self {
            engine: engine.map(str::to_owned),
            name: annotation("io.kubernetes.cri.container-name").or_else(|| text("name")),
            pod_name: kubernetes("KubeName", "sandbox-name")
                .or_else(|| label("io.kubernetes.pod.name")),
            pod_id: kubernetes("SandboxID", "sandbox-id"),
            pod_namespace: kubernetes("Namespace", "sandbox-namespace"),
            pod_uid: label("io.kubernetes.pod.uid")
                .or_else(|| annotation("io.kubernetes.cri.sandbox-uid")),
            image_name: text("rootfsImageName").or_else(|| text("rootfsImage")),
            raw_image_name: raw_image,
            image_id: text("rootfsImageID").or_else(|| text("rootfsImageRef")),
            runtime: text("runtime").or_else(|| text("ociRuntime")),
            checkpointed: text("checkpointedTime").filter(|time| !time.starts_with("0001")),
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

/// Reads a JSON member of an archive, if it is there and not too large.
fn document(top: &impl Source, name: &str) -> Option<Value> {
    let blob = top.open(name).ok()??;
    let size = usize::try_from(blob.len()).ok().filter(|size| *size <= MOST)?;
    let mut bytes = vec![0; size];
    blob.read_at(0, &mut bytes).ok()?;
    json(&bytes).ok()
}

fn nonempty(object: &Value, key: &str) -> Option<String> {
    let text = object.get(key)?.as_str()?;
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

/// The largest JSON member that is read for annotations.
const MOST: usize = 4 << 20;
/// The longest annotation.
const LONGEST: usize = 4096;
