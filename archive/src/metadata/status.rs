//! `status.dump` and `status`: the state of a container of containerd.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::json::{Other, is_empty, or_empty};
use super::time::Time;

/// Status of a container as the CRI reports it, `status.dump`. Times are nanoseconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct ContainerStatus {
    /// Identifier of the container.
    pub id: String,
    /// Name in the pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<ContainerName>,
    /// State: 0 created, 1 running, 2 exited, 3 unknown.
    #[serde(skip_serializing_if = "is_empty")]
    pub state: i32,
    /// Time when the container was made.
    #[serde(skip_serializing_if = "is_empty")]
    pub created_at: i64,
    /// Time when the container was started.
    #[serde(skip_serializing_if = "is_empty")]
    pub started_at: i64,
    /// Time when the container ended; 0 while it runs.
    #[serde(skip_serializing_if = "is_empty")]
    pub finished_at: i64,
    /// Exit status.
    #[serde(skip_serializing_if = "is_empty")]
    pub exit_code: i32,
    /// Image as the user named it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageName>,
    /// Image with its digest, or its identifier.
    #[serde(skip_serializing_if = "is_empty")]
    pub image_ref: String,
    /// Labels.
    #[serde(deserialize_with = "or_empty", skip_serializing_if = "is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[serde(deserialize_with = "or_empty", skip_serializing_if = "is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Path of the log on the machine of the checkpoint.
    #[serde(skip_serializing_if = "is_empty")]
    pub log_path: String,
    /// All other fields.
    #[serde(flatten)]
    pub other: Other,
}

/// Name of a container in its pod.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct ContainerName {
    /// Name.
    pub name: String,
    /// Number of the attempt: each start of a container that ended has the next number.
    #[serde(skip_serializing_if = "is_empty")]
    pub attempt: u32,
    /// All other fields.
    #[serde(flatten)]
    pub other: Other,
}

/// Name of an image.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct ImageName {
    /// Name.
    pub image: String,
    /// All other fields.
    #[serde(flatten)]
    pub other: Other,
}

/// Status of a container as containerd keeps it for itself, `status`. Times are nanoseconds since
/// 1970.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
#[non_exhaustive]
pub struct KeptStatus {
    /// Number of the first process on the machine of the checkpoint.
    pub pid: u32,
    /// Time when the container was made.
    pub created_at: i64,
    /// Time when the container was started.
    pub started_at: i64,
    /// Time when the container ended; 0 while it runs.
    pub finished_at: i64,
    /// Exit status.
    pub exit_code: i32,
    /// Reason for the state, in one word.
    pub reason: String,
    /// Reason for the state, for people.
    pub message: String,
    /// All other fields.
    #[serde(flatten)]
    pub other: Other,
}

impl ContainerStatus {
    /// Time when the container was made.
    pub fn created(&self) -> Option<Time> {
        (self.created_at != 0).then(|| Time::of_nanos(self.created_at))
    }

    /// Time when the container was started.
    pub fn started(&self) -> Option<Time> {
        (self.started_at != 0).then(|| Time::of_nanos(self.started_at))
    }
}

impl KeptStatus {
    /// Time when the container was made.
    pub fn created(&self) -> Option<Time> {
        (self.created_at != 0).then(|| Time::of_nanos(self.created_at))
    }

    /// Time when the container was started.
    pub fn started(&self) -> Option<Time> {
        (self.started_at != 0).then(|| Time::of_nanos(self.started_at))
    }
}
