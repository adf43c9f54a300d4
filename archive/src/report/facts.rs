//! Facts about a checkpoint as a whole, as cards of names and values.

use std::time::Duration;

use serde::Serialize;

use super::rows::{short, short_list};
use crate::inspection::{Container, Inspection};
use crate::metadata::Engine;

/// A card of facts.
#[derive(Serialize)]
pub(super) struct Card {
    title: &'static str,
    rows: Vec<(String, String)>,
}

impl Card {
    fn new(title: &'static str) -> Self {
        Self { title, rows: Vec::new() }
    }

    fn add(&mut self, name: &str, value: impl Into<String>) {
        let value = value.into();
        if !value.is_empty() {
            self.rows.push((short(name), short(&value)));
        }
    }

    fn maybe(&mut self, name: &str, value: Option<&String>) {
        self.add(name, value.map(String::as_str).unwrap_or_default());
    }

    fn bytes(&mut self, name: &str, bytes: u64) {
        if bytes > 0 {
            self.add(name, size(bytes));
        }
    }
}

/// Returns the cards that have facts.
pub(super) fn cards(inspection: &Inspection) -> Vec<Card> {
    let mut cards = vec![checkpoint(inspection)];
    cards.extend(inspection.container.as_ref().map(container));
    cards.push(memory(inspection));
    cards.push(sizes(inspection));
    cards.extend(dump(inspection));
    cards.extend(kinds(inspection));
    cards.extend(gpu(inspection));
    cards.extend(annotations(inspection));
    cards.retain(|card| !card.rows.is_empty());
    cards
}

fn checkpoint(inspection: &Inspection) -> Card {
    let mut card = Card::new("Checkpoint");
    let source = &inspection.source;
    card.add("Source", &*source.name);
    card.add("Folder", &*source.folder);
    if let (Some(packing), Some(members)) = (source.packing, source.members) {
        card.add("Archive", format!("{}, packing {packing}", count(members, "member")));
    }
    if inspection.pre_dump {
        card.add("Kind", "pre-dump: memory alone, which a later dump builds on");
    }
    if let Some(summary) = &inspection.summary {
        card.add("Root process", format!("{} (pid {})", summary.name, summary.root));
        card.add("Command", short_list(&summary.command).join(" "));
        let mut parts = vec![count(summary.tasks, "process"), count(summary.threads, "thread")];
        let states = [(summary.zombies, "zombie"), (summary.stopped, "stopped process")];
        let states = states.iter().filter(|(some, _)| *some > 0);
        parts.extend(states.map(|(some, noun)| count(*some, noun)));
        card.add("Processes", parts.join(", "));
        card.maybe("Architecture", summary.architecture.as_ref());
        card.add("Image version", summary.image_version.to_string());
        card.add("Namespaces", short_list(&summary.own_namespaces).join(", "));
        card.add("Security", summary.lsm.unwrap_or_default());
        card.add("Labels", short_list(&summary.labels).join(", "));
        if summary.seccomp > 0 {
            card.add("Seccomp", format!("restricts {}", count(summary.seccomp, "thread")));
        }
    }
    card
}

fn container(container: &Container) -> Card {
    let mut card = Card::new("Container");
    card.add("Engine", container.engine.map_or("", Engine::word));
    let facts = [
        ("Name", &container.name),
        ("Id", &container.id),
        ("Image", &container.image),
        ("Image reference", &container.image_ref),
        ("Runtime", &container.runtime),
        ("Created", &container.created),
        ("Checkpointed", &container.checkpointed),
        ("Restored", &container.restored),
    ];
    for (name, value) in facts {
        card.maybe(name, value.as_ref());
    }
    if let Some(pod) = &container.pod {
        let facts = [
            ("Pod", &pod.name),
            ("Pod namespace", &pod.namespace),
            ("Pod uid", &pod.uid),
            ("Sandbox", &pod.sandbox),
        ];
        for (name, value) in facts {
            card.maybe(name, value.as_ref());
        }
    }
    for network in container.networks.iter().take(MOST) {
        let mut parts = vec![network.interface.clone()];
        parts.extend(short_list(&network.addresses));
        if !network.gateways.is_empty() {
            parts.push(format!("by way of {}", short_list(&network.gateways).join(", ")));
        }
        parts.extend(network.mac.clone());
        parts.retain(|part| !part.is_empty());
        card.add(&format!("Network {}", network.network), parts.join(", "));
    }
    card.add("Command", short_list(&container.arguments).join(" "));
    card.maybe("Directory", container.directory.as_ref());
    card.maybe("Host name", container.hostname.as_ref());
    card.maybe("Cgroup", container.cgroup.as_ref());
    card.maybe("Label", container.label.as_ref());
    card.add("Root file system", if container.read_only { "read-only" } else { "" });
    card
}

fn memory(inspection: &Inspection) -> Card {
    let mut card = Card::new("Memory");
    let Some(summary) = &inspection.summary else { return card };
    let pages = &summary.pages;
    let bytes = |pages: u64| pages.saturating_mul(summary.page_size);
    card.bytes("Mapped", bytes(pages.mapped));
    card.bytes("In the images", bytes(pages.present));
    card.bytes("In parent sets", bytes(pages.parent));
    card.bytes("Kept back", bytes(pages.lazy));
    card.bytes("Untouched", bytes(pages.zero));
    card.bytes("In mapped files", bytes(pages.file));
    card.bytes("Shared", bytes(pages.shared));
    card.bytes("Of the kernel", bytes(pages.kernel));
    if summary.pages_elsewhere > 0 {
        let tasks = count(summary.pages_elsewhere, "process");
        card.add("Elsewhere", format!("pages of {tasks}: a page server has them"));
    }
    card.bytes("Page", summary.page_size);
    card
}

