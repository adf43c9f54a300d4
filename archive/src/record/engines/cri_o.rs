//! The manifest that CRI-O writes, as its pull request has it.

use serde::Deserialize;
use serde_json::Value;

use super::{MANIFEST, MOST_MANIFEST, check_count, check_version, container, finish, member, pod};
use crate::digest::Sha256;
use crate::error::{ErrorKind, Fault, Result};
use crate::metadata::json;
use crate::record::Record;
use crate::record::file::{File, Role, is_local};
use crate::record::holder::Holder;
use crate::record::tool::{Tool, ToolKind};

impl Record {
    /// Reads the manifest of CRI-O: `checkpoint-manifest.json` of version 1, and `pod-config.json`.
    /// A field that CRI-O does not write is an error, as it is for containerd.
    ///
    /// # Errors
    /// [`ErrorKind::Missing`]; [`ErrorKind::TooLarge`] above 16 MiB for the manifest and 4 MiB for
    /// the configuration; [`ErrorKind::TooMany`] above 1,024 containers; [`ErrorKind::Json`];
    /// [`ErrorKind::Value`] for another version; [`ErrorKind::Malformed`] for another engine and
    /// for a manifest without containers; [`ErrorKind::Refused`] for an archive whose path leads
    /// out, and for two containers of one name.
    pub fn of_cri_o(holder: &Holder) -> Result<Self> {
        read(holder).map_err(|fault| holder.fault(MANIFEST, fault))
    }
}

fn read(holder: &Holder) -> Result<Record, Fault> {
    let manifest: Manifest = json::parse(&member(holder, MANIFEST, MOST_MANIFEST)?)?;
    check_version(manifest.version, 1, "1, the version of CRI-O's manifest")?;
    if manifest.runtime != RUNTIME {
        return Err(ErrorKind::Malformed("is not the manifest of CRI-O").into());
    }
    check_count(manifest.containers.len())?;
    let mut containers = Vec::new();
    for entry in manifest.containers {
        if !is_local(&entry.archive) {
            return Err(ErrorKind::Refused("the path of an archive leads out").into());
        }
        // CRI-O checkpoints with runtimes of the type "oci" alone.
        let tool = Tool::new(ToolKind::Criu, "");
        let mut made = container(entry.name, entry.id, entry.config, tool);
        let mut file = File::new(entry.archive, Role::Archive);
        file.sha256 = Some(entry.sha256);
        made.files.push(file);
        containers.push(made);
    }
    let mut pod = pod(holder)?;
    pod.sandbox = manifest.sandbox_id;
    pod.runtime_handler = manifest.runtime_handler;
    finish(RUNTIME, pod, containers)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Manifest {
    version: u64,
    runtime: String,
    #[serde(default)]
    runtime_handler: String,
    sandbox_id: String,
    containers: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Entry {
    name: String,
    id: String,
    archive: String,
    sha256: Sha256,
    #[serde(default)]
    config: Value,
}

const RUNTIME: &str = "cri-o";
