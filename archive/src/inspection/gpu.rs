//! Facts about GPUs: what plugins of CRIU saved, and which devices tasks had open.

use std::collections::BTreeSet;

use criu_images::files::OpenFile;
use criu_images::source::Source;
use criu_images::{Checkpoint, Text};
use prost::Message;
use serde::Serialize;

use super::read;

/// Facts about GPUs.
///
/// The CUDA plugin has no images of its own. It moves the memory of the device into the memory of
/// the process, and closes the device before the dump. The plugin's name in the inventory is then
/// the only sign.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Gpu {
    /// Plugins of CRIU that a restore needs, such as `cuda_plugin` and `amdgpu_plugin`.
    pub plugins: Vec<String>,
    /// Paths of open files and mappings that belong to GPU drivers.
    pub devices: Vec<String>,
    /// GPUs of AMD, as the plugin saved them.
    pub amd: Vec<AmdTask>,
    /// Number of the images that AMD's plugin wrote.
    pub amd_images: usize,
    /// Bytes of the memory of AMD's GPUs in these images.
    pub amd_memory: u64,
}

/// GPUs that a process used, as AMD's plugin saved them: `amdgpu-kfd-ID.img`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct AmdTask {
    /// Name of the image.
    pub image: String,
    /// Id of the process.
    pub pid: u32,
    /// GPUs of the process.
    pub gpus: Vec<AmdGpu>,
    /// Number of the buffers.
    pub buffers: u64,
    /// Bytes of all buffers.
    pub buffer_bytes: u64,
}

/// A GPU of AMD.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct AmdGpu {
    /// Id of the GPU in the driver.
    pub gpu_id: u32,
    /// Vendor's number on the PCI bus.
    pub vendor_id: u32,
    /// Device's number on the PCI bus.
    pub device_id: u32,
    /// Number of the render device, `/dev/dri/renderD...`.
    pub render_minor: u32,
    /// Bytes of memory of the GPU.
    pub memory: u64,
    /// Version of the firmware.
    pub firmware: u32,
}

impl Gpu {
    /// Collects the facts; `None` if nothing tells of a GPU. Images that cannot be read are added
    /// to `faults`.
    pub(crate) fn new(
        images: &dyn Source,
        checkpoint: Option<Checkpoint<'_>>,
        faults: &mut Vec<String>,
    ) -> Option<Self> {
        let mut gpu = Self::default();
        let mut names = images.names().unwrap_or_default();
        names.retain(|name| name.starts_with("amdgpu-"));
        names.sort_unstable();
        gpu.amd_images = names.len();
        for name in &names {
            if name.starts_with("amdgpu-pages-") || name.starts_with("amdgpu-drm-pages-") {
                let size = images.size(name).ok().flatten().unwrap_or(0);
                gpu.amd_memory = gpu.amd_memory.saturating_add(size);
            }
            // AMD's plugin writes neither a magic nor sizes: one message is the whole file.
            let is_kfd = name.starts_with("amdgpu-kfd-") && name.ends_with(".img");
            if let Some(bytes) = is_kfd.then(|| read(images, name)) {
                match bytes.map(|bytes| Kfd::decode(&*bytes)) {
                    Ok(Ok(kfd)) => gpu.amd.push(AmdTask::new(name, &kfd)),
                    Ok(Err(_)) => faults.push(format!("{}: is no message", Text(name.as_bytes()))),
                    Err(error) => faults.push(error),
                }
            }
        }
        if let Some(checkpoint) = checkpoint {
            let plugins = checkpoint.inventory().plugins_entry.iter();
            let plugins = plugins.flat_map(|entry| &entry.plugins);
            gpu.plugins = plugins.map(|name| Text(name).to_string()).collect();
            let files = checkpoint.files().unwrap_or_default();
            let paths = files.iter().filter_map(OpenFile::path).filter(|path| is_device(path));
            let paths: BTreeSet<String> = paths.map(|path| Text(path).to_string()).collect();
            gpu.devices = paths.into_iter().collect();
        }
        (gpu != Self::default()).then_some(gpu)
    }
}

/// Returns true for the path of a GPU driver's device.
fn is_device(path: &[u8]) -> bool {
    path.starts_with(b"/dev/nvidia") || path.starts_with(b"/dev/dri/") || path == b"/dev/kfd"
}

impl AmdTask {
    fn new(image: &str, kfd: &Kfd) -> Self {
        let gpus = kfd.devices.iter().filter(|device| device.gpu_id != 0);
        Self {
            image: image.to_owned(),
            pid: kfd.pid,
            gpus: gpus
                .map(|device| AmdGpu {
                    gpu_id: device.gpu_id,
                    vendor_id: device.vendor_id,
                    device_id: device.device_id,
                    render_minor: device.drm_render_minor,
                    memory: device.vram_size,
                    firmware: device.fw_version,
                })
                .collect(),
            buffers: kfd.buffers.len() as u64,
            buffer_bytes: kfd.buffers.iter().fold(0, |sum, one| sum.saturating_add(one.size)),
        }
    }
}

/// The parts that are shown of `criu_kfd`, the message of AMD's plugin.
#[derive(Clone, PartialEq, Message)]
struct Kfd {
    #[prost(uint32, tag = "1")]
    pid: u32,
    #[prost(message, repeated, tag = "4")]
    devices: Vec<Device>,
    #[prost(message, repeated, tag = "6")]
    buffers: Vec<Buffer>,
}

/// The parts that are shown of `kfd_device_entry`: a GPU, or a processor with the id 0.
#[derive(Clone, PartialEq, Message)]
struct Device {
    #[prost(uint32, tag = "2")]
    gpu_id: u32,
    #[prost(uint32, tag = "18")]
    vendor_id: u32,
    #[prost(uint32, tag = "19")]
    device_id: u32,
    #[prost(uint32, tag = "21")]
    drm_render_minor: u32,
    #[prost(uint32, tag = "27")]
    fw_version: u32,
    #[prost(uint64, tag = "31")]
    vram_size: u64,
}

/// The part that is shown of `kfd_bo_entry`.
#[derive(Clone, PartialEq, Message)]
struct Buffer {
    #[prost(uint64, tag = "2")]
    size: u64,
}

#[cfg(test)]
mod tests {
    use criu_images::source::InMemory;

    use super::*;

    #[test]
    fn amd_s_images_are_counted_and_read() {
        let gpu = Device { gpu_id: 7, vram_size: 1 << 34, ..Device::default() };
        let devices = vec![Device::default(), gpu];
        let buffers = vec![Buffer { size: 1 << 20 }, Buffer { size: u64::MAX }];
        let kfd = Kfd { pid: 12, devices, buffers };
        let mut images = InMemory::default();
        images.insert("amdgpu-kfd-1.img", kfd.encode_to_vec());
        images.insert("amdgpu-kfd-2.img", [0xff; 9]);
        images.insert("amdgpu-pages-1-0007.img", [0; 100]);
        let mut faults = Vec::new();
        let gpu = Gpu::new(&images, None, &mut faults).unwrap();
        assert_eq!((gpu.amd_images, gpu.amd_memory, gpu.amd.len()), (3, 100, 1));
        assert_eq!((gpu.amd[0].pid, gpu.amd[0].buffers), (12, 2));
        assert_eq!((gpu.amd[0].gpus.len(), gpu.amd[0].gpus[0].memory), (1, 1 << 34));
        assert_eq!(gpu.amd[0].buffer_bytes, u64::MAX);
        assert_eq!(faults, ["amdgpu-kfd-2.img: is no message"]);
        assert_eq!(Gpu::new(&InMemory::default(), None, &mut faults), None);
    }
}
