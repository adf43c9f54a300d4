//! The machine of a checkpoint, and the machine here.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::gpu::Gpus;
use super::tool::ToolKind;
use super::words::words;
use crate::metadata::Other;
use crate::metadata::json::is_empty;

/// Facts about a machine. An empty text or list is a fact that is not known.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Host {
    /// Name of the machine.
    pub name: String,
    /// Release of the kernel, as `uname -r` prints it.
    pub kernel: String,
    /// Architecture, as `uname -m` prints it.
    pub architecture: String,
    /// The processor.
    #[serde(skip_serializing_if = "is_empty")]
    pub cpu: Cpu,
    /// Bytes of a page of memory.
    #[serde(skip_serializing_if = "is_empty")]
    pub page_size: u64,
    /// Control groups.
    #[serde(skip_serializing_if = "is_empty")]
    pub cgroups: Cgroups,
    /// Security modules.
    #[serde(skip_serializing_if = "is_empty")]
    pub lsm: Lsm,
    /// Features of the kernel by name: `userfaultfd`. A feature without an entry is not known.
    /// Answers of CRIU's checks are with its program.
    #[serde(skip_serializing_if = "is_empty")]
    pub features: BTreeMap<String, bool>,
    /// Programs that are installed. `None` if nobody has looked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub programs: Option<Vec<Program>>,
    /// GPUs, if there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpus: Option<Gpus>,
    /// All other fields.
    #[serde(flatten)]
    pub other: Other,
}

/// A processor.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Cpu {
    /// Maker: `GenuineIntel`.
    pub vendor: String,
    /// Name of the model.
    pub name: String,
    /// Numbers of the model, as `/proc/cpuinfo` says them: family, model and stepping.
    #[serde(skip_serializing_if = "is_empty")]
    pub model: Vec<u64>,
    /// Features, as `/proc/cpuinfo` says them.
    pub features: Vec<String>,
    /// All other fields.
    #[serde(flatten)]
    pub other: Other,
}

words! {
    /// Version of the control groups of a machine.
    CgroupVersion {
        /// A hierarchy for each controller.
        V1 = "v1",
        /// A single hierarchy for all controllers.
        V2 = "v2",
        /// Controllers in hierarchies of their own, and the hierarchy of version 2 beside them.
        Hybrid = "hybrid",
    }
}

/// Control groups of a machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Cgroups {
    /// Version.
    pub version: CgroupVersion,
    /// Controllers.
    pub controllers: Vec<String>,
    /// All other fields.
    #[serde(flatten)]
    pub other: Other,
}

impl Default for Cgroups {
    fn default() -> Self {
        let version = CgroupVersion::Other("".into());
        Self { version, controllers: Vec::new(), other: Other::new() }
    }
}

/// Security modules of a machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Lsm {
    /// Names of the active modules: `apparmor`, `selinux`, `yama`.
    pub modules: Vec<String>,
    /// Set if SELinux enforces its policy; `None` without SELinux.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selinux_enforcing: Option<bool>,
    /// Profiles that AppArmor has loaded, if this process may read them. Not in the record.
    #[serde(skip)]
    pub profiles: Option<BTreeSet<String>>,
    /// All other fields.
    #[serde(flatten)]
    pub other: Other,
}

/// A program that is installed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Program {
    /// The tool that the program is.
    pub kind: ToolKind,
    /// Version, as the program says it.
    pub version: String,
    /// Path of the program.
    pub path: String,
    /// Features that the program has or lacks, by name. A feature without an entry is not known.
    #[serde(skip_serializing_if = "is_empty")]
    pub features: BTreeMap<String, bool>,
    /// All other fields.
    #[serde(flatten)]
    pub other: Other,
}

impl Program {
    /// Makes a program whose features are not known.
    pub fn new(kind: ToolKind, version: impl Into<String>, path: impl Into<String>) -> Self {
        Self { kind, version: version.into(), path: path.into(), ..Self::default() }
    }
}

impl Default for Program {
    fn default() -> Self {
        Self {
            kind: ToolKind::Other("".into()),
            version: String::new(),
            path: String::new(),
            features: BTreeMap::new(),
            other: Other::new(),
        }
    }
}
