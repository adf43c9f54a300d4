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
    /// Namespaces, cgroup, filters and other things of Linux.
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
    /// Numbers of user and groups.
    #[serde(default)]
    pub user: User,
    /// Program with its arguments.
    #[serde(default, deserialize_with = "or_empty", skip_serializing_if = "is_empty")]
    pub args: Vec<String>,
    /// Environment, each entry `NAME=VALUE`. May hold secrets.
    #[serde(default, deserialize_with = "or_empty", skip_serializing_if = "is_empty")]
    pub env: Vec<String>,
    /// Working directory.
    #[serde(default)]
    pub cwd: String,
    /// Capabilities by set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Capabilities>,
    /// Limits of resources.
    #[serde(default, deserialize_with = "or_empty", skip_serializing_if = "is_empty")]
    pub rlimits: Vec<Rlimit>,
    /// Set for a process that gains no privileges by `execve`.
    #[serde(default, rename = "noNewPrivileges", skip_serializing_if = "is_empty")]
    pub no_new_privileges: bool,
    /// AppArmor profile.
    #[serde(default, rename = "apparmorProfile", skip_serializing_if = "is_empty")]
    pub apparmor_profile: String,
    /// SELinux context.
    #[serde(default, rename = "selinuxLabel", skip_serializing_if = "is_empty")]
    pub selinux_label: String,
    /// Points by which the kernel is more or less likely to kill the process for memory.
    #[serde(default, rename = "oomScoreAdj", skip_serializing_if = "Option::is_none")]
    pub oom_score_adj: Option<i32>,
    /// All other fields.
    #[serde(flatten)]
    pub other: Other,
}

/// Numbers of a user and the user's groups.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct User {
    /// Number of the user.
    #[serde(default)]
    pub uid: u32,
    /// Number of the group.
    #[serde(default)]
    pub gid: u32,
    /// Numbers of the other groups.
    #[serde(
        default,
        rename = "additionalGids",
        deserialize_with = "or_empty",
        skip_serializing_if = "is_empty"
    )]
    pub groups: Vec<u32>,
    /// All other fields.
    #[serde(flatten)]
    pub other: Other,
}

/// Capabilities of a process by set, each a name such as `CAP_CHOWN`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Capabilities {
    /// Capabilities that the process can have at most.
    #[serde(default, deserialize_with = "or_empty", skip_serializing_if = "is_empty")]
    pub bounding: Vec<String>,
    /// Capabilities that count now.
    #[serde(default, deserialize_with = "or_empty", skip_serializing_if = "is_empty")]
    pub effective: Vec<String>,
    /// Capabilities that a program with file capabilities inherits.
    #[serde(default, deserialize_with = "or_empty", skip_serializing_if = "is_empty")]
    pub inheritable: Vec<String>,
    /// Capabilities that the process may make effective.
    #[serde(default, deserialize_with = "or_empty", skip_serializing_if = "is_empty")]
    pub permitted: Vec<String>,
    /// Capabilities that any program inherits.
    #[serde(default, deserialize_with = "or_empty", skip_serializing_if = "is_empty")]
    pub ambient: Vec<String>,
    /// All other fields.
    #[serde(flatten)]
    pub other: Other,
}

/// Limit of a resource.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Rlimit {
    /// Name, such as `RLIMIT_NOFILE`.
    #[serde(default, rename = "type")]
    pub kind: String,
    /// Limit that the process cannot raise.
    #[serde(default)]
    pub hard: u64,
    /// Limit that counts.
    #[serde(default)]
    pub soft: u64,
    /// All other fields.
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

impl Mount {
    /// Returns true for a part of the machine's file system that the container sees.
    pub fn is_bind(&self) -> bool {
        self.kind == "bind"
            || self.options.iter().any(|option| option == "bind" || option == "rbind")
    }
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
    /// Filter of system calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seccomp: Option<Seccomp>,
    /// Paths that the container cannot read.
    #[serde(
        default,
        rename = "maskedPaths",
        deserialize_with = "or_empty",
        skip_serializing_if = "is_empty"
    )]
    pub masked_paths: Vec<String>,
    /// Paths that the container cannot write.
    #[serde(
        default,
        rename = "readonlyPaths",
        deserialize_with = "or_empty",
        skip_serializing_if = "is_empty"
    )]
    pub readonly_paths: Vec<String>,
    /// SELinux context of the container's mounts.
    #[serde(default, rename = "mountLabel", skip_serializing_if = "is_empty")]
    pub mount_label: String,
    /// All other fields: devices, limits of resources, mappings of users.
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

/// Filter of system calls.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Seccomp {
    /// Action for a call that no rule names, such as `SCMP_ACT_ERRNO`.
    #[serde(default, rename = "defaultAction")]
    pub default_action: String,
    /// Architectures whose calls are known.
    #[serde(default, deserialize_with = "or_empty", skip_serializing_if = "is_empty")]
    pub architectures: Vec<String>,
    /// Rules.
    #[serde(default, deserialize_with = "or_empty", skip_serializing_if = "is_empty")]
    pub syscalls: Vec<SyscallRule>,
    /// All other fields.
    #[serde(flatten)]
    pub other: Other,
}

/// Rule of a filter of system calls.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SyscallRule {
    /// Names of the calls.
    #[serde(default, deserialize_with = "or_empty")]
    pub names: Vec<String>,
    /// Action, such as `SCMP_ACT_ALLOW`.
    #[serde(default)]
    pub action: String,
    /// All other fields: conditions on arguments, error numbers.
    #[serde(flatten)]
    pub other: Other,
}
