//! `spec.dump`: the OCI runtime specification of a container.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::json::{Other, is_empty, or_empty};

/// OCI runtime specification of a container, `spec.dump`: the fields that say how a container runs.
/// Each object keeps the fields that it has no name for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[non_exhaustive]
pub struct SpecDump {
    /// Version of the specification.
    #[serde(rename = "ociVersion")]
    pub version: String,
    /// First process of the container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
    /// Root file system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<Root>,
    /// Host name.
    #[serde(skip_serializing_if = "is_empty")]
    pub hostname: String,
    /// Mounts, in the order in which they are made.
    #[serde(deserialize_with = "or_empty", skip_serializing_if = "is_empty")]
    pub mounts: Vec<Mount>,
    /// Annotations. Engines keep what they know of a container here.
    #[serde(deserialize_with = "or_empty", skip_serializing_if = "is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Namespaces, cgroup and other things of Linux.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub linux: Option<Linux>,
    /// All other fields.
    #[serde(flatten)]
    pub other: Other,
}

/// First process of a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[non_exhaustive]
pub struct Process {
    /// Set for a process with a terminal.
    #[serde(skip_serializing_if = "is_empty")]
    pub terminal: bool,
    /// Program with its arguments.
    #[serde(deserialize_with = "or_empty", skip_serializing_if = "is_empty")]
    pub args: Vec<String>,
    /// Environment, each entry `NAME=VALUE`. May hold secrets.
    #[serde(deserialize_with = "or_empty", skip_serializing_if = "is_empty")]
    pub env: Vec<String>,
    /// Working directory.
    pub cwd: String,
    /// AppArmor profile.
    #[serde(skip_serializing_if = "is_empty")]
    pub apparmor_profile: String,
    /// SELinux context.
    #[serde(skip_serializing_if = "is_empty")]
    pub selinux_label: String,
    /// All other fields: user, capabilities, limits.
    #[serde(flatten)]
    pub other: Other,
}

/// Root file system of a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[non_exhaustive]
pub struct Root {
    /// Path on the machine of the checkpoint.
    pub path: String,
    /// Set for a root that is mounted read-only.
    #[serde(skip_serializing_if = "is_empty")]
    pub readonly: bool,
    /// All other fields.
    #[serde(flatten)]
    pub other: Other,
}

/// Mount of a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[non_exhaustive]
pub struct Mount {
    /// Place in the container.
    pub destination: String,
    /// Type of file system, such as `bind` or `tmpfs`.
    #[serde(rename = "type", skip_serializing_if = "is_empty")]
    pub kind: String,
    /// Device, or path on the machine.
    #[serde(skip_serializing_if = "is_empty")]
    pub source: String,
    /// Options of the mount.
    #[serde(deserialize_with = "or_empty", skip_serializing_if = "is_empty")]
    pub options: Vec<String>,
    /// All other fields.
    #[serde(flatten)]
    pub other: Other,
}

/// Things of Linux in a specification.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[non_exhaustive]
pub struct Linux {
    /// Namespaces. A kind that is missing is the machine's own.
    #[serde(deserialize_with = "or_empty", skip_serializing_if = "is_empty")]
    pub namespaces: Vec<Namespace>,
    /// Cgroup.
    #[serde(skip_serializing_if = "is_empty")]
    pub cgroups_path: String,
    /// SELinux context of the mounts.
    #[serde(skip_serializing_if = "is_empty")]
    pub mount_label: String,
    /// All other fields: devices, limits of resources, mappings of users, filters.
    #[serde(flatten)]
    pub other: Other,
}

/// Namespace of a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[non_exhaustive]
pub struct Namespace {
    /// Kind, such as `network` or `pid`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Namespace that exists already; empty for a new one.
    #[serde(skip_serializing_if = "is_empty")]
    pub path: String,
    /// All other fields.
    #[serde(flatten)]
    pub other: Other,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn odd_values_of_fields_without_a_name_here_stay_as_they_are() {
        let odd = json!({
            "ociVersion": "1.2.0",
            "process": {
                "args": ["redis"],
                "cwd": "/data",
                "apparmorProfile": "strict",
                "user": "root",
                "rlimits": 7,
            },
            "linux": {"cgroupsPath": "/pod", "seccomp": [-1], "maskedPaths": {}},
        });
        let spec: SpecDump = serde_json::from_value(odd.clone()).unwrap();
        let process = spec.process.as_ref().unwrap();
        assert_eq!((&*process.cwd, &*process.apparmor_profile), ("/data", "strict"));
        assert_eq!(spec.linux.as_ref().unwrap().cgroups_path, "/pod");
        assert_eq!(serde_json::to_value(spec).unwrap(), odd);
    }
}
