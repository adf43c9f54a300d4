//! Mounts of what lies outside of the container, which the restored container needs again.

use serde_json::Value;

use super::adapt::Facts;
use super::note::{Effect, Note};
use crate::metadata::names::{CHECKPOINT, SPEC_DUMP};
use crate::metadata::{Engine, Other};

/// Notes the mounts that the engine does not make by itself.
pub(super) fn look(facts: &Facts, to: Engine, notes: &mut Vec<Note>) {
    match to {
        Engine::Podman => from_machine(&facts.spec, notes),
        Engine::Containerd => from_request(facts, notes),
        // CRI-O takes them from `bind.mounts`, and the pod's from the new pod.
        _ => {}
    }
}

/// Podman mounts what `spec.dump` says, other than files that it makes itself.
fn from_machine(spec: &Other, notes: &mut Vec<Note>) {
    let mounts = spec.get("mounts").and_then(Value::as_array);
    for mount in mounts.into_iter().flatten() {
        let text = |field: &str| mount.get(field).and_then(Value::as_str).unwrap_or_default();
        let (source, target) = (text("source"), text("destination"));
        if text("type") == "bind" && !MADE_BY_ALL.contains(&target) && target != CONTAINERENV {
            let reason = format!("the bind mount at {target}: {source} has to exist");
            notes.push(Note::new(Effect::Needs, SPEC_DUMP, reason));
        }
    }
}

/// containerd reads no mounts from the archive: the request for the new container has to name them.
fn from_request(facts: &Facts, notes: &mut Vec<Note>) {
    let is_made = |target: &str| MADE_BY_ALL.contains(&target) || is_below(target, CGROUPS);
    for target in facts.dumped.mounts().iter().filter(|target| !is_made(target)) {
        let reason = format!(
            "containerd does not read mounts: a restore fails unless the new container has a \
             mount at {target}"
        );
        notes.push(Note::new(Effect::Needs, CHECKPOINT, reason));
    }
    if facts.dumped.has_masks() {
        let reason = "hidden files of /proc: a restore fails unless the new container has masked \
                      paths, as every unprivileged container of a kubelet has";
        notes.push(Note::new(Effect::Needs, CHECKPOINT, reason));
    }
}

fn is_below(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Targets of mounts that all engines make for each container.
const MADE_BY_ALL: [&str; 4] = ["/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/dev/shm"];

/// The file by which programs recognise that they are in a container of Podman.
const CONTAINERENV: &str = "/run/.containerenv";

/// Folder of the cgroups, which runtimes mount.
const CGROUPS: &str = "/sys/fs/cgroup";
