//! An inspection as tables: facts of the container, and the sections that were asked for.

use std::fmt::{self, Display};

use criu_archive::inspection::{Container, Gpu, Inspection, Rootfs, Sizes};
use criu_archive::metadata::Engine;

use super::options::Sections;
use super::screen::{line, size};
use super::table::Table;

/// The sections that were asked for, each a table below its title.
pub(super) struct Tables<'a>(pub(super) &'a Inspection, pub(super) &'a Sections);

impl Display for Tables<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(all, sections) = *self;
        let mut first = true;
        let mut section = |title: &str, text: Option<&dyn Display>| match text {
            Some(text) => {
                let gap = if std::mem::take(&mut first) { "" } else { "\n\n" };
                write!(f, "{gap}{title}\n{text}")
            }
            None => Ok(()),
        };
        fn some<T: Display>(text: &Option<T>) -> Option<&dyn Display> {
            text.as_ref().map(|text| text as &dyn Display)
        }
        if sections.metadata || sections.all {
            let container = all.container.as_ref();
            section("CONTAINER", some(&container.map(facts)))?;
            section("NETWORKS", some(&container.and_then(networks)))?;
            section("ANNOTATIONS", some(&annotations(all)))?;
            section("SIZES", Some(&sizes(&all.sizes)))?;
        }
        section("CHECKPOINT", some(&all.summary))?;
        section("STATISTICS", some(&all.statistics).filter(|_| sections.stats || sections.all))?;
        section("PROCESSES", some(&all.ps))?;
        section("FILES", some(&all.open_files))?;
        section("SOCKETS", some(&all.sockets))?;
        let container = all.container.as_ref().filter(|_| all.mounts.is_some());
        section("MOUNTS OF THE CONTAINER", some(&container.and_then(mounts)))?;
        section("MOUNTS", some(&all.mounts))?;
        section("NAMESPACES", some(&all.namespaces))?;
        section("MEMORY", some(&all.memory))?;
        section("MAPPINGS", some(&all.mappings))?;
        section("SECURITY", some(&all.security))?;
        section("GPU", some(&all.gpu.as_ref().map(gpu)))?;
        section("ROOT FILE SYSTEM", some(&all.rootfs.as_ref().map(changes)))?;
        section("WORKING SET", some(&all.working_set))?;
        section("WORKING SET IGNORED", some(&all.working_set_fault))?;
        let findings: Vec<String> = all.findings.iter().map(line).collect();
        let findings = (!findings.is_empty()).then(|| findings.join("\n"));
        section("FINDINGS", some(&findings))
    }
}

fn facts(container: &Container) -> Table<2> {
    let mut table = Table::new(["FACT", "VALUE"]);
    let pod = container.pod.clone().unwrap_or_default();
    let command = Some(container.arguments.join(" ")).filter(|command| !command.is_empty());
    let engine = container.engine.unwrap_or(Engine::Unknown).word().to_owned();
    for (name, value) in [
        ("engine", Some(engine)),
        ("name", container.name.clone()),
        ("id", container.id.clone()),
        ("image", container.image.clone()),
        ("image reference", container.image_ref.clone()),
        ("runtime", container.runtime.clone()),
        ("created", container.created.clone()),
        ("checkpointed", container.checkpointed.clone()),
        ("restored", container.restored.clone()),
        ("pod", pod.name),
        ("pod namespace", pod.namespace),
        ("pod uid", pod.uid),
        ("pod sandbox", pod.sandbox),
        ("command", command),
        ("directory", container.directory.clone()),
        ("host name", container.hostname.clone()),
        ("cgroup", container.cgroup.clone()),
        ("label", container.label.clone()),
        ("root file system", container.read_only.then(|| "read-only".to_owned())),
    ] {
        if let Some(value) = value {
            table.row([name.to_owned(), value]);
        }
    }
    table
}

fn networks(container: &Container) -> Option<Table<5>> {
    let mut table = Table::new(["NETWORK", "INTERFACE", "MAC", "GATEWAYS", "ADDRESSES"]);
    for network in &container.networks {
        table.row([
            dash(&network.network),
            dash(&network.interface),
            dash(network.mac.as_deref().unwrap_or_default()),
            dash(&network.gateways.join(",")),
            dash(&network.addresses.join(",")),
        ]);
    }
    (!container.networks.is_empty()).then_some(table)
}

