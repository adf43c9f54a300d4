//! The pod of a checkpoint.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::bytes::Wire;
use super::hidden::Names;
use crate::metadata::Other;
use crate::metadata::json::is_empty;

/// A pod, and the sandbox that it ran in.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Pod {
    /// Name of the pod.
    pub name: String,
    /// Kubernetes namespace of the pod.
    pub namespace: String,
    /// Kubernetes identifier of the pod.
    pub uid: String,
    /// Number of the sandbox among those that the pod has had.
    #[serde(skip_serializing_if = "is_empty")]
    pub attempt: u32,
    /// Identifier of the sandbox.
    pub sandbox: String,
    /// Name of the handler that the sandbox ran with; empty for the default one of the engine.
    #[serde(skip_serializing_if = "is_empty")]
    pub runtime_handler: String,
    /// Host name in the sandbox.
    #[serde(skip_serializing_if = "is_empty")]
    pub hostname: String,
    /// Labels of the pod.
    #[serde(skip_serializing_if = "is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations of the pod.
    #[serde(skip_serializing_if = "is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Whole configuration of the sandbox: a `PodSandboxConfig` of the CRI in its wire form.
    #[serde(skip_serializing_if = "Wire::is_empty")]
    pub config: Wire,
    /// Whole configuration of the sandbox as JSON. Engines that write their own manifests keep this
    /// form.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_json: Option<Value>,
    /// All other fields.
    #[serde(flatten)]
    pub other: Other,
}

impl Pod {
    /// Makes a pod of its names.
    pub fn new(
        name: impl Into<String>,
        namespace: impl Into<String>,
        uid: impl Into<String>,
    ) -> Self {
        let (name, namespace, uid) = (name.into(), namespace.into(), uid.into());
        Self { name, namespace, uid, ..Self::default() }
    }
}

/// Values of annotations and of the configuration are hidden.
impl fmt::Debug for Pod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            namespace,
            uid,
            attempt,
            sandbox,
            runtime_handler,
            hostname,
            labels,
            annotations,
            config,
            config_json,
            other,
        } = self;
        f.debug_struct("Pod")
            .field("name", name)
            .field("namespace", namespace)
            .field("uid", uid)
            .field("attempt", attempt)
            .field("sandbox", sandbox)
            .field("runtime_handler", runtime_handler)
            .field("hostname", hostname)
            .field("labels", labels)
            .field("annotations", &Names(annotations.keys()))
            .field("config", config)
            .field("config_json", &config_json.as_ref().map(|_| format_args!("_")))
            .field("other", &Names(other.keys()))
            .finish()
    }
}
