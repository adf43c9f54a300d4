//! The screen that `inspect` shows without sections.

use std::fmt;

use criu_archive::inspection::{Container, Finding, Inspection};
use criu_archive::metadata::Engine;

/// Screen about a checkpoint.
pub(super) struct Screen<'a>(pub(super) &'a Inspection);

impl fmt::Display for Screen<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inspection { container, summary, ps, working_set, .. } = self.0;
        if let Some(container) = container {
            head(container, self.0, f)?;
        }
        if self.0.pre_dump {
            let sizes = &self.0.sizes;
            let (all, memory) = (size(sizes.checkpoint), size(sizes.memory));
            writeln!(f, "pre-dump    memory alone, for a later dump: {all}, memory {memory}")?;
            return write!(f, "parents     {}", sizes.parents.len());
        }
        if let Some(summary) = summary {
            write!(f, "{summary}")?;
        }
        if let Some(gpu) = &self.0.gpu {
            let mut facts = gpu.plugins.clone();
            facts.extend(gpu.devices.iter().cloned());
            if gpu.amd_images > 0 {
                facts.push(format!("{} images of AMD's plugin", gpu.amd_images));
            }
            write!(f, "\nGPU         {}", facts.join(", "))?;
        }
        if let Some(ps) = ps {
            write!(f, "\n\n{ps}")?;
        }
        if let Some(set) = working_set {
            write!(f, "\n\n{set}")?;
        }
        if let Some(fault) = &self.0.working_set_fault {
            write!(f, "\n\nworking set ignored: {fault}")?;
        }
        for finding in &self.0.findings {
            write!(f, "\n\n{}", line(finding))?;
        }
        Ok(())
    }
}

/// Writes the lines about the container.
fn head(container: &Container, all: &Inspection, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let known = |fact: &Option<String>| fact.clone().unwrap_or_else(|| "?".to_owned());
    let id: String = known(&container.id).chars().take(12).collect();
    let engine = container.engine.map_or("an unknown engine", Engine::word);
    let runtime = known(&container.runtime);
    writeln!(f, "container   {} ({id}) of {engine}, {runtime}", known(&container.name))?;
    writeln!(f, "image       {}", known(&container.image))?;
    if let Some(pod) = &container.pod {
        writeln!(f, "pod         {}/{}", known(&pod.namespace), known(&pod.name))?;
    }
    write!(f, "created     {}", known(&container.created))?;
    if let Some(time) = &container.checkpointed {
        write!(f, ", checkpointed {time}")?;
    }
    writeln!(f)?;
    for network in container.networks.iter().filter(|network| !network.addresses.is_empty()) {
        write!(f, "network     {}", network.addresses.join(", "))?;
        match &network.mac {
            Some(mac) => writeln!(f, ", {mac}")?,
            None => writeln!(f)?,
        }
    }
    let sizes = &all.sizes;
    let (images, memory) = (size(sizes.checkpoint), size(sizes.memory));
    write!(f, "sizes       checkpoint {images}, memory {memory}")?;
    if let Some(diff) = sizes.rootfs_diff {
        write!(f, ", root FS diff {}", size(diff))?;
    }
    for volume in &sizes.volumes {
        write!(f, ", volume {} {}", volume.name, size(volume.bytes))?;
    }
    writeln!(f)
}

/// Formats a finding in one line.
pub(super) fn line(finding: &Finding) -> String {
    let Finding { severity, place, text, .. } = finding;
    if place.is_empty() {
        format!("{severity}: {text}")
    } else {
        format!("{severity}: {place}: {text}")
    }
}

/// Formats a number of bytes for a person.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let (mut scale, mut unit) = (1024, 0);
    let tenths = |scale: u128| (u128::from(bytes) * 10 + scale / 2) / scale;
    while tenths(scale) >= 10_240 && unit + 1 < UNITS.len() {
        scale *= 1024;
        unit += 1;
    }
    let tenths = tenths(scale);
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

pub(super) const NAMES_ALONE: &str = "\
COMMAND has names: command lines are in memory, which this archive packs as a whole; --ps-tree-cmd
shows them";

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_have_a_unit_that_fits() {
        let rows = [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536, "1.5 KiB")];
        for (bytes, text) in rows {
            assert_eq!(size(bytes), text);
        }
        assert_eq!(size(1 << 20), "1.0 MiB");
        assert_eq!(size((1 << 20) - 1), "1.0 MiB");
        // As many tools do, the last digit is the nearest.
        assert_eq!(size(8_555_000), "8.2 MiB");
        assert_eq!(size(u64::MAX), "16384.0 PiB");
    }
}