fn sizes(inspection: &Inspection) -> Card {
    let mut card = Card::new("Sizes");
    let sizes = &inspection.sizes;
    card.bytes("Archive, unpacked", sizes.unpacked.unwrap_or(0));
    card.bytes("Images", sizes.checkpoint);
    card.bytes("Pages in them", sizes.memory);
    card.bytes("Memory of GPUs", sizes.gpu_memory);
    card.bytes("Changed files", sizes.rootfs_diff.unwrap_or(0));
    card.bytes("/dev/shm", sizes.shm.unwrap_or(0));
    for volume in sizes.volumes.iter().take(MOST) {
        card.bytes(&format!("Volume {}", volume.name), volume.bytes);
    }
    for (i, bytes) in sizes.parents.iter().enumerate().take(MOST) {
        card.bytes(&format!("Parent set {}", i + 1), *bytes);
    }
    card
}

fn dump(inspection: &Inspection) -> Option<Card> {
    let mut card = Card::new("Dump");
    let Some(statistics) = &inspection.statistics else {
        let frozen = inspection.summary.as_ref()?.frozen_us?;
        card.add("Frozen for", millis(Duration::from_micros(frozen)));
        return Some(card);
    };
    card.add("Frozen for", millis(statistics.frozen));
    card.add("Freezing took", millis(statistics.freezing));
    card.add("Memory drained in", millis(statistics.memdump));
    card.add("Memory written in", millis(statistics.memwrite));
    let pages = [
        ("Pages scanned", Some(statistics.pages_scanned)),
        ("Pages written", Some(statistics.pages_written)),
        ("Left to the parent", Some(statistics.pages_skipped_parent)),
        ("Lazy pages", Some(statistics.pages_lazy)),
        ("Shared scanned", statistics.shpages_scanned),
        ("Shared written", statistics.shpages_written),
        ("Shared, left", statistics.shpages_skipped_parent),
    ];
    for (name, pages) in pages {
        card.add(name, pages.filter(|pages| *pages > 0).map(grouped).unwrap_or_default());
    }
    Some(card)
}

fn kinds(inspection: &Inspection) -> Option<Card> {
    let mut card = Card::new("Files by kind");
    for kind in &inspection.summary.as_ref()?.files {
        card.add(kind.what, grouped(kind.count as u64));
    }
    Some(card)
}

fn gpu(inspection: &Inspection) -> Option<Card> {
    let gpu = inspection.gpu.as_ref()?;
    let mut card = Card::new("GPU");
    card.add("Plugins", short_list(&gpu.plugins).join(", "));
    card.add("Devices", short_list(&gpu.devices).join(", "));
    card.bytes("Memory in images", gpu.amd_memory);
    for task in gpu.amd.iter().take(MOST) {
        let gpus = task.gpus.iter().take(MOST).map(|gpu| {
            let (pci, memory) = ((gpu.vendor_id, gpu.device_id), size(gpu.memory));
            format!("GPU {:#x} of {memory}, PCI {:04x}:{:04x}", gpu.gpu_id, pci.0, pci.1)
        });
        let mut facts: Vec<String> = gpus.collect();
        facts.push(format!(
            "{} of {}",
            grouped_of(task.buffers, "buffer"),
            size(task.buffer_bytes)
        ));
        card.add(&format!("Process {}", task.pid), facts.join(", "));
    }
    for node in gpu.amd_render.iter().take(MOST) {
        let buffers = grouped_of(node.buffers, "buffer");
        let facts = format!("GPU {:#x}, {buffers} of {}", node.gpu_id, size(node.buffer_bytes));
        card.add(&format!("/dev/dri/renderD{}", node.render_minor), facts);
    }
    Some(card)
}

fn annotations(inspection: &Inspection) -> Option<Card> {
    let mut card = Card::new("Annotations");
    let of_container = inspection.container.iter().flat_map(|container| &container.annotations);
    for (name, value) in inspection.source.annotations.iter().chain(of_container).take(MOST) {
        card.add(name, &**value);
    }
    Some(card)
}

/// Formats bytes in the unit that suits them.
fn size(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut shown = format!("{bytes} bytes");
    for (i, unit) in (0u32..).zip(units) {
        let scale = 1u128 << (10 * (i + 1));
        if u128::from(bytes) < scale {
            break;
        }
        let tenths = (u128::from(bytes) * 10 + scale / 2) / scale;
        shown = match tenths {
            0..1000 if tenths % 10 > 0 => format!("{}.{} {unit}", tenths / 10, tenths % 10),
            _ => format!("{} {unit}", tenths / 10),
        };
    }
    shown
}

fn millis(time: Duration) -> String {
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    format!("{}.{} ms", grouped(micros / 1000), micros % 1000 / 100)
}

fn count(number: usize, noun: &str) -> String {
    grouped_of(number as u64, noun)
}

fn grouped_of(number: u64, noun: &str) -> String {
    let ending = if noun.ends_with('s') { "es" } else { "s" };
    let ending = if number == 1 { "" } else { ending };
    format!("{} {noun}{ending}", grouped(number))
}

/// Formats a number in groups of three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut shown = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i) % 3 == 0 {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

/// Most rows of a list in a card.
const MOST: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_easily() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        let sizes = [0, 1, 1023, 1024, 1536, 150 << 20, u64::MAX].map(size);
        let shown = ["0 bytes", "1 bytes", "1023 bytes", "1 KiB", "1.5 KiB", "150 MiB", "16 EiB"];
        assert_eq!(sizes, shown);
        assert_eq!([count(1, "process"), count(2000, "process")], ["1 process", "2,000 processes"]);
    }
}
