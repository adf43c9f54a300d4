//! `spec.dump` for another engine.

use serde_json::{Value, json};

use super::adapt::{Facts, put};
use super::note::{Effect, Note};
use crate::metadata::names::{MANAGER, SPEC_DUMP};
use crate::metadata::{Engine, Other};
use crate::write::Draft;

/// Annotates the specification as the engine does. Annotations of the old engine stay.
pub(super) fn adapt(draft: &mut Draft, facts: &Facts, to: Engine, notes: &mut Vec<Note>) {
    let mut spec = facts.spec.clone();
    if spec.is_empty() {
        let reason = "there is no specification to make it of, and no engine restores without";
        notes.push(Note::new(Effect::Missing, SPEC_DUMP, reason));
        return;
    }
    let mut annotations = match spec.remove("annotations") {
        Some(Value::Object(annotations)) => annotations,
        _ => Other::new(),
    };
    let before = annotations.clone();
    annotations.remove(MANAGER);
    for (key, value) in annotations_of(facts, to) {
        if key == MANAGER || !annotations.contains_key(key) {
            annotations.insert(key.to_owned(), Value::String(value));
        }
    }
    if annotations != before {
        let reason = format!("annotations say that it is a container of {to}");
        notes.push(Note::new(Effect::Changed, SPEC_DUMP, reason));
    }
    spec.insert("annotations".to_owned(), Value::Object(annotations));
    if to == Engine::Podman {
        own_namespaces(&mut spec, notes);
    }
    put(draft, SPEC_DUMP, &spec);
}

fn annotations_of(facts: &Facts, to: Engine) -> Vec<(&'static str, String)> {
    let found = &facts.identity;
    let mut labels = Other::new();
    let pairs = [
        ("io.kubernetes.container.name", &found.container),
        ("io.kubernetes.pod.name", &found.pod),
        ("io.kubernetes.pod.namespace", &found.namespace),
        ("io.kubernetes.pod.uid", &found.pod_uid),
    ];
    for (key, value) in pairs {
        if !value.is_empty() {
            labels.insert(key.to_owned(), Value::String(value.clone()));
        }
    }
    let mut pairs = match to {
        Engine::Podman => vec![(MANAGER, "libpod".to_owned())],
        Engine::CriO => vec![
            (MANAGER, "cri-o".to_owned()),
            ("io.kubernetes.cri-o.ContainerType", "container".to_owned()),
            ("io.kubernetes.cri-o.Metadata", json!({"name": found.container}).to_string()),
            // CRI-O parses both and does not take an empty text.
            ("io.kubernetes.cri-o.Labels", Value::Object(labels).to_string()),
            ("io.kubernetes.cri-o.Annotations", "{}".to_owned()),
            ("io.kubernetes.cri-o.Created", facts.config_text("createdTime").to_owned()),
            ("io.kubernetes.cri-o.ImageName", found.image.clone()),
            ("io.kubernetes.cri-o.SandboxID", found.sandbox.clone()),
        ],
        _ => vec![
            ("io.kubernetes.cri.container-type", "container".to_owned()),
            ("io.kubernetes.cri.container-name", found.container.clone()),
            ("io.kubernetes.cri.image-name", found.image.clone()),
            ("io.kubernetes.cri.sandbox-id", found.sandbox.clone()),
            ("io.kubernetes.cri.sandbox-name", found.pod.clone()),
            ("io.kubernetes.cri.sandbox-namespace", found.namespace.clone()),
            ("io.kubernetes.cri.sandbox-uid", found.pod_uid.clone()),
        ],
    };
    pairs.retain(|(_, value)| !value.is_empty());
    pairs
}

/// Gives the container namespaces of its own: those of its pod are on the old machine.
fn own_namespaces(spec: &mut Other, notes: &mut Vec<Note>) {
    let linux = spec.get_mut("linux").and_then(Value::as_object_mut);
    let namespaces = linux.and_then(|linux| linux.get_mut("namespaces"));
    let Some(namespaces) = namespaces.and_then(Value::as_array_mut) else { return };
    let mut joined = Vec::new();
    for namespace in namespaces.iter_mut().filter_map(Value::as_object_mut) {
        if namespace.remove("path").is_some() {
            let kind = namespace.get("type").and_then(Value::as_str);
            joined.extend(kind.map(str::to_owned));
        }
    }
    if !joined.is_empty() {
        let kinds = joined.join(", ");
        let reason = format!("namespaces of the old pod became the container's own: {kinds}");
        notes.push(Note::new(Effect::Changed, SPEC_DUMP, reason));
    }
}
