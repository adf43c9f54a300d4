//! Archives made of a directory of images.

use std::sync::Arc;

use criu_images::kind::INVENTORY;
use criu_images::source::{Blob, Source};
use serde_json::Value;

use super::Conversion;
use super::adapt::{adapt, complete, put};
use super::config::IMAGE_ID;
use super::note::{Effect, Note};
use crate::archive::Archive;
use crate::error::{Error, ErrorKind, Fault, Result};
use crate::metadata::names::{
    CHECKPOINT, CONFIG_DUMP, DUMP_LOG, ROOTFS_DIFF, SPEC_DUMP, STATS_DUMP, is_pre_checkpoint,
};
use crate::metadata::{Engine, Metadata, Other, SpecDump, json};
use crate::write::{Draft, Folder};

/// Parts that an archive is made of: images, and the metadata that engines want beside them.
#[derive(Clone, Debug)]
pub struct Parts {
    place: String,
    images: Arc<dyn Source>,
    time: Option<u64>,
    spec: Option<(String, Blob)>,
    config: Other,
    archive: Option<Archive>,
    others: Vec<(String, Blob)>,
}

impl Parts {
    /// Begins with the images. Errors call their source by `place`.
    pub fn new(place: impl Into<String>, images: Arc<dyn Source>) -> Self {
        Self {
            place: place.into(),
            images,
            time: None,
            spec: None,
            config: Other::new(),
            archive: None,
            others: Vec::new(),
        }
    }

    /// Sets the time of the checkpoint, in seconds since 1970. By default it is now.
    #[must_use]
    pub fn time(mut self, seconds: u64) -> Self {
        self.time = Some(seconds);
        self
    }

    /// Adds the OCI runtime specification: the `config.json` of a bundle. It becomes `spec.dump`.
    /// Errors call it by `name`.
    #[must_use]
    pub fn spec(mut self, name: impl Into<String>, config_json: Blob) -> Self {
        self.spec = Some((name.into(), config_json));
        self
    }

    /// Sets the name of the container.
    #[must_use]
    pub fn name(self, name: impl Into<String>) -> Self {
        self.config("name", name)
    }

    /// Sets the identifier of the container. Engines have 64 hexadecimal digits.
    #[must_use]
    pub fn id(self, id: impl Into<String>) -> Self {
        self.config("id", id)
    }

    /// Sets the full name of the image, such as `docker.io/library/redis:7`. A restore on another
    /// machine takes the root file system from it.
    #[must_use]
    pub fn image(self, image: impl Into<String>) -> Self {
        self.config("rootfsImageName", image)
    }

    /// Sets the identifier of the image: the digest of its configuration, without `sha256:`.
    #[must_use]
    pub fn image_id(self, id: impl Into<String>) -> Self {
        self.config(IMAGE_ID, id)
    }

    /// Sets the name of the OCI runtime. By default it is `runc`.
    #[must_use]
    pub fn runtime(self, runtime: impl Into<String>) -> Self {
        self.config("runtime", runtime)
    }

    fn config(mut self, field: &str, text: impl Into<String>) -> Self {
        self.config.insert(field.to_owned(), Value::String(text.into()));
        self
    }

    /// Takes all members but the images from an archive. Names and image that are set count more
    /// than those of its `config.dump`, and a specification more than its `spec.dump`.
    #[must_use]
    pub fn metadata_of(mut self, archive: Archive) -> Self {
        self.archive = Some(archive);
        self
    }

    /// Adds what changed in the root file system, as `rootfs-diff.tar`.
    #[must_use]
    pub fn rootfs_diff(self, diff: Blob) -> Self {
        self.member(ROOTFS_DIFF, diff)
    }

    /// Adds any other member.
    #[must_use]
    pub fn member(mut self, path: impl Into<String>, bytes: Blob) -> Self {
        self.others.push((path.into(), bytes));
        self
    }

    /// Plans the archive for an engine. For [`Engine::Unknown`] nothing is made up.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`](crate::ErrorKind::Malformed) if there is no `inventory.img`, or if
    /// what changed in the root file system is no tar archive. The errors of the images, and of
    /// [`Metadata`] for the parts that have to be changed;
    /// [`ErrorKind::Refused`](crate::ErrorKind::Refused) for a member that leads out.
    pub fn conversion(self, to: Engine) -> Result<Conversion> {
        let (mut draft, mut notes) = (Draft::new(), Vec::new());
        if let Some(time) = self.time {
            draft.set_time(time);
        }
        let mut from = Engine::Unknown;
        if let Some(archive) = &self.archive {
            from = Metadata::of(archive.name(), &archive.folder("")).engine()?;
            let is_set = |path: &str| {
                let (folder, _) = path.split_once('/').unwrap_or((path, ""));
                folder == CHECKPOINT || is_pre_checkpoint(folder)
            };
            for member in archive.members().filter(|member| !is_set(member.path())) {
                draft.add_member(archive, member)?;
            }
        }
        let inventory = self.images.size(INVENTORY.file);
        let inventory =
            inventory.map_err(|error| Error::new(&*self.place, ErrorKind::Images(error)))?;
        if inventory.is_none() {
            let reason = "is missing: images of a dump are wanted, each set of which has one";
            let fault = Fault::from(ErrorKind::Malformed(reason));
            return Err(Error::new(&*self.place, fault.of(INVENTORY.file)));
        }
        let left_out = draft.add_images(CHECKPOINT, &self.place, self.images)?;
        for name in left_out {
            let path = format!("{}/{name}", CHECKPOINT);
            notes.push(Note::new(Effect::Lost, path, "it is no regular file"));
        }
        // Engines keep both beside the folder.
        for name in [STATS_DUMP, DUMP_LOG] {
            draft.rename(&format!("{}/{name}", CHECKPOINT), name);
        }
        if let Some((name, spec)) = self.spec {
            let read: Result<SpecDump, Fault> = json::read(&spec);
            read.map_err(|fault| Error::new(name, fault))?;
            draft.replace(SPEC_DUMP, spec);
        }
        if !self.config.is_empty() {
            let old = draft.bytes(CONFIG_DUMP)?;
            let old: Option<Result<Other, Fault>> = old.as_ref().map(json::read);
            let old =
                old.transpose().map_err(|fault| Error::new(&*self.place, fault.of(CONFIG_DUMP)))?;
            let mut config = old.unwrap_or_default();
            config.extend(self.config);
            put(&mut draft, CONFIG_DUMP, &config);
        }
        let has_diff = self.others.iter().any(|(path, _)| path == ROOTFS_DIFF);
        for (path, bytes) in self.others {
            draft.add_blob(&path, bytes)?;
        }
        if has_diff {
            Metadata::of(&*self.place, &Folder::of(&draft, "")).rootfs_diff()?;
        }
        if to != from && to != Engine::Unknown {
            adapt(&mut draft, &self.place, from, to, &mut notes)?;
        }
        if to != Engine::Unknown {
            complete(&mut draft, &mut notes)?;
        }
        notes.sort_by(|a, b| (a.effect(), a.member()).cmp(&(b.effect(), b.member())));
        Ok(Conversion { draft, from, to, notes })
    }
}
