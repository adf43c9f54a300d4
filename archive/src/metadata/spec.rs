//! `spec.dump`: the OCI runtime specification of a container.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::json::{Other, is_empty, or_empty};

/// OCI runtime specification of a container, `spec.dump`: the fields that say how a container runs.
/// Each object keeps the fields that it has no name for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SpecDump {
    /// Version of the specification.
    #[serde(default, rename = "ociVersion")]
    pub version: String,
    /// First process of the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
    /// Root file system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<Root>,
    /// Host name.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub hostname: String,
    /// Mounts, in the order in which they are made.
    #[serde(default, deserialize_with = "or_empty", skip_serializing_if = "is_empty")]
    pub mounts: Vec<Mount>,
    /// Annotations. Engines keep what they know of a container here.
    #[serde(default, deserialize_with = "or_empty", skip_serializing_if = "is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Namespaces, cgroup and other things of Linux.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub linux: Option<Linux>,
    /// All other fields.
    #[serde(flatten)]
    pub other: Other,
}

/// First process of a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Process {
    /// Set for a process with a terminal.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub terminal: bool,
    /// Program with its arguments.
    #[serde(default, deserialize_with = "or_empty", skip_serializing_if = "is_empty")]
    pub args: Vec<String>,
    /// Environment, each entry `NAME=VALUE`. May hold secrets.
    #[serde(default, deserialize_with = "or_empty", skip_serializing_if = "is_empty")]
    pub env: Vec<String>,
    /// Working directory.
    #[serde(default)]
    pub cwd: String,
    /// AppArmor profile.
    #[serde(default, rename = "apparmorProfile", skip_serializing_if = "is_empty")]
    pub apparmor_profile: String,
    /// SELinux context.
    #[serde(default, rename = "selinuxLabel", skip_serializing_if = "is_empty")]
    pub selinux_label: String,
    /// All other fields: user, capabilities, limits.
    #[serde(flatten)]
    pub other: Other,
}

/// Root file system of a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Root {
    /// Path on the machine of the checkpoint.
    #[serde(default)]
    pub path: String,
    /// Set for a root that is mounted read-only.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub readonly: bool,
    /// All other fields.
    #[serde(flatten)]
    pub other: Other,
}

/// Mount of a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Mount {
    /// Place in the container.
    #[serde(default)]
    pub destination: String,
    /// Type of file system, such as `bind` or `tmpfs`.
    #[serde(default, rename = "type", skip_serializing_if = "is_empty")]
    pub kind: String,
    /// Device, or path on the machine.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub source: String,
    /// Options of the mount.
    #[serde(default, deserialize_with = "or_empty", skip_serializing_if = "is_empty")]
    pub options: Vec<String>,
    /// All other fields.
    #[serde(flatten)]
    pub other: Other,
}

/// Things of Linux in a specification.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Linux {
    /// Namespaces. A kind that is missing is the machine's own.
    #[serde(default, deserialize_with = "or_empty", skip_serializing_if = "is_empty")]
    pub namespaces: Vec<Namespace>,
    /// Cgroup.
    #[serde(default, rename = "cgroupsPath", skip_serializing_if = "is_empty")]
    pub cgroups_path: String,
    /// All other fields: devices, limits of resources, mappings of users, filters.
    #[serde(flatten)]
    pub other: Other,
}

/// Namespace of a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Namespace {
    /// Kind, such as `network` or `pid`.
    #[serde(default, rename = "type")]
    pub kind: String,
    /// Namespace that exists already; empty for a new one.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub path: String,
    /// All other fields.
    #[serde(flatten)]
    pub other: Other,
}
