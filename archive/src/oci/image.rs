//! A checkpoint as an OCI image with one layer.

use std::fmt;
use std::path::Path;

use criu_images::source::Blob;
use serde_json::Map;

use super::digest::{Digest, Hasher, reading};
use super::facts::Facts;
use super::layout::new_file;
use super::manifest::{
    self, Annotations, CONFIG, Config, Descriptor, INDEX, Index, LAYER, LAYER_GZIP, LAYER_ZSTD,
    MANIFEST, Manifest, Platform, REF_NAME, RootFs, SCHEMA, architecture, is_layer,
};
use crate::archive::{self, Archive};
use crate::error::{Error, ErrorKind, Fault, Result};
use crate::packing::{self, Packing};

/// A checkpoint as an OCI image with one layer: the documents, and the layer, which is read in
/// place. A clone shares the layer and copies the documents, at most 4 MiB each.
#[derive(Clone)]
pub struct Image {
    name: String,
    /// The manifest as its digest needs it.
    manifest: Vec<u8>,
    media_type: String,
    config: Vec<u8>,
    parsed: Manifest,
    platform: Platform,
    layer: Blob,
}

impl Image {
    /// Makes the image of an archive in a file. The layer is the archive as it is: plain, packed by
    /// gzip or by zstd, seekable or not.
    ///
    /// The archive is read once for its digest. A packed archive is also unpacked for the digest of
    /// its tar stream, even if its table of contents has that digest. A packed archive without our
    /// table of contents is unpacked once more, for the list of its members.
    ///
    /// # Errors
    /// The errors of [`Archive::open`]; [`ErrorKind::Io`] if the archive cannot be read.
    pub fn of_archive(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let name = path.to_string_lossy();
        let bytes = archive::open(path).map_err(|fault| Error::new(&*name, fault))?;
        Self::new(name, bytes)
    }

    /// Makes the image of an archive whose bytes are anywhere. Errors call the image by `name`.
    ///
    /// # Errors
    /// The errors of [`of_archive`](Self::of_archive).
    pub fn new(name: impl Into<String>, bytes: Blob) -> Result<Self> {
        let name = name.into();
        let archive = Archive::new(&*name, bytes.clone())?;
        let facts = Facts::of(&archive);
        let made = Self::make(name.clone(), &archive, bytes, &facts);
        made.map_err(|fault| Error::new(name, fault))
    }

    fn make(name: String, archive: &Archive, bytes: Blob, facts: &Facts) -> Result<Self, Fault> {
        let digest = Digest::of_blob(&bytes)?;
        let (media_type, unpacked) = match archive.packing() {
            Packing::Plain => (LAYER, digest),
            Packing::Gzip => (LAYER_GZIP, unpacked(archive, &bytes)?),
            Packing::Zstd | Packing::Seekable => (LAYER_ZSTD, unpacked(archive, &bytes)?),
        };
        let layer = Descriptor {
            media_type: media_type.to_owned(),
            digest,
            size: bytes.len(),
            platform: None,
            annotations: toc_annotations(archive),
        };
        let known = facts.architecture.as_deref();
        let platform = Platform {
            architecture: known.unwrap_or_else(|| architecture()).to_owned(),
            os: "linux".to_owned(),
        };
        let config = Config {
            architecture: platform.architecture.clone(),
            os: platform.os.clone(),
            created: facts.checkpointed.clone(),
            config: Map::new(),
            rootfs: RootFs { kind: "layers".to_owned(), diff_ids: vec![unpacked] },
        };
        let config = manifest::text(&config);
        let parsed = Manifest {
            schema_version: SCHEMA,
            media_type: Some(MANIFEST.to_owned()),
            config: Descriptor {
                media_type: CONFIG.to_owned(),
                digest: Digest::of(&config),
                size: config.len() as u64,
                platform: None,
                annotations: Annotations::new(),
            },
            layers: vec![layer],
            annotations: facts.annotations(),
        };
        let manifest = manifest::text(&parsed);
        let media_type = MANIFEST.to_owned();
        Ok(Self { name, manifest, media_type, config, parsed, platform, layer: bytes })
    }

