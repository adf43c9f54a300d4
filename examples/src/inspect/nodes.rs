//! An inspection as a tree: facts of the container, and processes with what they have open.

use std::collections::HashMap;
use std::time::Duration;

use criu_archive::inspection::{Container, Gpu, Inspection, Rootfs, Sizes};
use criu_archive::metadata::Engine;
use criu_images::DumpStats;
use criu_images::view::{Mapping, OpenFd, Process, Socket, TaskFds, ThreadSecurity};

use super::protections::Known;
use super::screen::{line, size};
use super::tree::Tree;

/// Makes the tree. `metadata` adds all that the engine's metadata says.
pub(crate) fn tree(inspection: &Inspection, metadata: bool, statistics: bool) -> Tree {
    let mut tree = Tree::default();
    let container = inspection.container.as_ref();
    let name = container.and_then(|container| container.name.as_deref());
    tree.add(0, name.unwrap_or(&inspection.source.name));
    if let Some(container) = container {
        facts(&mut tree, container, metadata);
    }
    sizes(&mut tree, &inspection.sizes);
    if inspection.pre_dump {
        tree.add(1, "pre-dump: memory alone, without processes");
    }
    for (name, value) in inspection.source.annotations.iter().filter(|_| metadata) {
        tree.add(1, format!("image annotation {name}: {value}"));
    }
    if let Some(statistics) = inspection.statistics.as_ref().filter(|_| statistics) {
        counters(&mut tree, statistics);
    }
    if let Some(summary) = &inspection.summary {
        tree.add(1, "checkpoint");
        for line in summary.to_string().lines() {
            // The options of a restore are indented below their title.
            let depth = if line.starts_with(' ') { 3 } else { 2 };
            tree.add(depth, line.trim());
        }
    }
    processes(&mut tree, inspection);
    mounts(&mut tree, inspection);
    if let Some(namespaces) = &inspection.namespaces {
        tree.add(1, "namespaces");
        for row in &namespaces.namespaces {
            let place = match (&row.external, row.host) {
                (Some(key), _) => format!("external {key}"),
                (None, true) => "host".to_owned(),
                (None, false) => "own".to_owned(),
            };
            let tasks = tasks(row.pids.len());
            tree.add(2, format!("{} {}, {place}, {tasks}", row.kind, row.id));
            row.contents.iter().for_each(|line| tree.add(3, line.as_str()));
        }
    }
    if let Some(gpu) = &inspection.gpu {
        gpus(&mut tree, gpu);
    }
    if let Some(rootfs) = &inspection.rootfs {
        changes(&mut tree, rootfs);
    }
    if let Some(touches) = &inspection.working_set {
        let bytes = |pages: u64| size(pages.saturating_mul(touches.page_size));
        let (touched, own) = (size(touches.bytes), bytes(touches.own_pages));
        tree.add(1, format!("working set: {touched} of {own} were touched after a restore"));
        for task in &touches.tasks {
            let (touched, own) = (bytes(task.pages), bytes(task.own_pages));
            let last = format!("{}.{:03}", task.last_us / 1000, task.last_us % 1000);
            let (pid, name) = (task.pid, &task.name);
            tree.add(2, format!("[{pid}] {name}: {touched} of {own}, the last after {last} ms"));
        }
    }
    tree.fact(1, "working set ignored", inspection.working_set_fault.as_ref());
    if !inspection.findings.is_empty() {
        tree.add(1, "findings");
        for finding in &inspection.findings {
            tree.add(2, line(finding));
        }
    }
    tree
}

