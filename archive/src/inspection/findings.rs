//! Findings: faults of the images, and members of an archive that are missing or unknown.

use criu_images::{Finding as ImageFinding, ImageSet, Severity, Text, check};
use serde::Serialize;

use super::{Container, Place};
use crate::member::MemberKind;

/// A fault of a checkpoint, or a fact worth knowing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[non_exhaustive]
pub struct Finding {
    /// Severity: "error", "warning" or "note".
    pub severity: &'static str,
    /// The image or member at fault; empty for the whole checkpoint.
    pub place: String,
    /// The fault, in words.
    pub text: String,
}

impl Finding {
    pub(crate) fn error(place: impl Into<String>, text: impl Into<String>) -> Self {
        Self { severity: "error", place: place.into(), text: text.into() }
    }

    fn note(place: &str, text: impl Into<String>) -> Self {
        let place = Text(place.as_bytes()).to_string();
        Self { severity: "note", place, text: text.into() }
    }

    fn of_images(finding: &ImageFinding) -> Self {
        let severity = match finding.severity {
            Severity::Note => "note",
            Severity::Warning => "warning",
            _ => "error",
        };
        let place = Text(finding.error.image().as_bytes()).to_string();
        let text = finding.error.to_string();
        let text = match text.strip_prefix(&format!("{place}: ")) {
            Some(rest) => rest.to_owned(),
            None => text,
        };
        Self { severity, place, text }
    }
}

/// Checks the images as [`check`] does, the worst findings first.
pub(crate) fn of_images(set: &ImageSet) -> Vec<Finding> {
    check(set).iter().map(Finding::of_images).collect()
}

/// Looks at the members of an archive: those that its engine needs, and those that no engine
/// writes.
pub(crate) fn of_members(place: &Place, container: Option<&Container>) -> Vec<Finding> {
    let Some(archive) = place.in_archive() else { return Vec::new() };
    let mut findings = Vec::new();
    let is_there = |name: &str| archive.member(name).is_some();
    let (above, _) = crate::path::split(place.folder());
    let at = |name: &str| crate::path::join(above, name);
    let engine = container.and_then(|container| container.engine);
    // Plain archives of images have no metadata, and no engine that could miss any.
    let needed: &[&str] = match engine {
        Some("containerd") => &["config.dump", "spec.dump", "status.dump"],
        Some(_) => &["config.dump", "spec.dump"],
        None => &[],
    };
    for name in needed.iter().filter(|name| !is_there(&at(name))) {
        let text = format!("is missing, {} needs it to restore", engine.unwrap_or_default());
        findings.push(Finding::error(at(name), text));
    }
    let descriptors = crate::path::join(place.folder(), "descriptors.json");
    if engine.is_some() && !is_there(&descriptors) {
        findings.push(Finding::error(descriptors, "is missing, runtimes need it to restore"));
    }
    let images = format!("{}/", place.folder());
    for member in archive.members() {
        let path = member.path();
        if engine.is_none() || path.starts_with(&images) || is_known(path, above) {
            continue;
        }
        if *member.kind() != MemberKind::Directory && findings.len() < MAX_FINDINGS {
            findings.push(Finding::note(path, "is not a member that the engines write"));
        }
    }
    findings
}

/// Returns true for a member that an engine writes. `above` is the folder that has the images'
/// folder. Members that are not below it belong to no engine.
fn is_known(path: &str, above: &str) -> bool {
    let below = match above {
        "" => Some(path),
        _ => path.strip_prefix(above).and_then(|rest| rest.strip_prefix('/')),
    };
    let Some(path) = below else { return false };
    let first = path.split('/').next().unwrap_or_default();
    KNOWN.contains(&path) || FOLDERS.contains(&first)
}

/// Members that the engines write at the top.
const KNOWN: &[&str] = &[
    "artifacts",
    "bind.mounts",
    "config.dump",
    "container.log",
    "ctr.log",
    "deleted.files",
    "devshm-checkpoint.tar",
    "dump.log",
    "io.kubernetes.cri-o.LogPath",
    "network.status",
    "pod.dump",
    "pod.options",
    "rootfs-diff.tar",
    "spec.dump",
    "stats-dump",
    "status",
    "status.dump",
];

/// Folders that the engines write at the top.
const FOLDERS: &[&str] = &["artifacts", "checkpoint", "pre-checkpoint", "volumes"];

/// Most findings about members.
const MAX_FINDINGS: usize = 1000;

#[cfg(test)]
mod tests {
    use super::is_known;

    #[test]
    fn members_beside_the_checkpoint_s_folder_are_unknown() {
        for (path, above, known) in [
            ("config.dump", "", true),
            ("volumes/data.tar", "", true),
            ("notes/config.dump", "", false),
            ("a/config.dump", "a", true),
            ("a/b/artifacts/x", "a/b", true),
            // Names that begin as the folder does.
            ("aconfig.dump", "a", false),
            ("avolumes/data.tar", "a", false),
            ("ab/config.dump", "a", false),
            // Members above the folder.
            ("config.dump", "a", false),
        ] {
            assert_eq!(is_known(path, above), known, "{path} {above}");
        }
    }
}
