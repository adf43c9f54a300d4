//! Checks of the kernel, of control groups and of security modules.

use criu_images::{Severity, Text};

use super::place;
use super::tools::at_least;
use crate::record::Record;
use crate::record::finding::{About, Finding};
use crate::record::host::{CgroupVersion, Host};
use crate::record::tool::ToolKind;

pub(super) fn look(record: &Record, host: &Host) -> Vec<Finding> {
    // Checkpoints of other tools bring a kernel of their own.
    let is_criu = |kind: &ToolKind| *kind == ToolKind::Criu;
    let uses_criu = record.containers.iter().any(|container| is_criu(&container.tool.kind));
    let mut findings = Vec::new();
    if let Some(then) = &record.host {
        findings.extend(kernel(then, host, uses_criu));
        if uses_criu {
            findings.extend(cgroups(then, host));
            findings.extend(enforcing(then, host));
        }
    }
    findings.extend(labels(record, host));
    findings
}

fn kernel(then: &Host, host: &Host, uses_criu: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    let [there, here] = [then, host].map(|host| Text(host.kernel.as_bytes()));
    if uses_criu && at_least(&host.kernel, &then.kernel) == Some(false) {
        let text = format!(
            "the kernel {here} is older than that of the checkpoint, {there}; what the older one \
             does not know cannot be restored"
        );
        findings.push(Finding::new(Severity::Warning, About::Kernel, text));
    }
    for (feature, _) in then.features.iter().filter(|(_, has)| **has) {
        // For gVisor, QEMU and Firecracker the host's own way to run guests counts alone.
        if host.features.get(feature) == Some(&false) && (uses_criu != (feature == "kvm")) {
            let text = format!(
                "the kernel of the checkpoint had `{}`, and the one here does not",
                Text(feature.as_bytes())
            );
            findings.push(Finding::new(Severity::Warning, About::Kernel, text));
        }
    }
    findings
}

/// Compares the versions of the control groups.
fn cgroups(then: &Host, host: &Host) -> Option<Finding> {
    let (there, here) = (&then.cgroups.version, &host.cgroups.version);
    let is_unknown = |version: &CgroupVersion| matches!(version, CgroupVersion::Other(_));
    if there == here || is_unknown(there) || is_unknown(here) {
        return None;
    }
    let text = format!("the cgroups of the checkpoint have version {there}, those here {here}");
    // The hierarchies of version 1 are those of a hybrid machine, too.
    let is_v2 = |version: &CgroupVersion| *version == CgroupVersion::V2;
    let severity = if is_v2(there) || is_v2(here) { Severity::Error } else { Severity::Warning };
    let hint = "restore without the saved cgroups: --manage-cgroups=ignore of criu";
    Some(Finding::new(severity, About::Cgroups, text).hint(hint))
}

/// Compares whether SELinux enforces its policy.
fn enforcing(then: &Host, host: &Host) -> Option<Finding> {
    let lost = then.lsm.selinux_enforcing == Some(true) && host.lsm.selinux_enforcing != Some(true);
    let text = "SELinux enforced its policy on the machine of the checkpoint, and does not here";
    lost.then(|| Finding::new(Severity::Warning, About::Labels, text))
}

/// Checks that the modules here know the labels of the containers.
fn labels(record: &Record, host: &Host) -> Vec<Finding> {
    // An empty list is one that nobody has read.
    if host.lsm.modules.is_empty() {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for container in &record.containers {
        for (module, label) in &container.labels {
            let profile = label.rsplit_once(" (").map_or(&**label, |(profile, _)| profile);
            if profile.is_empty() || (module == "apparmor" && profile == "unconfined") {
                continue;
            }
            let is_active = host.lsm.modules.iter().any(|active| active == module);
            let [module_text, label_text] = [module, label].map(|text| Text(text.as_bytes()));
            let missing = if !is_active {
                format!(
                    "its label `{label_text}` is of {module_text}, which is not active here; \
                     restored, nothing would confine it"
                )
            } else if module == "apparmor" && !knows(host, profile) {
                format!("AppArmor here has no profile `{}`", Text(profile.as_bytes()))
            } else {
                continue;
            };
            let finding = Finding::new(Severity::Error, About::Labels, missing);
            findings.push(finding.at(place([container])));
        }
    }
    findings
}

/// Returns true if AppArmor has loaded a profile, or if its list cannot be read. Of a stack
/// (`a//&b`) all profiles have to be there.
fn knows(host: &Host, profile: &str) -> bool {
    let Some(profiles) = &host.lsm.profiles else { return true };
    profile.split("//&").all(|part| part == "unconfined" || profiles.contains(part))
}