/// Adds the facts that `show` has, and with `metadata` those of the specification.
fn facts(tree: &mut Tree, container: &Container, metadata: bool) {
    let Container { engine, id, image, image_ref, runtime, .. } = container;
    tree.fact(1, "image", image.as_ref());
    tree.fact(1, "image reference", image_ref.as_ref());
    tree.fact(1, "id", id.as_ref());
    tree.fact(1, "runtime", runtime.as_ref());
    tree.fact(1, "engine", Some(engine.unwrap_or(Engine::Unknown).word()));
    tree.fact(1, "created", container.created.as_ref());
    tree.fact(1, "checkpointed", container.checkpointed.as_ref());
    tree.fact(1, "restored", container.restored.as_ref());
    for network in &container.networks {
        for address in &network.addresses {
            tree.add(1, format!("IP: {address}"));
        }
        tree.fact(1, "MAC", network.mac.as_ref());
    }
    if let Some(pod) = &container.pod {
        let part = |part: &Option<String>| part.clone().unwrap_or_else(|| "?".to_owned());
        tree.add(1, format!("pod: {}/{}", part(&pod.namespace), part(&pod.name)));
        tree.fact(2, "uid", pod.uid.as_ref().filter(|_| metadata));
        tree.fact(2, "sandbox", pod.sandbox.as_ref().filter(|_| metadata));
    }
    if !metadata {
        return;
    }
    tree.add(1, "specification");
    let command = container.arguments.join(" ");
    tree.fact(2, "command", Some(command).filter(|command| !command.is_empty()));
    tree.fact(2, "directory", container.directory.as_ref());
    tree.fact(2, "host name", container.hostname.as_ref());
    tree.fact(2, "cgroup", container.cgroup.as_ref());
    tree.fact(2, "label", container.label.as_ref());
    tree.fact(2, "root file system", Some("read-only").filter(|_| container.read_only));
    for network in &container.networks {
        let (at, interface) = (&network.network, &network.interface);
        let parts = [("network ", at), ("interface ", interface)];
        let parts = parts.iter().filter(|(_, part)| !part.is_empty());
        let mut parts: Vec<String> = parts.map(|(name, part)| format!("{name}{part}")).collect();
        parts.extend(network.gateways.iter().map(|gateway| format!("gateway {gateway}")));
        if !parts.is_empty() {
            tree.add(2, parts.join(", "));
        }
    }
    if !container.annotations.is_empty() {
        tree.add(2, "annotations");
    }
    for (name, value) in &container.annotations {
        tree.add(3, format!("{name}: {value}"));
    }
}

fn sizes(tree: &mut Tree, sizes: &Sizes) {
    tree.add(1, format!("checkpoint size: {}", size(sizes.checkpoint)));
    tree.add(2, format!("memory: {}", size(sizes.memory)));
    if sizes.gpu_memory > 0 {
        tree.add(2, format!("memory of GPUs: {}", size(sizes.gpu_memory)));
    }
    for bytes in &sizes.parents {
        tree.add(2, format!("parent set: {}", size(*bytes)));
    }
    tree.fact(1, "root FS diff size", sizes.rootfs_diff.map(size));
    tree.fact(1, "/dev/shm size", sizes.shm.map(size));
    for volume in &sizes.volumes {
        tree.add(1, format!("volume {}: {}", volume.name, size(volume.bytes)));
    }
}

fn counters(tree: &mut Tree, statistics: &DumpStats) {
    let ms = |time: Duration| format!("{}.{:03} ms", time.as_millis(), time.subsec_micros() % 1000);
    tree.add(1, "CRIU dump statistics");
    tree.add(2, format!("freezing time: {}", ms(statistics.freezing)));
    tree.add(2, format!("frozen time: {}", ms(statistics.frozen)));
    tree.add(2, format!("memdump time: {}", ms(statistics.memdump)));
    tree.add(2, format!("memwrite time: {}", ms(statistics.memwrite)));
    tree.fact(2, "irmap time", statistics.irmap_resolve.map(ms));
    tree.add(2, format!("pages scanned: {}", statistics.pages_scanned));
    tree.add(2, format!("pages written: {}", statistics.pages_written));
    tree.add(2, format!("pages left to the parent set: {}", statistics.pages_skipped_parent));
    tree.add(2, format!("pages that a restore may fetch later: {}", statistics.pages_lazy));
}