/// Makes the table of the annotations that the specification and the image have.
fn annotations(all: &Inspection) -> Option<Table<3>> {
    let mut table = Table::new(["OF", "NAME", "VALUE"]);
    let specification = all.container.iter().flat_map(|container| &container.annotations);
    let rows = specification.map(|row| ("specification", row));
    let mut rows = rows.chain(all.source.annotations.iter().map(|row| ("image", row))).peekable();
    rows.peek()?;
    for (of, (name, value)) in rows {
        table.row([of.to_owned(), name.clone(), value.clone()]);
    }
    Some(table)
}

fn sizes(sizes: &Sizes) -> Table<2> {
    let mut table = Table::new([">SIZE", "PART"]);
    let mut add = |part: &str, bytes: u64| table.row([size(bytes), part.to_owned()]);
    if let Some(bytes) = sizes.unpacked {
        add("archive, unpacked", bytes);
    }
    add("checkpoint", sizes.checkpoint);
    add("memory", sizes.memory);
    if sizes.gpu_memory > 0 {
        add("memory of GPUs", sizes.gpu_memory);
    }
    sizes.parents.iter().for_each(|bytes| add("parent set", *bytes));
    if let Some(bytes) = sizes.rootfs_diff {
        add("root FS diff", bytes);
    }
    if let Some(bytes) = sizes.shm {
        add("/dev/shm", bytes);
    }
    sizes.volumes.iter().for_each(|volume| add(&format!("volume {}", volume.name), volume.bytes));
    table
}

fn mounts(container: &Container) -> Option<Table<4>> {
    let mut table = Table::new(["TYPE", "TARGET", "SOURCE", "OPTIONS"]);
    for mount in &container.mounts {
        table.row([
            dash(&mount.kind),
            dash(&mount.destination),
            dash(&mount.source),
            dash(&mount.options.join(",")),
        ]);
    }
    (!container.mounts.is_empty()).then_some(table)
}

fn gpu(gpu: &Gpu) -> Table<3> {
    let mut table = Table::new(["KIND", "NAME", "DETAILS"]);
    let mut add = |kind: &str, name: String, details: String| {
        table.row([kind.to_owned(), name, dash(&details)]);
    };
    gpu.plugins.iter().for_each(|plugin| add("plugin", plugin.clone(), String::new()));
    gpu.devices.iter().for_each(|path| add("device", path.clone(), String::new()));
    for task in &gpu.amd {
        let buffers = format!("{} buffers, {}", task.buffers, size(task.buffer_bytes));
        add("process", task.pid.to_string(), buffers);
        for card in &task.gpus {
            let (vendor, device, memory) = (card.vendor_id, card.device_id, size(card.memory));
            let (pid, minor) = (task.pid, card.render_minor);
            let at = format!("/dev/dri/renderD{minor}, of process {pid}");
            let details = format!("PCI {vendor:04x}:{device:04x}, {memory}, {at}");
            add("card", format!("{:#x}", card.gpu_id), details);
        }
    }
    for node in &gpu.amd_render {
        let (id, buffers, bytes) = (node.gpu_id, node.buffers, size(node.buffer_bytes));
        let details = format!("GPU {id:#x}, {buffers} buffers, {bytes}");
        add("render device", format!("/dev/dri/renderD{}", node.render_minor), details);
    }
    if gpu.amd_images > 0 {
        let details = format!("{} of memory", size(gpu.amd_memory));
        add("images of AMD's plugin", gpu.amd_images.to_string(), details);
    }
    table
}

fn changes(rootfs: &Rootfs) -> Table<4> {
    let mut table = Table::new(["CHANGE", "KIND", ">SIZE", "PATH"]);
    for file in &rootfs.changed {
        let (kind, bytes) = (file.kind.to_owned(), size(file.bytes));
        table.row(["changed".to_owned(), kind, bytes, file.path.clone()]);
    }
    for path in &rootfs.deleted {
        table.row(["deleted", "-", "-", path].map(str::to_owned));
    }
    table
}

/// Shows an absent text as a dash, so that columns can be told apart.
fn dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}
