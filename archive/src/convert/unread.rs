//! Members that an engine does not read.

use super::note::{Effect, Note};
use crate::error::Result;
use crate::metadata::names::{
    ARTIFACTS, BIND_MOUNTS, DELETED_FILES, DEVSHM, NETWORK_STATUS, POD_OPTIONS, STATUS,
    STATUS_DUMP, VOLUMES,
};
use crate::metadata::{Engine, Metadata};
use crate::write::{Draft, Folder};

/// A member, or a folder of members, that not all engines read.
struct Row {
    member: &'static str,
    readers: &'static [Engine],
    /// Fate where it is not read.
    effect: Effect,
    /// Meaning for a restore.
    reason: &'static str,
}

const ROWS: &[Row] = &[
    Row {
        member: NETWORK_STATUS,
        readers: &[Engine::Podman, Engine::CriO],
        effect: Effect::Ignored,
        reason: "addresses are given anew",
    },
    Row {
        member: DEVSHM,
        readers: &[Engine::Podman, Engine::CriO],
        effect: Effect::Ignored,
        reason: "/dev/shm is empty at the restore",
    },
    Row {
        member: VOLUMES,
        readers: &[Engine::Podman],
        effect: Effect::Ignored,
        reason: "the content of volumes is not restored",
    },
    Row {
        member: ARTIFACTS,
        readers: &[Engine::Podman, Engine::CriO],
        effect: Effect::Ignored,
        reason: "secrets and the like are not restored",
    },
    Row {
        member: BIND_MOUNTS,
        readers: &[Engine::CriO],
        effect: Effect::Ignored,
        reason: "sources of bind mounts that are missing are not made",
    },
    Row {
        member: DELETED_FILES,
        readers: &[Engine::Podman, Engine::CriO],
        effect: Effect::Ignored,
        reason: "deleted files appear again",
    },
    Row {
        member: STATUS_DUMP,
        readers: &[Engine::Containerd],
        effect: Effect::Kept,
        reason: "labels and annotations of the pod come from the new pod",
    },
    Row {
        member: STATUS,
        readers: &[Engine::Containerd],
        effect: Effect::Kept,
        reason: "is containerd's own",
    },
    Row {
        member: POD_OPTIONS,
        readers: &[Engine::Podman, Engine::CriO],
        effect: Effect::Kept,
        reason: "names the other containers of the pod",
    },
];

/// Notes the members that the engine does not read.
pub(super) fn look(
    draft: &Draft,
    name: &str,
    from: Engine,
    to: Engine,
    notes: &mut Vec<Note>,
) -> Result<()> {
    let top = Folder::of(draft, "");
    let metadata = Metadata::of(name, &top);
    for row in ROWS.iter().filter(|row| !row.readers.contains(&to)) {
        let is_here = |path: &&str| {
            let rest = path.strip_prefix(row.member);
            let is_inside = rest.is_some_and(|rest| rest.starts_with('/'));
            is_inside || (*path == row.member && draft.size_of(path).is_some())
        };
        for path in draft.paths().filter(is_here) {
            let has_nothing = match path {
                NETWORK_STATUS => metadata.networks()?.is_none_or(|networks| networks.is_empty()),
                DEVSHM => metadata.devshm()?.is_none_or(|files| files.is_empty()),
                DELETED_FILES => metadata.deleted_files()?.is_none_or(|files| files.is_empty()),
                BIND_MOUNTS => metadata.bind_mounts()?.is_none_or(|mounts| mounts.is_empty()),
                _ => false,
            };
            if !has_nothing {
                let reason = format!("{to} does not read it: {}", row.reason);
                notes.push(Note::new(row.effect, path, reason));
            }
        }
    }
    if to == Engine::CriO && from != Engine::Unknown && !draft.has(BIND_MOUNTS) {
        let reason = "nothing tells which sources of bind mounts are files: these have to exist";
        notes.push(Note::new(Effect::Needs, BIND_MOUNTS, reason));
    }
    Ok(())
}
