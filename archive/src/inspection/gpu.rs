//! Facts about GPUs: what plugins of CRIU saved, and which devices tasks had open.

use std::collections::BTreeSet;

use criu_images::bounds::IMAGE;
use criu_images::files::OpenFile;
use criu_images::source::Source;
use criu_images::{Checkpoint, Text};
use prost::Message;
use serde::Serialize;

use super::findings::{Finding, or_finding};
use crate::error::{Error, ErrorKind, Fault};
use crate::metadata::json;

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
    /// Render devices of AMD that were open, as the plugin saved them.
    pub amd_render: Vec<AmdRender>,
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

/// Open render device of a GPU of AMD, as the plugin saved it: `amdgpu-renderD-ID.img`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct AmdRender {
    /// Name of the image.
    pub image: String,
    /// Id of the GPU in the driver.
    pub gpu_id: u32,
    /// Number of the render device, `/dev/dri/renderD...`.
    pub render_minor: u32,
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
    /// to the findings.
    pub(crate) fn new(
        images: &dyn Source,
        checkpoint: Option<Checkpoint<'_>>,
        findings: &mut Vec<Finding>,
    ) -> Option<Self> {
        let mut gpu = Self::default();
        let mut names = images.names().unwrap_or_default();
        names.retain(|name| name.starts_with("amdgpu-"));
        names.sort_unstable();
        gpu.amd_images = names.len();
        for name in &names {
            let is_image = |start| name.starts_with(start) && name.ends_with(".img");
            if is_image("amdgpu-pages-") || is_image("amdgpu-drm-pages-") {
                let bytes = images.size(name).ok().flatten().unwrap_or(0);
                gpu.amd_memory = gpu.amd_memory.saturating_add(bytes.saturating_sub(HEAD));
            } else if is_image("amdgpu-kfd-") {
                gpu.amd.extend(message(images, name, findings).map(|kfd| AmdTask::new(name, &kfd)));
            } else if is_image("amdgpu-renderD-") {
                let node = message(images, name, findings);
                gpu.amd_render.extend(node.map(|node| AmdRender::new(name, &node)));
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

/// Reads the message of an image of AMD's plugin. The image has neither a magic nor a frame: the
/// length of the message in eight bytes, then the message. The first versions of the plugin left
/// the length out.
fn message<M: Message + Default>(
    images: &dyn Source,
    name: &str,
    findings: &mut Vec<Finding>,
) -> Option<M> {
    let read = || -> Result<M, Fault> {
        let blob = images.open(name)?.ok_or(ErrorKind::Malformed("is missing"))?;
        let bytes = json::bytes(&blob, IMAGE.get())?;
        let whole = match bytes.split_first_chunk() {
            Some((len, rest)) if u64::from_le_bytes(*len) == rest.len() as u64 => rest,
            _ => &bytes,
        };
        let wrong = |_| ErrorKind::Malformed("is no message of AMD's plugin").into();
        M::decode(whole).map_err(wrong)
    };
    let read = read().map(Some).map_err(|fault| Error::new("", fault.of(name)));
    or_finding(read, findings)
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
            buffer_bytes: sum(&kfd.buffers),
        }
    }
}

impl AmdRender {
    fn new(image: &str, node: &RenderNode) -> Self {
        Self {
            image: image.to_owned(),
            gpu_id: node.gpu_id,
            render_minor: node.drm_render_minor,
            buffers: node.buffers.len() as u64,
            buffer_bytes: sum(&node.buffers),
        }
    }
}

fn sum(buffers: &[Buffer]) -> u64 {
    buffers.iter().fold(0, |sum, one| sum.saturating_add(one.size))
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

/// The parts that are shown of `criu_render_node`.
#[derive(Clone, PartialEq, Message)]
struct RenderNode {
    #[prost(uint32, tag = "1")]
    gpu_id: u32,
    #[prost(uint32, tag = "3")]
    drm_render_minor: u32,
    #[prost(message, repeated, tag = "5")]
    buffers: Vec<Buffer>,
}

/// The part that is shown of `kfd_bo_entry` and `drm_bo_entry`.
#[derive(Clone, PartialEq, Message)]
struct Buffer {
    #[prost(uint64, tag = "2")]
    size: u64,
}

/// Bytes of the length at the start of the images of AMD's plugin.
const HEAD: u64 = 8;

#[cfg(test)]
mod tests {
    use criu_images::source::InMemory;

    use super::*;

    /// Bytes of an image as the plugin writes it: the length of the message, then the message.
    fn image(message: &[u8]) -> Vec<u8> {
        [&(message.len() as u64).to_le_bytes(), message].concat()
    }

    /// Fields with numbers as the plugin's `criu-amdgpu.proto` has them, in the wire format.
    fn fields(fields: &[(u32, Field<'_>)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (number, field) in fields {
            match field {
                Field::Number(value) => {
                    prost::encoding::uint64::encode(*number, value, &mut bytes);
                }
                Field::Bytes(value) => {
                    prost::encoding::bytes::encode(*number, &value.to_vec(), &mut bytes);
                }
            }
        }
        bytes
    }

    enum Field<'a> {
        Number(u64),
        Bytes(&'a [u8]),
    }
    use Field::{Bytes, Number};

    /// The image of a process with a CPU, a GPU and two buffers. All required fields are there.
    fn kfd() -> Vec<u8> {
        let device = |gpu_id, vendor, device, minor, vram| {
            let mut all: Vec<(u32, Field<'_>)> = (1..=31).map(|tag| (tag, Number(0))).collect();
            let some =
                [(2, gpu_id), (18, vendor), (19, device), (21, minor), (27, 117), (31, vram)];
            for (tag, value) in some {
                all[tag - 1].1 = Number(value);
            }
            let link = fields(&[(1, Number(2)), (2, Number(0))]);
            all.push((32, Bytes(&link)));
            fields(&all)
        };
        let (cpu, gpu) = (device(0, 0, 0, 0, 0), device(0xe1d5, 0x1002, 0x740f, 128, 64 << 30));
        let buffer = |size| {
            fields(&[
                (1, Number(0x7f00_0000_0000)),
                (2, Number(size)),
                (3, Number(0)),
                (4, Number(0xd000_0001)),
                (5, Number(0xe1d5)),
                (6, Number(1)),
            ])
        };
        let (small, large) = (buffer(4096), buffer(1 << 30));
        fields(&[
            (1, Number(4711)),
            (2, Number(1)),
            (3, Number(1)),
            (4, Bytes(&cpu)),
            (4, Bytes(&gpu)),
            (5, Number(2)),
            (6, Bytes(&small)),
            (6, Bytes(&large)),
            (7, Number(5)),
            (8, Number(4096)),
            (9, Number(0x1234)),
            (10, Bytes(&[7; 300])),
        ])
    }

    #[test]
    fn amd_s_images_are_read_as_the_plugin_writes_them() {
        let buffer = fields(&[(1, Number(1)), (2, Number(8192)), (8, Number(0)), (9, Number(0))]);
        let node = fields(&[
            (1, Number(0xe1d5)),
            (2, Number(9)),
            (3, Number(128)),
            (4, Number(1)),
            (5, Bytes(&buffer)),
        ]);
        let mut images = InMemory::default();
        images.insert("amdgpu-kfd-8.img", image(&kfd()));
        images.insert("amdgpu-renderD-9.img", image(&node));
        images.insert("amdgpu-pages-8-e1d5.img", image(&[1; 4096]));
        images.insert("amdgpu-drm-pages-9-128-0000.img", image(&[1; 8192]));
        images.insert("amdgpu-dmabuf_3.img", image(&fields(&[(1, Number(4))])));
        let mut findings = Vec::new();
        let gpu = Gpu::new(&images, None, &mut findings).unwrap();
        assert_eq!(findings, []);
        assert_eq!((gpu.amd_images, gpu.amd_memory), (5, 4096 + 8192));
        let [task] = &gpu.amd[..] else { panic!("{:?}", gpu.amd) };
        assert_eq!((task.pid, task.buffers, task.buffer_bytes), (4711, 2, 4096 + (1 << 30)));
        let expected = AmdGpu {
            gpu_id: 0xe1d5,
            vendor_id: 0x1002,
            device_id: 0x740f,
            render_minor: 128,
            memory: 64 << 30,
            firmware: 117,
        };
        assert_eq!(task.gpus, [expected]);
        let [node] = &gpu.amd_render[..] else { panic!("{:?}", gpu.amd_render) };
        let facts = (node.gpu_id, node.render_minor, node.buffers, node.buffer_bytes);
        assert_eq!(facts, (0xe1d5, 128, 1, 8192));
    }

    #[test]
    fn an_image_without_its_length_is_read_and_a_broken_one_is_told() {
        let mut images = InMemory::default();
        images.insert("amdgpu-kfd-1.img", kfd());
        images.insert("amdgpu-kfd-2.img", [0xff; 9]);
        images.insert("amdgpu-renderD-3.img", []);
        let mut findings = Vec::new();
        let gpu = Gpu::new(&images, None, &mut findings).unwrap();
        assert_eq!((gpu.amd.len(), gpu.amd[0].pid), (1, 4711));
        let wrong = Finding::error("amdgpu-kfd-2.img", "is no message of AMD's plugin");
        assert_eq!(findings, [wrong]);
        assert_eq!(Gpu::new(&InMemory::default(), None, &mut findings), None);
    }

    #[test]
    fn sums_of_sizes_stay_in_bounds() {
        let buffers = [Buffer { size: u64::MAX }, Buffer { size: 1 }];
        assert_eq!(sum(&buffers), u64::MAX);
    }
}