    /// Takes the documents and the layer of an image from outside. The digests of the documents
    /// have been checked.
    pub(crate) fn of_documents(
        name: String,
        manifest: Vec<u8>,
        parsed: Manifest,
        config: Vec<u8>,
        layer: Blob,
    ) -> Result<Self, Fault> {
        let platform: Platform = manifest::json(&config)?;
        let described = parsed.layers.first().map_or(0, |layer| layer.size);
        manifest::check_len(layer.len(), described).map_err(|fault| fault.of("layer"))?;
        let media_type = parsed.media_type.clone().unwrap_or_else(|| MANIFEST.to_owned());
        Ok(Self { name, manifest, media_type, config, parsed, platform, layer })
    }

    /// Name of the image, as its errors say it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Digest of the manifest, which stands for the whole image.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.manifest)
    }

    /// Annotations of the manifest.
    pub fn annotations(&self) -> &Annotations {
        &self.parsed.annotations
    }

    /// Machine that the image is for.
    pub fn platform(&self) -> &Platform {
        &self.platform
    }

    /// Descriptor of the layer: its media type, digest, size and annotations.
    pub fn layer(&self) -> &Descriptor {
        // An image has one layer, or it is none.
        self.parsed.layers.first().unwrap_or(&self.parsed.config)
    }

    /// Bytes of the layer, which are those of the archive.
    pub fn bytes(&self) -> &Blob {
        &self.layer
    }

    /// Opens the archive in the layer. Reads only what opening an archive needs.
    ///
    /// If the layer's descriptor has the digest of a table of contents
    /// ([`TOC_DIGEST`](super::TOC_DIGEST)), the table is compared with it, and all that is read
    /// later with digests that the table leads to.
    ///
    /// # Errors
    /// The errors of [`Archive::new`]; [`ErrorKind::Malformed`] for another table of contents, or
    /// none.
    pub fn archive(&self) -> Result<Archive> {
        let (name, layer) = (&*self.name, self.layer.clone());
        match self.layer().annotations.get(TOC_DIGEST) {
            None => Archive::new(name, layer),
            Some(text) => {
                let wrong = |_| self.fail(ErrorKind::Malformed(NO_TOC_DIGEST).into());
                let digest: Digest = text.parse().map_err(wrong)?;
                Archive::verified(name, layer, digest.bytes())
            }
        }
    }

    /// Reads the whole layer, and checks its digest.
    ///
    /// # Errors
    /// [`ErrorKind::Digest`]; [`ErrorKind::Io`] if the layer cannot be read.
    pub fn verify(&self) -> Result<()> {
        let found = Digest::of_blob(&self.layer).map_err(|error| self.fail(error.into()))?;
        check(found, self.layer().digest).map_err(|fault| self.fail(fault.of("layer")))
    }

    /// Writes the layer into a file: the archive as it is. The digest is checked on the way. The
    /// file is written beside and renamed, with mode 0600.
    ///
    /// # Errors
    /// [`ErrorKind::Digest`]; [`ErrorKind::Io`] if the layer cannot be read;
    /// [`ErrorKind::Write`].
    pub fn save(&self, path: &Path) -> Result<()> {
        new_file(path, |to| self.copy_layer(to)).map_err(|fault| self.fail(fault))
    }

    /// Writes the layer anywhere. The digest is known to be right when all has been written.
    ///
    /// # Errors
    /// The errors of [`save`](Self::save).
    pub fn write_layer(&self, to: &mut impl std::io::Write) -> Result<()> {
        self.copy_layer(to).map_err(|fault| self.fail(fault))
    }

    /// Copies the layer, and checks its digest on the way.
    pub(crate) fn copy_layer(&self, to: &mut impl std::io::Write) -> Result<(), Fault> {
        let mut hasher = Hasher::default();
        let mut from = reading(&self.layer);
        let mut piece = vec![0; 1 << 20];
        loop {
            let read = std::io::Read::read(&mut from, &mut piece)?;
            let Some(bytes) = piece.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
            hasher.update(bytes);
            to.write_all(bytes).map_err(ErrorKind::Write)?;
        }
        check(hasher.digest(), self.layer().digest).map_err(|fault| fault.of("layer"))
    }

    /// Manifest, as bytes.
    pub(crate) fn manifest(&self) -> &[u8] {
        &self.manifest
    }

    /// Media type of the manifest.
    #[cfg(feature = "registry")]
    pub(crate) fn media_type(&self) -> &str {
        &self.media_type
    }

    /// Config, with its descriptor.
    pub(crate) fn config(&self) -> (&Descriptor, &[u8]) {
        (&self.parsed.config, &self.config)
    }

    /// Index with the manifest alone, as bytes. It has the annotations of the manifest.
    pub(crate) fn index(&self, tag: Option<&str>) -> Vec<u8> {
        let tag = tag.map(|tag| (REF_NAME.to_owned(), tag.to_owned()));
        let manifest = Descriptor {
            media_type: self.media_type.clone(),
            digest: self.digest(),
            size: self.manifest.len() as u64,
            platform: Some(self.platform.clone()),
            annotations: tag.into_iter().collect(),
        };
        manifest::text(&Index {
            schema_version: SCHEMA,
            media_type: Some(INDEX.to_owned()),
            manifests: vec![manifest],
            annotations: self.parsed.annotations.clone(),
        })
    }

    pub(crate) fn fail(&self, fault: Fault) -> Error {
        Error::new(&*self.name, fault)
    }
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digest = self.digest().to_string();
        f.debug_struct("Image").field("name", &self.name).field("digest", &digest).finish()
    }
}

