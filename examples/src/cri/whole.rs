//! Pods of a directory with a record.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use criu_archive::record::{Holder, RECORD, Record};
use criu_archive::{Archive, Extraction};
use criu_cri::proto::{ContainerConfig, Kept, PodSandboxConfig, RestorePodRequest};

use super::archives::Private;
use crate::fault::Fault;
use crate::shown::one_line;

/// A pod to restore: its directory, and its record.
pub(super) struct Whole {
    directory: PathBuf,
    pub(super) record: Record,
    /// Directory of a pod that was unpacked.
    _unpacked: Option<Private>,
}

impl Whole {
    /// Opens the pod in a directory or archive. Returns `None` for an archive without a record. An
    /// archive is unpacked in `above`.
    pub(super) fn open(path: &Path, above: &Path) -> Result<Option<Self>, Fault> {
        if path.is_dir() {
            let record = Record::open(path).map_err(failed)?;
            return Ok(Some(Self { directory: path.to_owned(), record, _unpacked: None }));
        }
        let archive = Archive::open(path).map_err(failed)?;
        if archive.member(RECORD).is_none() {
            return Ok(None);
        }
        let record = Record::read(&Holder::archive(&archive)).map_err(failed)?;
        let private = Private::new(above)?;
        let directory = private.path("pod");
        Extraction::of(&archive).into_new(&directory).map_err(failed)?;
        Ok(Some(Self { directory, record, _unpacked: Some(private) }))
    }

    /// Makes the request of the configurations in the record, and of others that take their place.
    pub(super) fn request(
        &self,
        pod: Option<Kept<PodSandboxConfig>>,
        mut containers: BTreeMap<String, Kept<ContainerConfig>>,
        handler: Option<&str>,
        options: &[(String, String)],
    ) -> Result<RestorePodRequest, Fault> {
        let lacks = |what: &str, option: &str| {
            Fault::Failed(format!(
                "{}: the record has no configuration of {what}: give one with {option}",
                self.directory.display()
            ))
        };
        let saved = self.record.pod.as_ref();
        let config = match pod {
            Some(config) => config,
            None => kept(saved.map_or(&[], |pod| &pod.config.0))?
                .ok_or_else(|| lacks("the pod", "--pod-config"))?,
        };
        let mut configs = Vec::new();
        for container in &self.record.containers {
            let config = match containers.remove(&container.name) {
                Some(config) => Some(config),
                None => kept(&container.config.0)?,
            };
            let what = format!("container {}", one_line(&container.name));
            configs.push(config.ok_or_else(|| lacks(&what, "--container-config"))?);
        }
        if let Some(name) = containers.keys().next() {
            let text = format!("--container-config: the pod has no container named {name}");
            return Err(Fault::usage(text));
        }
        let saved_by = saved.map_or("", |pod| &pod.runtime_handler);
        Ok(RestorePodRequest {
            checkpoint_path: self.directory.display().to_string(),
            config: Some(config),
            runtime_handler: handler.unwrap_or(saved_by).to_owned(),
            options: options.iter().cloned().collect(),
            container_configs: configs,
        })
    }

    /// Images of the root file systems, by name and digest.
    pub(super) fn images(&self) -> impl Iterator<Item = &str> {
        let images = self.record.containers.iter().map(|container| &*container.image.digest);
        images.filter(|name| name.contains('@'))
    }

    /// Place of a container in the order in which the containers started.
    pub(super) fn place(&self, name: &str) -> usize {
        let place = self.record.order.iter().position(|other| other == name);
        place.unwrap_or(self.record.order.len())
    }
}

/// Takes the bytes of a configuration. No bytes are none.
fn kept<T: prost::Message + Default>(bytes: &[u8]) -> Result<Option<Kept<T>>, Fault> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let read = Kept::from_bytes(bytes.to_vec());
    read.map(Some).map_err(|error| Fault::Failed(format!("the record: {error}")))
}

fn failed(error: criu_archive::Error) -> Fault {
    Fault::Failed(error.to_string())
}
