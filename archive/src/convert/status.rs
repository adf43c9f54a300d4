//! `status.dump` and `status` for containerd, which restores nothing without the first.

use serde_json::{Value, json};

use super::adapt::{Facts, put};
use super::note::{Effect, Note};
use crate::metadata::names::{STATUS, STATUS_DUMP};
use crate::metadata::{Engine, Time};
use crate::write::Draft;

pub(super) fn adapt(draft: &mut Draft, facts: &Facts, to: Engine, notes: &mut Vec<Note>) {
    if to != Engine::Containerd {
        return;
    }
    let found = &facts.identity;
    let created = facts.config_text("createdTime").parse::<Time>().ok();
    let created = created.map_or(0, |created| created.as_nanos());
    let status_dump = json!({
        "id": facts.config_text("id"),
        "metadata": {"name": found.container},
        "state": 1,
        "created_at": created,
        "started_at": created,
        "image": {"image": found.image},
        "image_ref": found.image,
        // containerd writes into both maps, which therefore have to be there.
        "labels": found.labels(),
        "annotations": {},
    });
    let status = json!({
        "CreatedAt": created,
        "StartedAt": created,
        "FinishedAt": 0,
        "ExitCode": 0,
        "Pid": 0,
        "Reason": "",
        "Message": "",
    });
    for (member, value) in [(STATUS_DUMP, status_dump), (STATUS, status)] {
        if let (false, Value::Object(object)) = (draft.has(member), value) {
            put(draft, member, &object);
            let reason = "was made of config.dump and spec.dump";
            notes.push(Note::new(Effect::Made, member, reason));
        }
    }
}
