//! GPUs of a checkpoint, and of a machine.

use serde::{Deserialize, Serialize};

use super::words::words;
use crate::metadata::Other;
use crate::metadata::json::is_empty;

/// Facts about GPUs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Gpus {
    /// Program that saved the memory of the GPUs: `cuda-checkpoint`, `cuda_plugin`,
    /// `amdgpu_plugin`, `runsc`, `libcuda`. Empty for a machine.
    #[serde(skip_serializing_if = "is_empty")]
    pub tool: String,
    /// Version of the kernel's driver: `580.65.06`.
    pub driver: String,
    /// Version of CUDA that the driver offers: `13.0`.
    #[serde(skip_serializing_if = "is_empty")]
    pub cuda: String,
    /// The GPUs.
    pub devices: Vec<GpuDevice>,
    /// Processes that used a GPU, by their ids in the container, in the order in which they were
    /// saved.
    #[serde(skip_serializing_if = "is_empty")]
    pub processes: Vec<GpuProcess>,
    /// Place of the memory of the GPUs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage: Option<GpuStorage>,
    /// Path of the job file, whose content is a seed for each restore. Empty for processes of no
    /// job.
    #[serde(skip_serializing_if = "is_empty")]
    pub job_file: String,
    /// Set if the processes have to be saved and restored one after the other, as members of a job
    /// have to. Ranks of NCCL without a job need the contrary: all of them at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub one_by_one: Option<bool>,
    /// All other fields.
    #[serde(flatten)]
    pub other: Other,
}

/// A GPU.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct GpuDevice {
    /// Identifier: `GPU-` and 32 hexadecimal digits in groups. `MIG-` begins that of a part of a
    /// GPU, which NVIDIA's driver does not save.
    pub uuid: String,
    /// Name of the model: `NVIDIA H200`.
    pub model: String,
    /// Bytes of memory; 0 if they are not known.
    #[serde(skip_serializing_if = "is_empty")]
    pub memory: u64,
    /// Address on the PCI bus: `0000:65:00.0`.
    #[serde(skip_serializing_if = "is_empty")]
    pub pci: String,
    /// Path of the device: `/dev/nvidia0`.
    #[serde(skip_serializing_if = "is_empty")]
    pub path: String,
    /// All other fields.
    #[serde(flatten)]
    pub other: Other,
}

/// A process that used a GPU.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct GpuProcess {
    /// Name of the container.
    pub container: String,
    /// Id of the process in the container.
    pub pid: u32,
    /// All other fields.
    #[serde(flatten)]
    pub other: Other,
}

words! {
    /// Place of the memory of GPUs in a checkpoint.
    GpuStorage {
        /// The memory of the processes, and so the pages of their checkpoint.
        Host = "host",
        /// Files of their own: images of AMD's plugin, custom storage of CUDA 13.4.
        Files = "files",
    }
}
