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
    if to == Engine::Podman && id_of_image(before).is_empty() {
        let reason = "nothing tells the identifier of the image, and Podman imports nothing \
                      without it";
        notes.push(Note::missing(CONFIG_DUMP, IMAGE_ID, reason));
    }
    if image(facts).is_empty() {
        let reason = "nothing tells the image, of which a restore makes the root file system";
        notes.push(Note::missing(CONFIG_DUMP, "rootfsImageName", reason));
    }
    added.retain(|field, value| match before.get(field) {
        None => true,
        // Podman looks for a runtime of this name.
        Some(Value::String(runtime)) if field == "runtime" && to != Engine::Containerd => {
            runtime.contains("containerd") || is_nothing(before.get(field))
        }
        Some(before) => is_nothing(Some(before)) && !is_nothing(Some(value)),
    });
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
        "createdTime": Time::new(seconds(facts.time), 0),
        "checkpointedTime": Time::new(seconds(facts.time), 0),
        "restoredTime": Time::ZERO,
        "restored": false,
    });
    object(fields)
}

/// Fields of Podman's own configuration, as `podman run` writes them for a plain container.
fn of_podman(facts: &Facts) -> Other {
    let arguments = facts.spec.get("process").and_then(|process| process.get("args"));
    let fields = json!({
        "id": id(facts),
        "name": facts.identity.container,
        "lockID": 0,
        "RawImageName": image(facts),
        "rootfsImageName": image(facts),
        "rootfsImageID": id_of_image(&facts.config),
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
        // Podman makes an empty network then, and the runtime hands it to CRIU.
        "createNetNS": facts.dumped.was_given("network"),
        "command": arguments,
        "stopSignal": 15,
        "stopTimeout": 10,
        "createdTime": Time::new(seconds(facts.time), 0),
        "cgroupsMode": "enabled",
        "logDriver": "k8s-file",
        "runtime": runtime(facts, Engine::Podman),
        "sdnotifyMode": "container",
        "umask": "0022",
    });
    let mut fields = object(fields);
    fields.retain(|_, value| *value != "" || value.is_null());
    // Podman's own mark, which also says that the rest is Podman's.
    fields.insert("staticDir".to_owned(), "".into());
    fields
}

/// Sets the identifier of the image.
pub(super) fn set_image_id(draft: &mut Draft, config: &mut Other, id: &str) {
    config.insert(IMAGE_ID.to_owned(), id.into());
    put(draft, CONFIG_DUMP, config);
}

/// Identifier of the image: the digest of its configuration; empty if nothing tells it.
fn id_of_image(config: &Other) -> &str {
    let text = |field: &str| config.get(field).and_then(Value::as_str).unwrap_or_default();
    match text(IMAGE_ID) {
        // A name with a digest has that of the manifest, which is no identifier.
        "" => text("rootfsImageRef").strip_prefix("sha256:").unwrap_or_default(),
        id => id,
    }
}

/// Identifier of the container. Engines take a new one where a container has this one already.
fn id(facts: &Facts) -> String {
    use sha2::{Digest, Sha256};

    let name = format!("{}{}", facts.identity.container, facts.time);
    format!("{:x}", Sha256::digest(name))
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

/// Name of the field for the identifier of the image.
pub(super) const IMAGE_ID: &str = "rootfsImageID";
