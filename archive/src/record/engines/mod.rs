//! Manifests that engines write into the directory of a pod's checkpoint, read as records.
//!
//! Neither manifest names the tool's version, or says anything about the machine.

mod containerd;
mod cri_o;

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::container::{Container, Image};
use super::file::{File, Role};
use super::holder::Holder;
use super::pod::Pod;
use super::state::State;
use super::tool::Tool;
use super::{MOST_CONTAINERS, RECORD, Record, VERSION};
use crate::error::{ErrorKind, Fault, Result};
use crate::metadata::json::{self, or_empty};

impl Record {
    /// Reads the record of a directory or archive, or the manifest of CRI-O or containerd if it has
    /// one of these.
    ///
    /// # Errors
    /// [`ErrorKind::Missing`] if there is neither; the errors of [`read`](Self::read),
    /// [`of_cri_o`](Self::of_cri_o) and [`of_containerd`](Self::of_containerd).
    pub fn of_any(holder: &Holder) -> Result<Self> {
        if holder.bytes(RECORD)?.is_some() || holder.bytes(MANIFEST)?.is_none() {
            return Self::read(holder);
        }
        let head = Head::read(holder).map_err(|fault| holder.fault(MANIFEST, fault))?;
        match head.runtime {
            Some(_) => Self::of_cri_o(holder),
            None => Self::of_containerd(holder),
        }
    }
}

/// Fields by which the manifests are told apart. CRI-O alone names itself.
#[derive(Deserialize)]
struct Head {
    runtime: Option<Value>,
}

impl Head {
    fn read(holder: &Holder) -> Result<Self, Fault> {
        json::parse(&member(holder, MANIFEST, MOST_MANIFEST)?)
    }
}

/// Reads a small file whole.
fn member(holder: &Holder, path: &str, limit: u64) -> Result<Vec<u8>, Fault> {
    let blob = holder.bytes(path).map_err(crate::error::Error::into_fault)?;
    json::bytes(&blob.ok_or(ErrorKind::Missing)?, limit)
}

/// Reads `pod-config.json`, a `PodSandboxConfig` as JSON.
fn pod(holder: &Holder) -> Result<Pod, Fault> {
    let read = || -> Result<Pod, Fault> {
        let bytes = member(holder, POD_CONFIG, MOST_CONFIG)?;
        let config: PodConfig = json::parse(&bytes)?;
        let whole: Value = json::parse(&bytes)?;
        let PodMetadata { name, namespace, uid, attempt } = config.metadata;
        let PodConfig { hostname, labels, annotations, .. } = config;
        let pod = Pod { attempt, hostname, labels, annotations, ..Pod::new(name, namespace, uid) };
        Ok(Pod { config_json: Some(whole), ..pod })
    };
    read().map_err(|fault| fault.of(POD_CONFIG))
}

/// The parts of a `PodSandboxConfig` that a record names.
#[derive(Default, Deserialize)]
#[serde(default)]
struct PodConfig {
    #[serde(deserialize_with = "or_empty")]
    metadata: PodMetadata,
    hostname: String,
    #[serde(deserialize_with = "or_empty")]
    labels: BTreeMap<String, String>,
    #[serde(deserialize_with = "or_empty")]
    annotations: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PodMetadata {
    name: String,
    namespace: String,
    uid: String,
    attempt: u32,
}

/// Makes a container of its entry in a manifest. `config` is a `ContainerConfig` as JSON.
fn container(name: String, id: String, config: Value, tool: Tool) -> Container {
    let at = |pointer: &str| config.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let image = Image::new(at("/image/user_specified_image"), at("/image/image"));
    let image = if image.name.is_empty() { Image::new(&*image.digest, "") } else { image };
    let attempt = config.pointer("/metadata/attempt").and_then(Value::as_u64);
    let attempt = attempt.and_then(|attempt| attempt.try_into().ok()).unwrap_or(0);
    let config_json = (!config.is_null()).then_some(config);
    Container { image, attempt, config_json, ..Container::new(name, id, tool) }
}

/// Makes the record of a manifest, and checks it as records are checked.
fn finish(made_by: &str, pod: Pod, containers: Vec<Container>) -> Result<Record, Fault> {
    if containers.is_empty() {
        return Err(ErrorKind::Malformed("has no containers").into());
    }
    let files = [MANIFEST, POD_CONFIG].map(|path| File::new(path, Role::Config));
    let record = Record {
        version: VERSION,
        made_by: made_by.to_owned(),
        state: State::Complete,
        pod: Some(pod),
        containers,
        files: files.into(),
        ..Record::default()
    };
    record.check()?;
    Ok(record)
}

/// Refuses a manifest of another version.
fn check_version(found: u64, version: u64, want: &'static str) -> Result<(), Fault> {
    if found != version {
        return Err(ErrorKind::Value { found, want }.into());
    }
    Ok(())
}

/// Refuses more containers than containerd accepts.
fn check_count(containers: usize) -> Result<(), Fault> {
    if containers > MOST_CONTAINERS {
        let limit = MOST_CONTAINERS as u64;
        return Err(ErrorKind::TooMany { what: "containers", limit }.into());
    }
    Ok(())
}

/// Name of the manifest of both engines.
pub(super) const MANIFEST: &str = "checkpoint-manifest.json";
/// Name of the file with the configuration of the sandbox, of both engines.
const POD_CONFIG: &str = "pod-config.json";
/// Largest manifest that containerd reads.
const MOST_MANIFEST: u64 = 16 << 20;
/// Largest configuration of a sandbox that containerd reads.
const MOST_CONFIG: u64 = 4 << 20;
