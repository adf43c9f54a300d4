//! A container of a checkpoint.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::bytes::Wire;
use super::file::File;
use super::hidden::Names;
use super::tool::Tool;
use crate::metadata::Other;
use crate::metadata::json::is_empty;

/// A container, and its checkpoint.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Container {
    /// Name of the container in the pod.
    pub name: String,
    /// Identifier of the container.
    pub id: String,
    /// Number of the container among those that the pod has had under this name.
    #[serde(skip_serializing_if = "is_empty")]
    pub attempt: u32,
    /// The tool that made the checkpoint.
    pub tool: Tool,
    /// Image that the container was made from.
    #[serde(skip_serializing_if = "is_empty")]
    pub image: Image,
    /// Whole configuration of the container: a `ContainerConfig` of the CRI in its wire form.
    #[serde(skip_serializing_if = "Wire::is_empty")]
    pub config: Wire,
    /// Whole configuration of the container as JSON. Engines that write their own manifests keep
    /// this form.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_json: Option<Value>,
    /// Files of this container alone.
    pub files: Vec<File>,
    /// Security labels of the first process, by the module: `apparmor`, `selinux`.
    #[serde(skip_serializing_if = "is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Outside world that the processes know.
    #[serde(skip_serializing_if = "is_empty")]
    pub needs: Needs,
    /// All other fields.
    #[serde(flatten)]
    pub other: Other,
}

impl Container {
    /// Makes a container without files.
    pub fn new(name: impl Into<String>, id: impl Into<String>, tool: Tool) -> Self {
        Self { name: name.into(), id: id.into(), tool, ..Self::default() }
    }
}

/// Environment and arguments of the container are hidden.
impl fmt::Debug for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            id,
            attempt,
            tool,
            image,
            config,
            config_json,
            files,
            labels,
            needs,
            other,
        } = self;
        f.debug_struct("Container")
            .field("name", name)
            .field("id", id)
            .field("attempt", attempt)
            .field("tool", tool)
            .field("image", image)
            .field("config", config)
            .field("config_json", &config_json.as_ref().map(|_| format_args!("_")))
            .field("files", files)
            .field("labels", labels)
            .field("needs", needs)
            .field("other", &Names(other.keys()))
            .finish()
    }
}

/// Image of a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Image {
    /// Name as the user wrote it.
    pub name: String,
    /// Name with the digest, or the identifier: `docker.io/library/redis@sha256:...`.
    pub digest: String,
    /// All other fields.
    #[serde(flatten)]
    pub other: Other,
}

impl Image {
    /// Makes an image of its name and its digest.
    pub fn new(name: impl Into<String>, digest: impl Into<String>) -> Self {
        Self { name: name.into(), digest: digest.into(), other: Other::new() }
    }
}

/// Things outside of a container that a restore has to provide.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Needs {
    /// Namespaces that belong to the sandbox or to the host, by the names of `/proc/PID/ns`.
    #[serde(skip_serializing_if = "is_empty")]
    pub namespaces: Vec<String>,
    /// Mounts from outside.
    #[serde(skip_serializing_if = "is_empty")]
    pub mounts: Vec<Mount>,
    /// Connections that were open. No program of this project writes them.
    #[serde(skip_serializing_if = "is_empty")]
    pub connections: Vec<Connection>,
    /// All other fields.
    #[serde(flatten)]
    pub other: Other,
}

/// A mount from outside of a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Mount {
    /// Place in the container.
    pub path: String,
    /// Place on the host.
    pub source: String,
    /// All other fields.
    #[serde(flatten)]
    pub other: Other,
}

impl Mount {
    /// Makes a mount of its two places.
    pub fn new(path: impl Into<String>, source: impl Into<String>) -> Self {
        Self { path: path.into(), source: source.into(), other: Other::new() }
    }
}

/// An open connection of a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Connection {
    /// Protocol: `tcp`, `unix`.
    pub protocol: String,
    /// Own end: `10.88.0.2:6379`.
    pub local: String,
    /// Other end.
    pub remote: String,
    /// Set if the other end is in this checkpoint, too.
    pub inside: bool,
    /// All other fields.
    #[serde(flatten)]
    pub other: Other,
}

impl Connection {
    /// Makes a connection of its two ends.
    pub fn new(
        protocol: impl Into<String>,
        local: impl Into<String>,
        remote: impl Into<String>,
    ) -> Self {
        let (protocol, local, remote) = (protocol.into(), local.into(), remote.into());
        Self { protocol, local, remote, ..Self::default() }
    }
}
