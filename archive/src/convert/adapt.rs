//! The steps from the members of one engine to those of another.

use criu_images::kind::INVENTORY;
use criu_images::source::Blob;

use super::dumped::Dumped;
use super::note::{Effect, Note};
use super::{config, mounts, rootfs, spec, status, unread};
use crate::error::{Error, Fault, Result};
use crate::metadata::json::Other;
use crate::metadata::names::{
    CHECKPOINT, CONTAINERD_LOG, CRIO_LOG, DESCRIPTORS, PODMAN_LOG, SPEC_DUMP,
};
use crate::metadata::{Engine, Identity, Metadata, json};
use crate::write::{Draft, Folder};

/// Changes the members of a draft for an engine. Errors call the old archive by `name`.
pub(super) fn adapt(
    draft: &mut Draft,
    name: &str,
    from: Engine,
    to: Engine,
    notes: &mut Vec<Note>,
) -> Result<()> {
    let facts = Facts::of(draft, name, from)?;
    config::adapt(draft, &facts, to, notes);
    spec::adapt(draft, &facts, to, notes);
    status::adapt(draft, &facts, to, notes);
    log(draft, to, notes);
    rootfs::adapt(draft, name, to, notes)?;
    mounts::look(&facts, to, notes);
    unread::look(draft, name, from, to, notes)
}

/// Notes the members without which no engine restores, and makes the one that can be made.
pub(super) fn complete(draft: &mut Draft, notes: &mut Vec<Note>) -> Result<()> {
    let inventory = format!("{}/{}", CHECKPOINT, INVENTORY.file);
    for (member, reason) in [
        (&*inventory, "there are no images of a dump, and no engine restores without one"),
        (SPEC_DUMP, "there is no specification to make it of, and no engine restores without one"),
    ] {
        if !draft.has(member) {
            notes.push(Note::new(Effect::Missing, member, reason));
        }
    }
    descriptors(draft, notes)
}

/// Facts about the old archive.
pub(super) struct Facts {
    pub(super) identity: Identity,
    /// `config.dump` and `spec.dump` with all fields, also those without a name here.
    pub(super) config: Other,
    pub(super) spec: Other,
    pub(super) dumped: Dumped,
    /// Time of the checkpoint in seconds since 1970, as the images tell it.
    pub(super) time: u64,
}

impl Facts {
    fn of(draft: &Draft, name: &str, from: Engine) -> Result<Self> {
        let top = Folder::of(draft, "");
        let metadata = Metadata::of(name, &top);
        let (config, spec) = (metadata.config()?, metadata.spec()?);
        let identity = Identity::of(from, config.as_ref(), spec.as_ref());
        let object = |member: &str| -> Result<Other> {
            let Some(blob) = draft.bytes(member)? else { return Ok(Other::new()) };
            let read = json::read(&blob);
            read.map_err(|fault: Fault| Error::new(name, fault.of(member)))
        };
        let config = object(crate::metadata::names::CONFIG_DUMP)?;
        let spec = object(crate::metadata::names::SPEC_DUMP)?;
        let dumped = Dumped::of(draft);
        Ok(Self { identity, config, spec, dumped, time: draft.time_of_images() })
    }

    /// Text of a field of `config.dump`; empty if there is none.
    pub(super) fn config_text(&self, field: &str) -> &str {
        self.config.get(field).and_then(|value| value.as_str()).unwrap_or_default()
    }
}

/// Writes an object as engines do.
pub(super) fn put(draft: &mut Draft, member: &str, object: &Other) {
    // An object of values has always a text.
    let text = serde_json::to_vec_pretty(object).unwrap_or_default();
    draft.replace(member, Blob::from(text));
}

/// Gives the log the name by which the engine finds it.
fn log(draft: &mut Draft, to: Engine, notes: &mut Vec<Note>) {
    let name = match to {
        Engine::Podman => PODMAN_LOG,
        Engine::CriO => CRIO_LOG,
        Engine::Containerd => CONTAINERD_LOG,
        Engine::Unknown => return,
    };
    let logs = [PODMAN_LOG, CRIO_LOG, CONTAINERD_LOG];
    if let Some(log) = logs.into_iter().find(|log| *log != name && draft.has(log)) {
        if !draft.has(name) {
            draft.rename(log, name);
            notes.push(Note::new(Effect::Renamed, log, format!("{to} calls it {name}")));
        }
    }
}

/// Makes the list of standard streams, without which no runtime restores.
fn descriptors(draft: &mut Draft, notes: &mut Vec<Note>) -> Result<()> {
    let path = format!("{}/{DESCRIPTORS}", CHECKPOINT);
    if draft.has(&path) || !draft.has(CHECKPOINT) {
        return Ok(());
    }
    draft.add_bytes(&path, &b"[\"/dev/null\",\"/dev/null\",\"/dev/null\"]"[..])?;
    let reason = "the runtime that dumped wrote no list of standard streams: none is a pipe now";
    notes.push(Note::new(Effect::Made, path, reason));
    Ok(())
}