/// Returns the annotations by which the table of contents of an archive is found and checked.
fn toc_annotations(archive: &Archive) -> Annotations {
    let Some(toc) = archive.toc() else { return Annotations::new() };
    let (start, end) = (toc.place.start, toc.place.end);
    let rows = [
        (TOC_DIGEST, Digest::new(toc.digest).to_string()),
        (TOC_POSITION, format!("{start}:{}", end.saturating_sub(start))),
    ];
    rows.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// Unpacks an archive, and returns the digest of its tar stream. Refuses an archive whose table of
/// contents has another one: engines refuse an image with a wrong digest.
fn unpacked(archive: &Archive, packed: &Blob) -> Result<Digest, Fault> {
    let (_, mut unpacking) = packing::unpack(reading(packed))?;
    let mut hasher = Hasher::default();
    std::io::copy(&mut unpacking, &mut hasher)?;
    let found = hasher.digest();
    if let Some(said) = archive.toc().and_then(|toc| toc.diff_id) {
        check(found, Digest::new(said)).map_err(|fault| fault.of("tar stream"))?;
    }
    Ok(found)
}

/// Refuses bytes that do not have the wanted digest.
pub(crate) fn check(found: Digest, want: Digest) -> Result<(), Fault> {
    if found == want {
        return Ok(());
    }
    Err(ErrorKind::Digest { found: found.to_string(), want: want.to_string() }.into())
}

/// Returns the layer of a manifest, if the image is one of a checkpoint: it has one layer, a tar
/// archive.
pub(crate) fn only_layer(manifest: &Manifest) -> Result<&Descriptor, Fault> {
    manifest::check_size(manifest.config.size).map_err(|fault| fault.of("config"))?;
    match &manifest.layers[..] {
        [layer] if is_layer(&layer.media_type) => Ok(layer),
        [_] => Err(ErrorKind::Malformed("its layer is not a tar archive").into()),
        _ => Err(ErrorKind::Malformed("is no checkpoint: a checkpoint has one layer").into()),
    }
}

/// Chooses the manifest of an index: the one with a tag, the only one, or the one for this machine.
pub(crate) fn chosen<'i>(index: &'i Index, tag: Option<&str>) -> Result<&'i Descriptor, Fault> {
    let has = |one: &&Descriptor, tag: &str| {
        one.annotations.get(REF_NAME).is_some_and(|name| name == tag)
    };
    let all = index.manifests.iter();
    let found: Vec<&Descriptor> = all.filter(|one| tag.is_none_or(|tag| has(one, tag))).collect();
    let here = |one: &&&Descriptor| {
        let machine = one.platform.as_ref();
        machine.is_some_and(|machine| machine.architecture == architecture())
    };
    let several = "has several images, and none or more than one is for this machine";
    match (&found[..], tag) {
        ([one], _) => Ok(one),
        ([], Some(_)) => Err(ErrorKind::Malformed("has no image with this tag").into()),
        ([], None) => Err(ErrorKind::Malformed("has no image").into()),
        (found, _) => {
            let mut fitting = found.iter().filter(here);
            match (fitting.next(), fitting.next()) {
                (Some(one), None) => Ok(one),
                _ => Err(ErrorKind::Malformed(several).into()),
            }
        }
    }
}

/// Annotation of a layer with the SHA-256 of the table of contents of a seekable archive.
pub const TOC_DIGEST: &str = "io.github.criu-rs.toc.digest";
/// Annotation of a layer with the place of the table: `offset:length`, in bytes.
pub const TOC_POSITION: &str = "io.github.criu-rs.toc.position";
const NO_TOC_DIGEST: &str = "its layer has a digest of a table of contents in an unknown form";
