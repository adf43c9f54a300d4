//! The manifest that containerd writes, as its pull request has it.

use criu_images::source::Blob;
use serde::Deserialize;
use serde_json::Value;

use super::{MANIFEST, MOST_MANIFEST, check_count, check_version, container, finish, member, pod};
use crate::archive::Archive;
use crate::error::{Error, ErrorKind, Fault, Result};
use crate::metadata::json;
use crate::oci::{Annotations, Digest, Document, INDEX};
use crate::record::Record;
use crate::record::file::{File, Role, is_local};
use crate::record::holder::Holder;
use crate::record::tool::{Tool, ToolKind};

impl Record {
    /// Reads the manifest of containerd: `checkpoint-manifest.json` of version 2, and
    /// `pod-config.json`. The tool comes from the index in the archive of each container, if the
    /// archive is there. A field that containerd does not write is an error.
    ///
    /// # Errors
    /// The errors of [`of_cri_o`](Self::of_cri_o); [`ErrorKind::TooLarge`] for an archive above
    /// 1 TiB, and an index in it above 4 MiB; [`ErrorKind::TooMany`] for an archive with more than
    /// 100,000 members; the errors of [`Archive::new`].
    pub fn of_containerd(holder: &Holder) -> Result<Self> {
        read(holder).map_err(|fault| holder.fault(MANIFEST, fault))
    }
}

fn read(holder: &Holder) -> Result<Record, Fault> {
    let manifest: Manifest = json::parse(&member(holder, MANIFEST, MOST_MANIFEST)?)?;
    check_version(manifest.version, 2, "2, the version of containerd's manifest")?;
    check_count(manifest.containers.len())?;
    let mut containers = Vec::new();
    for entry in manifest.containers {
        if !is_local(&entry.archive) {
            return Err(ErrorKind::Refused("the path of an archive leads out").into());
        }
        let bytes = holder.bytes(&entry.archive).map_err(Error::into_fault)?;
        let tool = match bytes {
            Some(bytes) => tool(&entry.archive, bytes).map_err(|fault| fault.of(&*entry.archive)),
            // The comparison with the files tells of it.
            None => Ok(Tool::default()),
        }?;
        let mut made = container(entry.name, entry.id, entry.config, tool);
        if !entry.status.is_null() {
            made.other.insert("status".to_owned(), entry.status);
        }
        made.files.push(File::new(entry.archive, Role::Archive));
        containers.push(made);
    }
    let mut pod = pod(holder)?;
    pod.sandbox = manifest.sandbox_id;
    finish("containerd", pod, containers)
}

/// Finds the runtime that made a checkpoint in the index of its archive.
fn tool(name: &str, bytes: Blob) -> Result<Tool, Fault> {
    if bytes.len() > MOST_ARCHIVE {
        return Err(ErrorKind::TooLarge { size: bytes.len(), limit: MOST_ARCHIVE }.into());
    }
    let archive = Archive::new(name, bytes).map_err(Error::into_fault)?;
    if archive.members().count() as u64 > MOST_MEMBERS {
        return Err(ErrorKind::TooMany { what: "members", limit: MOST_MEMBERS }.into());
    }
    let mut runtime = String::new();
    let mut look = |annotations: &Annotations| {
        if let Some(found) = annotations.get(RUNTIME).filter(|_| runtime.is_empty()) {
            runtime.clone_from(found);
        }
    };
    if let Document::Index(index) = document(&archive, "index.json", None)? {
        look(&index.annotations);
        for descriptor in &index.manifests {
            look(&descriptor.annotations);
            let path = format!("blobs/sha256/{}", descriptor.digest.hex());
            // What the archive leaves out is in the store of the engine.
            if descriptor.media_type == INDEX && archive.member(&path).is_some() {
                if let Document::Index(index) = document(&archive, &path, Some(&descriptor.digest))?
                {
                    look(&index.annotations);
                }
            }
        }
    }
    let kind = match &*runtime {
        "" => ToolKind::Other("".into()),
        name if name.contains("runsc") => ToolKind::Runsc,
        name if name.contains("runc") || name.contains("crun") => ToolKind::Criu,
        name => ToolKind::Other(name.into()),
    };
    Ok(Tool { runtime, ..Tool::new(kind, "") })
}

/// Reads a document of an image, and compares it with its digest.
fn document(archive: &Archive, path: &str, digest: Option<&Digest>) -> Result<Document, Fault> {
    let bytes = archive.bytes(path).map_err(Error::into_fault)?;
    let bytes = json::bytes(&bytes, MOST_INDEX)?;
    if let Some(want) = digest.filter(|want| **want != Digest::of(&bytes)) {
        let (found, want) = (Digest::of(&bytes).to_string(), want.to_string());
        return Err(ErrorKind::Digest { found, want }.into());
    }
    Document::parse(&bytes)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Manifest {
    version: u64,
    sandbox_id: String,
    containers: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Entry {
    name: String,
    id: String,
    archive: String,
    #[serde(default)]
    config: Value,
    #[serde(default)]
    status: Value,
}

/// Annotation of the index of a checkpoint: the runtime that made it.
const RUNTIME: &str = "io.containerd.checkpoint.runtime";
/// Largest archive that containerd reads.
const MOST_ARCHIVE: u64 = 1 << 40;
/// Most members of an archive that containerd reads.
const MOST_MEMBERS: u64 = 100_000;
/// Largest index that containerd reads.
const MOST_INDEX: u64 = 4 << 20;
