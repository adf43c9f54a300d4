//! Tools: the programs that make checkpoints.

use serde::{Deserialize, Serialize};

use super::words::words;
use crate::metadata::Other;
use crate::metadata::json::is_empty;

words! {
    /// Kind of a tool.
    ToolKind {
        /// CRIU.
        Criu = "criu",
        /// gVisor's `runsc`.
        Runsc = "runsc",
        /// QEMU, also below Kata Containers.
        Qemu = "qemu",
        /// Firecracker.
        Firecracker = "firecracker",
    }
}

/// The tool that made a checkpoint, and how it was called.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Tool {
    /// Kind of the tool.
    pub kind: ToolKind,
    /// Version, as the tool says it: `4.3`, `release-20240729.0`.
    pub version: String,
    /// Version of the form of the files, if the tool has one of its own: the `MAJOR.MINOR.PATCH` of
    /// a snapshot of Firecracker, the machine type of QEMU.
    #[serde(skip_serializing_if = "is_empty")]
    pub format: String,
    /// The program that called the tool, and its version: `runc 1.3.6`. Empty if nothing stood
    /// between.
    #[serde(skip_serializing_if = "is_empty")]
    pub runtime: String,
    /// Options and arguments of the checkpoint, as the tool takes them. No secrets.
    #[serde(skip_serializing_if = "is_empty")]
    pub arguments: Vec<String>,
    /// Features of the tool or of the kernel that the checkpoint used, and that a restore needs:
    /// `mem_compression`, `lazy_pages`.
    #[serde(skip_serializing_if = "is_empty")]
    pub features: Vec<String>,
    /// All other fields.
    #[serde(flatten)]
    pub other: Other,
}

impl Tool {
    /// Makes a tool that was called without arguments.
    pub fn new(kind: ToolKind, version: impl Into<String>) -> Self {
        Self { kind, version: version.into(), ..Self::default() }
    }
}

impl Default for Tool {
    fn default() -> Self {
        Self {
            kind: ToolKind::Other("".into()),
            version: String::new(),
            format: String::new(),
            runtime: String::new(),
            arguments: Vec::new(),
            features: Vec::new(),
            other: Other::new(),
        }
    }
}
