//! Findings: faults of the images, and members of an archive that are missing or unknown.

use criu_images::{Finding as ImageFinding, ImageSet, Severity, Text, check};
use serde::Serialize;

use super::{Container, Place};
use crate::error::{Error, ErrorKind, Result};
use crate::member::MemberKind;
use crate::metadata::Engine;
use crate::metadata::names::{
    ARTIFACTS, BIND_MOUNTS, CHECKPOINT, CONFIG_DUMP, CONTAINERD_LOG, CRIO_LOG, DELETED_FILES,
    DESCRIPTORS, DEVSHM, DUMP_LOG, NETWORK_STATUS, POD_DUMP, POD_OPTIONS, PODMAN_LOG, ROOTFS_DIFF,
    SPEC_DUMP, STATS_DUMP, STATUS, STATUS_DUMP, VOLUMES, is_pre_checkpoint,
};

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

    /// Makes the finding on a member that cannot be read.
    pub(crate) fn unread(error: &Error) -> Self {
        if let ErrorKind::Images(error) = error.kind() {
            return Self::unread_image("error", error);
        }
        let place = Text(error.member().unwrap_or_default().as_bytes()).to_string();
        let text = match error.offset() {
            Some(offset) => format!("byte {offset}: {}", error.kind()),
            None => error.kind().to_string(),
        };
        Self::error(place, text)
    }

    /// Makes the finding on an error of an image.
    pub(crate) fn unread_image(severity: &'static str, error: &criu_images::Error) -> Self {
        let place = Text(error.image().as_bytes()).to_string();
        let text = error.to_string();
        let text = match text.strip_prefix(&format!("{place}: ")) {
            Some(rest) => rest.to_owned(),
            None => text,
        };
        Self { severity, place, text }
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
        Self::unread_image(severity, &finding.error)
    }
}

/// Returns what was read, or adds the finding.
pub(crate) fn or_finding<T>(read: Result<Option<T>>, findings: &mut Vec<Finding>) -> Option<T> {
    read.map_err(|error| findings.push(Finding::unread(&error))).ok().flatten()
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
        Some(Engine::Containerd) => &[CONFIG_DUMP, SPEC_DUMP, STATUS_DUMP],
        Some(_) => &[CONFIG_DUMP, SPEC_DUMP],
        None => &[],
    };
    let word = engine.map_or("", Engine::word);
    for name in needed.iter().filter(|name| !is_there(&at(name))) {
        let text = format!("is missing, {word} needs it to restore");
        findings.push(Finding::error(at(name), text));
    }
    let descriptors = crate::path::join(place.folder(), DESCRIPTORS);
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
    KNOWN.contains(&path) || FOLDERS.contains(&first) || is_pre_checkpoint(first)
}

/// Members that the engines write at the top.
const KNOWN: &[&str] = &[
    BIND_MOUNTS,
    CONFIG_DUMP,
    CONTAINERD_LOG,
    CRIO_LOG,
    DELETED_FILES,
    DEVSHM,
    DUMP_LOG,
    NETWORK_STATUS,
    PODMAN_LOG,
    POD_DUMP,
    POD_OPTIONS,
    ROOTFS_DIFF,
    SPEC_DUMP,
    STATS_DUMP,
    STATUS,
    STATUS_DUMP,
];

/// Folders that the engines write at the top.
const FOLDERS: &[&str] = &[ARTIFACTS, CHECKPOINT, VOLUMES];

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
            ("pre-checkpoint-2/core-1.img", "", true),
            ("pre-checkpoint-x/core-1.img", "", false),
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
