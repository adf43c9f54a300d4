//! The JSON documents of an OCI image: index, manifest and config.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::digest::Digest;
use crate::error::{ErrorKind, Fault};
use crate::metadata::json::{fault, or_empty};

/// Annotations, by key.
pub type Annotations = BTreeMap<String, String>;

/// A blob, as a document names it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Descriptor {
    /// Media type of the blob.
    pub media_type: String,
    /// SHA-256 of the blob.
    pub digest: Digest,
    /// Number of bytes.
    pub size: u64,
    /// Machine that the blob is for, in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Annotations of the blob.
    #[serde(default, skip_serializing_if = "Annotations::is_empty", deserialize_with = "or_empty")]
    pub annotations: Annotations,
}

/// A machine, in the words of OCI.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Platform {
    /// Architecture: `amd64`, `arm64`, `ppc64le`, `s390x` and others.
    pub architecture: String,
    /// Operating system: `linux`.
    pub os: String,
}

/// The manifest of an image.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    pub(crate) schema_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) media_type: Option<String>,
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
    #[serde(default, skip_serializing_if = "Annotations::is_empty", deserialize_with = "or_empty")]
    pub(crate) annotations: Annotations,
}

/// The index of several manifests, and the file `index.json` of a layout.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Index {
    pub(crate) schema_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) media_type: Option<String>,
    pub(crate) manifests: Vec<Descriptor>,
    #[serde(default, skip_serializing_if = "Annotations::is_empty", deserialize_with = "or_empty")]
    pub(crate) annotations: Annotations,
}

/// The config of an image.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Config {
    pub(crate) architecture: String,
    pub(crate) os: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) created: Option<String>,
    pub(crate) config: serde_json::Map<String, serde_json::Value>,
    pub(crate) rootfs: RootFs,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct RootFs {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) diff_ids: Vec<Digest>,
}

/// A document that is a manifest or an index.
#[derive(Clone, Debug)]
pub(crate) enum Document {
    Manifest(Manifest),
    Index(Index),
}

impl Document {
    /// Parses a document, and checks its version and its type.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Fault> {
        check_size(bytes.len() as u64)?;
        let head: Head = json(bytes)?;
        if head.schema_version != SCHEMA {
            let found = head.schema_version.into();
            return Err(ErrorKind::Value { found, want: "2, the schema version" }.into());
        }
        // Older manifests leave the type out.
        let is_index = match head.media_type.as_deref() {
            Some(INDEX | DOCKER_INDEX) => true,
            Some(MANIFEST | DOCKER_MANIFEST) => false,
            Some(_) => return Err(ErrorKind::Malformed(NO_IMAGE).into()),
            None => head.manifests.is_some(),
        };
        // A document that is both would be one thing for us and another one for the next reader.
        match (is_index, head.manifests.is_some(), head.layers.is_some()) {
            (true, _, false) => Ok(Self::Index(json(bytes)?)),
            (false, false, _) => Ok(Self::Manifest(json(bytes)?)),
            _ => Err(ErrorKind::Malformed(BOTH).into()),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    schema_version: u32,
    media_type: Option<String>,
    manifests: Option<serde::de::IgnoredAny>,
    layers: Option<serde::de::IgnoredAny>,
}

/// Refuses a document that is too large.
pub(crate) fn check_size(size: u64) -> Result<(), Fault> {
    if size > MOST {
        return Err(ErrorKind::TooLarge { size, limit: MOST }.into());
    }
    Ok(())
}

/// Refuses bytes of another number than a document says.
pub(crate) fn check_len(found: u64, said: u64) -> Result<(), Fault> {
    match found.cmp(&said) {
        Ordering::Equal => Ok(()),
        Ordering::Less => Err(ErrorKind::Truncated { need: said, left: found }.into()),
        Ordering::Greater => Err(ErrorKind::TooLarge { size: found, limit: said }.into()),
    }
}

/// Parses JSON from outside.
pub(crate) fn json<'b, T: Deserialize<'b>>(bytes: &'b [u8]) -> Result<T, Fault> {
    serde_json::from_slice(bytes).map_err(|error| fault(&error).into())
}

/// Writes a document: the keys in the order of the fields, without spaces.
pub(crate) fn text(document: &impl Serialize) -> Vec<u8> {
    // Maps with text as keys, and no value that can fail.
    serde_json::to_vec(document).unwrap_or_default()
}

/// Returns this machine's architecture in the words of OCI.
pub(crate) fn architecture() -> &'static str {
    go_name(std::env::consts::ARCH)
}

/// Returns the name that OCI has for an architecture that Linux calls `machine`.
pub(crate) fn go_name(machine: &str) -> &str {
    match machine {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" | "i386" | "i686" => "386",
        "powerpc64" | "ppc64le" => "ppc64le",
        "loongarch64" => "loong64",
        other => other,
    }
}

/// The largest manifest, index or config that is read. Registries accept 4 MiB of a manifest.
pub(crate) const MOST: u64 = 4 << 20;
pub(crate) const SCHEMA: u32 = 2;

/// Annotation with the tag of a manifest in a layout.
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";

pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// Media types of layers: the unpacked tar, and its packed forms.
pub(crate) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
pub(crate) const LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub(crate) const LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

/// Tells if a blob of a media type is a tar archive, packed or not.
pub(crate) fn is_layer(media_type: &str) -> bool {
    const DOCKER: &str = "application/vnd.docker.image.rootfs.diff.tar";
    let packed = |of: &str| match media_type.strip_prefix(of) {
        Some("" | "+gzip" | ".gzip" | "+zstd" | ".zstd") => true,
        Some(_) | None => false,
    };
    packed(LAYER) || packed(DOCKER)
}

const NO_IMAGE: &str = "is neither the manifest nor the index of an image";
const BOTH: &str = "is a manifest and an index at once, or neither";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_that_can_be_taken_for_others_are_refused() {
        let refused = |text: &str| {
            let fault = Document::parse(text.as_bytes()).unwrap_err();
            crate::error::Error::new("image", fault).to_string()
        };
        let both = r#"{"schemaVersion":2,"manifests":[],"layers":[]}"#;
        assert_eq!(refused(both), format!("image: {BOTH}"));
        let old = refused(r#"{"schemaVersion":1}"#);
        assert_eq!(old, "image: is 0x1, wanted 2, the schema version");
        let other = format!(r#"{{"schemaVersion":2,"mediaType":"{CONFIG}"}}"#);
        assert_eq!(refused(&other), format!("image: {NO_IMAGE}"));
        // What is unknown is passed over, however deep it is.
        let (open, close) = ("[".repeat(1 << 20), "]".repeat(1 << 20));
        let deep = refused(&format!(r#"{{"schemaVersion":2,"x":{open}1{close}}}"#));
        assert!(deep.contains("missing field `config`"), "{deep}");
        let large = " ".repeat((4 << 20) + 1);
        assert!(refused(&large).contains("at most 4194304"), "{}", refused(&large));
        let size = format!(
            r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"{MANIFEST}","digest":"sha256:00","size":-1}}]}}"#
        );
        assert!(refused(&size).contains("a digest is"), "{}", refused(&size));
    }

    #[test]
    fn media_types_of_layers_are_known() {
        for good in [LAYER, LAYER_GZIP, LAYER_ZSTD] {
            assert!(is_layer(good));
        }
        assert!(is_layer("application/vnd.docker.image.rootfs.diff.tar.gzip"));
        for bad in ["application/vnd.oci.image.layer.v1.tar+xz", CONFIG, ""] {
            assert!(!is_layer(bad), "{bad}");
        }
    }
}