/// Adds the processes, each with what was asked for.
fn processes(tree: &mut Tree, inspection: &Inspection) {
    let Some(ps) = &inspection.ps else { return };
    tree.add(1, "processes");
    let files: HashMap<u32, &TaskFds> =
        inspection.open_files.iter().flat_map(|all| &all.tasks).map(|at| (at.pid, at)).collect();
    let mut sockets: HashMap<u32, Vec<(u32, &Socket)>> = HashMap::new();
    for socket in inspection.sockets.iter().flat_map(|all| &all.sockets) {
        for holder in &socket.holders {
            sockets.entry(holder.pid).or_default().push((holder.fd, socket));
        }
    }
    let mappings: HashMap<u32, &[Mapping]> = inspection
        .mappings
        .iter()
        .flat_map(|all| &all.tasks)
        .map(|at| (at.pid, &at.mappings[..]))
        .collect();
    let memory = inspection.memory.iter().flat_map(|all| &all.tasks);
    let memory: HashMap<u32, _> = memory.map(|at| (at.pid, at)).collect();
    let mut security: HashMap<u32, Vec<&ThreadSecurity>> = HashMap::new();
    for thread in inspection.security.iter().flat_map(|all| &all.threads) {
        security.entry(thread.pid).or_default().push(thread);
    }
    let mut known = Known::default();
    for process in &ps.processes {
        let depth = process.depth.saturating_add(2);
        let pid = process.pid;
        tree.add(depth, headline(process));
        if let Some(words) = process.environment.as_ref().filter(|words| !words.is_empty()) {
            tree.add(depth + 1, "environment");
            words.iter().for_each(|word| tree.add(depth + 2, word.as_str()));
        }
        if let Some(memory) = memory.get(&pid) {
            let bytes = |pages: u64| size(pages.saturating_mul(memory.page_size));
            let pages = &memory.pages;
            let (own, mapped) = (bytes(pages.own()), bytes(pages.mapped));
            tree.add(depth + 1, format!("memory: {own} of its own, {mapped} mapped"));
        }
        if let Some(files) = files.get(&pid) {
            open_files(tree, depth + 1, files);
        }
        if let Some(sockets) = sockets.get(&pid) {
            tree.add(depth + 1, "sockets");
            for (fd, socket) in sockets {
                tree.add(depth + 2, format!("[{fd}] {}", connection(socket)));
            }
        }
        if let Some(mappings) = mappings.get(&pid) {
            tree.add(depth + 1, "mappings");
            for mapping in *mappings {
                let Mapping { start, end, permissions, name, .. } = mapping;
                let space = if name.is_empty() { "" } else { " " };
                tree.add(depth + 2, format!("{start:x}-{end:x} {permissions}{space}{name}"));
            }
        }
        if let Some(threads) = security.get(&pid) {
            tree.add(depth + 1, "security");
            known.add(tree, depth + 2, threads);
        }
    }
}

fn headline(process: &Process) -> String {
    let command = match &process.arguments {
        Some(arguments) if !arguments.is_empty() => arguments.join(" "),
        _ => process.name.clone(),
    };
    // A process may have given itself another name than that of its program.
    let program = process.arguments.iter().flatten().next();
    let program = program.and_then(|program| program.rsplit('/').next());
    let is_named = program.is_some_and(|program| !program.starts_with(&process.name));
    let name = if is_named { format!(", named {}", process.name) } else { String::new() };
    let state = match process.state.as_str() {
        "alive" => String::new(),
        other => format!(" ({other})"),
    };
    let threads = match process.tids.len() {
        0 | 1 => String::new(),
        threads => format!(" ({threads} threads)"),
    };
    format!("[{}] {command}{name}{state}{threads}", process.pid)
}

