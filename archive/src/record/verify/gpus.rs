//! Checks of GPUs.

use std::collections::BTreeMap;

use criu_images::{Severity, Text};

use super::tools::at_least;
use crate::record::Record;
use crate::record::finding::{About, Finding};
use crate::record::gpu::Gpus;
use crate::record::host::Host;

pub(super) fn look(record: &Record, host: &Host) -> Vec<Finding> {
    let Some(then) = &record.gpus else { return Vec::new() };
    let new = |severity, text: String| Finding::new(severity, About::Gpus, text);
    let mut findings = Vec::new();
    let is_part = |uuid: &str| uuid.starts_with("MIG-");
    if let Some(part) = then.devices.iter().find(|device| is_part(&device.uuid)) {
        let uuid = Text(part.uuid.as_bytes());
        let text = format!("`{uuid}` is a part of a GPU, which NVIDIA's driver does not restore");
        findings.push(new(Severity::Warning, text));
    }
    let nothing = Gpus::default();
    let here = host.gpus.as_ref().unwrap_or(&nothing);
    // Each GPU needs another one of its kind.
    for (model, wanted) in count(then) {
        let found = count(here).get(model).copied().unwrap_or(0);
        if found < wanted {
            let model = Text(model.as_bytes());
            let text =
                format!("the checkpoint used GPUs of the model `{model}`: {wanted}, here: {found}");
            findings.push(new(Severity::Error, text).hint("restore on a machine with such GPUs"));
        }
    }
    let [there, now] = [then, here].map(|gpus| Text(gpus.driver.as_bytes()));
    if at_least(&here.driver, &then.driver) == Some(false) {
        let text = format!("the driver of the GPUs here is {now}, older than {there}");
        findings.push(new(Severity::Warning, text));
    }
    findings
}

/// Numbers of GPUs by model.
fn count(gpus: &Gpus) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for device in &gpus.devices {
        *counts.entry(&*device.model).or_insert(0) += 1;
    }
    counts
}
