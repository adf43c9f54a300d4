//! `config.dump`: the configuration of a container.

use serde::{Deserialize, Serialize};

use super::json::{Other, is_empty};
use super::time::Time;

/// Configuration of a container, `config.dump`: the fields that all engines write. Podman's own
/// configuration, which has some hundred fields more, keeps them in [`other`](Self::other).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct ConfigDump {
    /// Identifier of the container, 64 hexadecimal digits.
    pub id: String,
    /// Name of the container. Engines below Kubernetes make it of those of pod and container.
    pub name: String,
    /// Image that the container was made from, as the user wrote it. Not written by Podman.
    #[serde(rename = "rootfsImage", skip_serializing_if = "is_empty")]
    pub rootfs_image: String,
    /// Image with its digest, or its identifier. Not written by Podman.
    #[serde(rename = "rootfsImageRef", skip_serializing_if = "is_empty")]
    pub rootfs_image_ref: String,
    /// Image by its full name, such as `docker.io/library/redis:7`.
    #[serde(rename = "rootfsImageName", skip_serializing_if = "is_empty")]
    pub rootfs_image_name: String,
    /// Identifier of the image. Written by Podman alone.
    #[serde(rename = "rootfsImageID", skip_serializing_if = "is_empty")]
    pub rootfs_image_id: String,
    /// Name of the OCI runtime, such as `runc` or `io.containerd.runc.v2`.
    #[serde(skip_serializing_if = "is_empty")]
    pub runtime: String,
    /// Time when the container was made.
    #[serde(rename = "createdTime", skip_serializing_if = "Option::is_none")]
    pub created: Option<Time>,
    /// Time of the checkpoint. Not written by Podman.
    #[serde(rename = "checkpointedTime", skip_serializing_if = "Option::is_none")]
    pub checkpointed: Option<Time>,
    /// Time when the container was restored before this checkpoint.
    #[serde(rename = "restoredTime", skip_serializing_if = "Option::is_none")]
    pub restored_at: Option<Time>,
    /// Set if the container had been restored before this checkpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restored: Option<bool>,
    /// All other fields.
    #[serde(flatten)]
    pub other: Other,
}

impl ConfigDump {
    /// Returns true for the configuration of a container of Podman, by fields that Podman always
    /// writes and no other engine does.
    pub fn is_podman(&self) -> bool {
        self.other.contains_key("lockID") && self.other.contains_key("staticDir")
    }
}