fn open_files(tree: &mut Tree, depth: usize, files: &TaskFds) {
    tree.add(depth, "open files");
    for (name, path) in [("cwd", &files.cwd), ("root", &files.root), ("exe", &files.exe)] {
        if let Some(path) = path {
            tree.add(depth + 1, format!("[{name}] {path}"));
        }
    }
    for OpenFd { fd, mode, description, .. } in &files.fds {
        tree.add(depth + 1, format!("[{fd}{mode}] {description}"));
    }
}

/// Formats a socket in one line.
pub(crate) fn connection(socket: &Socket) -> String {
    let Socket { protocol, state, local, peer, received, sent, .. } = socket;
    let mut line = format!("{protocol} {state} {local}");
    if peer != "*" && peer != "* 0" {
        line += &format!(" -> {peer}");
    }
    for (bytes, what) in [(received, "to read"), (sent, "not acknowledged")] {
        if *bytes > 0 {
            line += &format!(", {bytes} bytes {what}");
        }
    }
    line
}

fn mounts(tree: &mut Tree, inspection: &Inspection) {
    let Some(mounts) = &inspection.mounts else { return };
    tree.add(1, "mounts");
    for mount in inspection.container.iter().flat_map(|container| &container.mounts) {
        tree.add(2, format!("container: {}", mount.destination));
        tree.fact(3, "type", Some(&mount.kind));
        tree.fact(3, "source", Some(&mount.source));
        tree.fact(3, "options", Some(mount.options.join(",")));
    }
    for namespace in &mounts.namespaces {
        let tasks = tasks(namespace.pids.len());
        tree.add(2, format!("mount namespace {} of {tasks}", namespace.id));
        for mount in &namespace.mounts {
            let external = match &mount.external {
                Some(key) => format!(", external {key}"),
                None => String::new(),
            };
            let source = &mount.source;
            tree.add(
                mount.depth.saturating_add(3),
                format!("{} ({} from {source}{external})", mount.target, mount.fs),
            );
        }
    }
}

fn gpus(tree: &mut Tree, gpu: &Gpu) {
    tree.add(1, "GPU");
    gpu.plugins.iter().for_each(|plugin| tree.add(2, format!("plugin {plugin}")));
    gpu.devices.iter().for_each(|path| tree.add(2, format!("device {path}")));
    for task in &gpu.amd {
        let bytes = size(task.buffer_bytes);
        tree.add(2, format!("process {}: {} buffers, {bytes}", task.pid, task.buffers));
        for gpu in &task.gpus {
            let (vendor, device, memory) = (gpu.vendor_id, gpu.device_id, size(gpu.memory));
            let id = gpu.gpu_id;
            let minor = gpu.render_minor;
            let text = format!("GPU {id:#x}: PCI {vendor:04x}:{device:04x}, {memory}");
            tree.add(3, format!("{text}, /dev/dri/renderD{minor}"));
        }
    }
    for node in &gpu.amd_render {
        let (minor, id, bytes) = (node.render_minor, node.gpu_id, size(node.buffer_bytes));
        let text = format!("/dev/dri/renderD{minor} of GPU {id:#x}");
        tree.add(2, format!("{text}: {} buffers, {bytes}", node.buffers));
    }
    if gpu.amd_images > 0 {
        let memory = size(gpu.amd_memory);
        tree.add(2, format!("{} images of AMD's plugin, {memory} of memory", gpu.amd_images));
    }
}

fn tasks(number: usize) -> String {
    format!("{number} {}", if number == 1 { "task" } else { "tasks" })
}

fn changes(tree: &mut Tree, rootfs: &Rootfs) {
    tree.add(1, "root file system since the image");
    for file in &rootfs.changed {
        tree.add(2, format!("changed: {} ({}, {})", file.path, file.kind, size(file.bytes)));
    }
    rootfs.deleted.iter().for_each(|path| tree.add(2, format!("deleted: {path}")));
}
