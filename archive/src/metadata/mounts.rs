//! `bind.mounts` and `pod.options`: small lists of CRI-O and of pods.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::json::{Other, or_empty};

/// Bind mount of a container of CRI-O, an entry of `bind.mounts`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct BindMount {
    /// Path on the machine.
    pub source: String,
    /// Place in the container.
    pub destination: String,
    /// Kind of file at the source: `directory` or `file`.
    pub file_type: String,
    /// Permissions of the source, as Go counts them: the low nine bits are those of chmod(2).
    pub permissions: u32,
    /// All other fields.
    #[serde(flatten)]
    pub other: Other,
}

/// Containers of a pod, `pod.options`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct PodOptions {
    /// Version of the form.
    pub version: i64,
    /// Names of the containers' checkpoints, by name of the container.
    #[serde(deserialize_with = "or_empty")]
    pub containers: BTreeMap<String, String>,
    /// Annotations.
    #[serde(deserialize_with = "or_empty")]
    pub annotations: BTreeMap<String, String>,
    /// All other fields.
    #[serde(flatten)]
    pub other: Other,
}
