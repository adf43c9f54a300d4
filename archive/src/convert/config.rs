//! `config.dump` for another engine.

use serde_json::{Value, json};

use super::adapt::{Facts, put};
use super::note::{Effect, Note};
use crate::metadata::names::CONFIG_DUMP;
use crate::metadata::{Engine, Other, Time};
use crate::write::Draft;

/// Adds the fields that the engine reads. All others stay.
pub(super) fn adapt(draft: &mut Draft, facts: &Facts, to: Engine, notes: &mut Vec<Note>) {
    let before = &facts.config;
    let mut config = before.clone();
    let mut added = match to {
        Engine::Podman => of_podman(facts),
        _ => of_pods(facts, to),
    };
    added.retain(|field, _| !before.contains_key(field) || is_nothing(before.get(field)));
    if added.is_empty() {
        return;
    }
    let fields: Vec<&str> = added.keys().map(String::as_str).collect();
    let reason = format!("fields for {to} were made up: {}", fields.join(", "));
    let effect = if before.is_empty() { Effect::Made } else { Effect::Changed };
    notes.push(Note::new(effect, CONFIG_DUMP, reason));
    config.extend(added);
    put(draft, CONFIG_DUMP, &config);
}

fn is_nothing(value: Option<&Value>) -> bool {
    matches!(value, Some(Value::Null)) || value.and_then(Value::as_str) == Some("")
}

/// Fields that CRI-O and containerd read.
fn of_pods(facts: &Facts, to: Engine) -> Other {
    let image = image(facts);
    let reference = match (to, facts.config_text("rootfsImageID")) {
        // CRI-O looks for the identifier in its storage; containerd pulls what stands here.
        (Engine::CriO, id) if !id.is_empty() => id.to_owned(),
        _ => image.clone(),
    };
    let fields = json!({
        "id": id(facts),
        "name": facts.identity.container,
        "rootfsImage": image,
        "rootfsImageRef": reference,
        "rootfsImageName": image,
        "runtime": runtime(facts, to),
        "createdTime": Time::new(seconds(facts.dumped), 0),
        "checkpointedTime": Time::new(seconds(facts.dumped), 0),
        "restoredTime": Time::ZERO,
        "restored": false,
    });
    object(fields)
}

/// Fields of Podman's own configuration, as `podman run` writes them for a plain container.
fn of_podman(facts: &Facts) -> Other {
    let reference = facts.config_text("rootfsImageRef");
    let (_, digest) = reference.rsplit_once("sha256:").unwrap_or_default();
    let arguments = facts.spec.get("process").and_then(|process| process.get("args"));
    let fields = json!({
        "id": id(facts),
        "name": facts.identity.container,
        "lockID": 0,
        "RawImageName": image(facts),
        "rootfsImageName": image(facts),
        "rootfsImageID": digest,
        "idMappingsOptions": {
            "HostUIDMapping": true,
            "HostGIDMapping": true,
            "UIDMap": null,
            "GIDMap": null,
            "AutoUserNs": false,
        },
        "ShmDir": "",
        "shmSize": 65_536_000,
        "staticDir": "",
        "privileged": false,
        "createNetNS": false,
        "command": arguments,
        "stopSignal": 15,
        "stopTimeout": 10,
        "createdTime": Time::new(seconds(facts.dumped), 0),
        "cgroupsMode": "enabled",
        "logDriver": "k8s-file",
        "runtime": runtime(facts, Engine::Podman),
        "sdnotifyMode": "container",
        "umask": "0022",
    });
    object(fields)
}

/// Identifier of the container. Engines take a new one where a container has this one already.
fn id(facts: &Facts) -> String {
    use sha2::{Digest, Sha256};

    let name = format!("{}{}", facts.identity.container, facts.dumped);
    Sha256::digest(name).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn image(facts: &Facts) -> String {
    let raw = facts.config_text("RawImageName");
    if facts.identity.image.is_empty() { raw.to_owned() } else { facts.identity.image.clone() }
}

/// Name of the runtime as the engine calls it.
fn runtime(facts: &Facts, to: Engine) -> String {
    let name = facts.config_text("runtime");
    let plain = if name.contains("crun") { "crun" } else { "runc" };
    match to {
        Engine::Containerd => "io.containerd.runc.v2".to_owned(),
        _ => plain.to_owned(),
    }
}

fn seconds(time: u64) -> i64 {
    i64::try_from(time).unwrap_or(0)
}

fn object(value: Value) -> Other {
    match value {
        Value::Object(fields) => fields,
        _ => Other::new(),
    }
}
