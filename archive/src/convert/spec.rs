//! `spec.dump` for another engine.

use serde_json::{Value, json};

use super::adapt::{Facts, put};
use super::dumped::Dumped;
use super::note::{Effect, Note};
use crate::metadata::names::{MANAGER, SPEC_DUMP};
use crate::metadata::{Engine, Other};
use crate::write::Draft;

/// Annotates the specification as the engine does. Annotations of the old engine stay.
pub(super) fn adapt(draft: &mut Draft, facts: &Facts, to: Engine, notes: &mut Vec<Note>) {
    let mut spec = facts.spec.clone();
    if spec.is_empty() {
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
        own_namespaces(&mut spec, &facts.dumped, notes);
    }
    put(draft, SPEC_DUMP, &spec);
}

fn annotations_of(facts: &Facts, to: Engine) -> Vec<(&'static str, String)> {
    let found = &facts.identity;
    let mut pairs = match to {
        Engine::Podman => vec![(MANAGER, "libpod".to_owned())],
        Engine::CriO => vec![
            (MANAGER, "cri-o".to_owned()),
            ("io.kubernetes.cri-o.ContainerType", "container".to_owned()),
            ("io.kubernetes.cri-o.Metadata", json!({"name": found.container}).to_string()),
            // CRI-O parses both and does not take an empty text.
            ("io.kubernetes.cri-o.Labels", json!(found.labels()).to_string()),
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

/// Leads the container out of its pod, whose namespaces are on the old machine: it gets its own, or
/// the machine's where it was in those.
fn own_namespaces(spec: &mut Other, dumped: &Dumped, notes: &mut Vec<Note>) {
    let linux = spec.get_mut("linux").and_then(Value::as_object_mut);
    let namespaces = linux.and_then(|linux| linux.get_mut("namespaces"));
    let Some(namespaces) = namespaces.and_then(Value::as_array_mut) else { return };
    let kind = |namespace: &Value| {
        let kind = namespace.get("type").and_then(Value::as_str);
        kind.unwrap_or_default().to_owned()
    };
    let mut shared = Vec::new();
    namespaces.retain(|namespace| {
        let is_shared = namespace.get("path").is_some() && dumped.shares(&kind(namespace));
        if is_shared {
            shared.push(kind(namespace));
        }
        !is_shared
    });
    let mut joined = Vec::new();
    for namespace in namespaces {
        if namespace.as_object_mut().is_some_and(|fields| fields.remove("path").is_some()) {
            joined.push(kind(namespace));
        }
    }
    if !shared.is_empty() {
        let kinds = shared.join(", ");
        let reason = format!("namespaces that were the machine's are so again: {kinds}");
        notes.push(Note::new(Effect::Changed, SPEC_DUMP, reason));
    }
    if dumped.was_given("network") && joined.iter().any(|kind| kind == "network") {
        let reason = "the pod's network: the container is in an empty network until `podman \
                      network connect` gives it one";
        notes.push(Note::new(Effect::Lost, SPEC_DUMP, reason));
    }
    if !joined.is_empty() {
        let kinds = joined.join(", ");
        let reason = format!("namespaces of the old pod became the container's own: {kinds}");
        notes.push(Note::new(Effect::Changed, SPEC_DUMP, reason));
    }
}
