//! Names of a container and of its pod.

use std::collections::BTreeMap;

use serde::Serialize;

use super::config::ConfigDump;
use super::engine::Engine;
use super::names::{CONTAINER_NAME, POD_NAME, POD_NAMESPACE, POD_UID};
use super::spec::SpecDump;

/// Names of a container, of its pod and of its image, as far as the engine wrote them. An empty
/// text is a name that is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Identity {
    /// Name of the container. In a pod it is the name there.
    pub container: String,
    /// Name of the pod.
    pub pod: String,
    /// Kubernetes namespace of the pod.
    pub namespace: String,
    /// Kubernetes identifier of the pod.
    pub pod_uid: String,
    /// Identifier of the pod's sandbox.
    pub sandbox: String,
    /// Image by its full name.
    pub image: String,
    /// Address in the pod's network.
    pub address: String,
}

impl Identity {
    /// Reads the names from the annotations of `spec.dump`, and from `config.dump`.
    pub fn of(engine: Engine, config: Option<&ConfigDump>, spec: Option<&SpecDump>) -> Self {
        let annotation = |key: &str| -> String {
            let found = spec.and_then(|spec| spec.annotations.get(key));
            found.cloned().unwrap_or_default()
        };
        let mut found = match engine {
            Engine::CriO => Self::of_crio(&annotation),
            Engine::Containerd => Self {
                container: annotation("io.kubernetes.cri.container-name"),
                pod: annotation("io.kubernetes.cri.sandbox-name"),
                namespace: annotation("io.kubernetes.cri.sandbox-namespace"),
                pod_uid: annotation("io.kubernetes.cri.sandbox-uid"),
                sandbox: annotation("io.kubernetes.cri.sandbox-id"),
                image: annotation("io.kubernetes.cri.image-name"),
                address: String::new(),
            },
            _ => Self { sandbox: annotation("io.podman.annotations.pod"), ..Self::default() },
        };
        if let Some(config) = config {
            if found.container.is_empty() {
                found.container.clone_from(&config.name);
            }
            if found.image.is_empty() {
                let names = [&config.rootfs_image_name, &config.rootfs_image];
                let name = names.into_iter().find(|name| !name.is_empty());
                found.image = name.cloned().unwrap_or_default();
            }
        }
        found
    }

    /// Returns the labels by which Kubernetes knows the container. A name that is not known has no
    /// label.
    pub fn labels(&self) -> BTreeMap<&'static str, &str> {
        let mut labels = BTreeMap::from([
            (CONTAINER_NAME, &*self.container),
            (POD_NAME, &self.pod),
            (POD_NAMESPACE, &self.namespace),
            (POD_UID, &self.pod_uid),
        ]);
        labels.retain(|_, name| !name.is_empty());
        labels
    }

    fn of_crio(annotation: &dyn Fn(&str) -> String) -> Self {
        // Objects as text; a broken one is as good as a missing one here.
        let labels: BTreeMap<String, String> =
            serde_json::from_str(&annotation("io.kubernetes.cri-o.Labels")).unwrap_or_default();
        let label = |key: &str| labels.get(key).cloned().unwrap_or_default();
        let metadata = annotation("io.kubernetes.cri-o.Metadata");
        let metadata: ContainerMetadata = serde_json::from_str(&metadata).unwrap_or_default();
        Self {
            container: metadata.name,
            pod: label(POD_NAME),
            namespace: label(POD_NAMESPACE),
            pod_uid: label(POD_UID),
            sandbox: annotation("io.kubernetes.cri-o.SandboxID"),
            image: annotation("io.kubernetes.cri-o.ImageName"),
            address: annotation("io.kubernetes.cri-o.IP.0"),
        }
    }
}

#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct ContainerMetadata {
    name: String,
}
