//! The files of a checkpoint: the archive of each container, and the record.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use criu_archive::convert::Parts;
use criu_archive::metadata::names::STATUS_DUMP;
use criu_archive::metadata::{Engine as Form, Time};
use criu_archive::record::{Container, Holder, Host, Image, Pod, Record, Role, State};
use criu_archive::write::Options as Writing;
use criu_archive::{Watch, record};
use criu_images::source::{Blob, Directory};
use prost::Message;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::criu_options::CRIU_CONFIG;
use super::facts::ContainerFacts;
use super::output::{Work, archive_name};
use super::refusal::Refusal;
use super::save::{Job, archive_path};
use super::{Pods, now};
use crate::client::Client;
use crate::engine::{Saved, Subject, gpus};
use crate::error::Code;
use crate::proto::{
    ContainerConfig, ContainerFilter, ContainerState, FromJson, Kept, PodSandboxConfig,
};

/// Returns the names of the containers of a sandbox that have ended well and do not run now.
pub(super) async fn completed(client: &Client, sandbox: &str) -> Result<Vec<String>, Refusal> {
    let filter = ContainerFilter { pod_sandbox_id: sandbox.into(), ..ContainerFilter::default() };
    let mut names = Vec::new();
    for container in client.containers(Some(filter)).await? {
        if container.state() != ContainerState::ContainerExited {
            continue;
        }
        let facts = ContainerFacts::of(client, &container.id).await?;
        if facts.status.exit_code == 0 && !names.contains(&facts.name) {
            names.push(facts.name);
        }
    }
    Ok(names)
}

/// Reads the runtime's specification of each container, as it is now.
pub(super) fn specs(subject: &Subject) -> Result<Vec<Blob>, Refusal> {
    let read = |path: &Path| {
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        if size > MAX_SPEC {
            let why = format!("has {size} bytes, at most {MAX_SPEC} are read");
            return Err(std::io::Error::other(why));
        }
        fs::read(path)
    };
    let all = subject.containers.iter().map(|container| {
        let path = container.bundle.join("config.json");
        read(&path).map(Blob::from).map_err(Refusal::file("read", &path))
    });
    all.collect()
}

/// Writes the archive of each container into the folder for finished files, in the form that
/// containerd restores.
pub(super) fn archives(
    job: &Job,
    work: &Work,
    specs: Vec<Blob>,
    options: Option<&Path>,
    watch: Watch<'_>,
) -> Result<(), Refusal> {
    let now = now().as_secs();
    for (container, spec) in job.containers.iter().zip(specs) {
        let images = work.path.join(&container.name);
        let place = format!("the images of container {}", container.name);
        let failed =
            |error: criu_images::Error| Refusal::new(Code::Internal, format!("{place}: {error}"));
        let source = Arc::new(Directory::open(&images).map_err(failed)?);
        let layer = work.path.join(format!("{}.diff", container.name));
        let changes = File::open(&layer).and_then(Blob::try_from);
        let changes = changes.map_err(Refusal::file("open", &layer))?;
        let image = container.image_with_digest().unwrap_or_default();
        let parts = Parts::new(&place, source)
            .time(now)
            .spec("config.json", spec)
            .name(&container.name)
            .id(&container.status.id)
            .image(image)
            .runtime(&container.runtime)
            .member(STATUS_DUMP, status(container, options).into())
            .rootfs_diff(changes);
        let conversion = parts.conversion(Form::Containerd)?;
        let path = archive_path(&work.done, &container.name)?;
        conversion.draft().save(path, &Writing::default(), watch)?;
        // Two copies of all pages need not lie there at a time.
        fs::remove_dir_all(&images).map_err(Refusal::file("remove", &images))?;
    }
    Ok(())
}

/// Returns the status of a container as JSON. containerd gives the annotations in the status to the
/// restored container. `options` is the file of CRIU's options that an annotation names.
fn status(container: &ContainerFacts, options: Option<&Path>) -> Vec<u8> {
    let status = &container.status;
    let mut annotations = status.annotations.clone();
    // Of an earlier checkpoint.
    annotations.remove(CRIU_CONFIG);
    if let Some(path) = options {
        annotations.insert(CRIU_CONFIG.into(), path.display().to_string());
    }
    let name = status.metadata.clone().unwrap_or_default();
    let image = status.image.clone().unwrap_or_default();
    let dump = json!({
        "id": status.id,
        "metadata": {"name": name.name, "attempt": name.attempt},
        "state": 1,
        "created_at": status.created_at,
        "started_at": status.started_at,
        "image": {
            "image": image.image,
            "user_specified_image": image.user_specified_image,
        },
        "image_ref": status.image_ref,
        "labels": status.labels,
        "annotations": annotations,
        "log_path": status.log_path,
    });
    dump.to_string().into_bytes()
}

impl Pods {
    /// Writes the record into the directory of the archives. Returns notes for the caller.
    pub(super) fn record(
        &self,
        job: &Job,
        saved: &[Saved],
        to: &Path,
        watch: Watch<'_>,
    ) -> Result<Vec<String>, Refusal> {
        let mut notes = Vec::new();
        let holder = Holder::open(to)?;
        let mut record = Record::new(MADE_BY);
        let now = now();
        let seconds = i64::try_from(now.as_secs()).unwrap_or_default();
        record.time = Time::new(seconds, now.subsec_nanos());
        record.pod = Some(pod(job, &mut notes)?);
        let mut host = Host::here();
        host.programs = Some(vec![self.tool.program()?]);
        record.gpus = gpus(saved, &host);
        record.host = Some(host);
        record.shared_namespaces = shared(job);
        record.completed_init = job.completed.clone();
        let made = self.tool.tool()?;
        for container in &job.containers {
            let found = saved.iter().find(|saved| saved.name == container.name);
            let mut tool = made.clone();
            tool.runtime = format!("{} {}", job.engine.name, container.runtime);
            let mut one = Container::new(&container.name, &container.status.id, tool);
            if let Some(saved) = found {
                saved.describe(&mut one);
            }
            let name = container.status.metadata.as_ref();
            one.attempt = name.map(|name| name.attempt).unwrap_or_default();
            let digest = container.image_with_digest().unwrap_or_default();
            one.image = Image::new(container.image_name(), digest);
            let of = format!("container {}", container.name);
            one.config = wire::<ContainerConfig>(&container.config, &of, &mut notes)?.into();
            one.config_json = Some(container.config.clone());
            let path = archive_name(&container.name)?;
            one.files.push(record::File::measured(&holder, path, Role::Archive, watch)?);
            record.containers.push(one);
            record.order.push(container.name.clone());
        }
        record.state = State::Complete;
        record.write(to)?;
        Ok(notes)
    }
}

/// Returns what is known of the pod.
fn pod(job: &Job, notes: &mut Vec<String>) -> Result<Pod, Refusal> {
    let status = &job.sandbox.status;
    let name = status.metadata.clone().unwrap_or_default();
    let mut pod = Pod::new(name.name, name.namespace, name.uid);
    pod.attempt = name.attempt;
    pod.sandbox.clone_from(&status.id);
    job.engine.handler(&status.runtime_handler).clone_into(&mut pod.runtime_handler);
    let hostname = job.sandbox.config.get("hostname").and_then(|name| name.as_str());
    hostname.unwrap_or_default().clone_into(&mut pod.hostname);
    pod.labels = status.labels.clone();
    pod.annotations = status.annotations.clone();
    pod.config = wire::<PodSandboxConfig>(&job.sandbox.config, "the sandbox", notes)?.into();
    pod.config_json = Some(job.sandbox.config.clone());
    Ok(pod)
}

/// Returns the wire form of a configuration that the engine shows as JSON. A note says which fields
/// are left out, because the interface does not have them here.
fn wire<T: Message + Default + DeserializeOwned>(
    config: &Value,
    of: &str,
    notes: &mut Vec<String>,
) -> Result<Vec<u8>, Refusal> {
    let read = Kept::<T>::from_json(&config.to_string());
    // The error could show a part of the configuration.
    let text = || format!("the engine's configuration of {of} is not in the form of the CRI");
    let FromJson { config, ignored } = read.map_err(|_| Refusal::state(text()))?;
    if !ignored.is_empty() {
        // Names alone: the values could be secret.
        let names = ignored.join(", ").escape_debug().to_string();
        notes.push(format!(
            "{of}: fields of the engine's configuration that this version does not know are in \
             the record as JSON alone, and are not restored: {names}"
        ));
    }
    Ok(config.bytes().to_vec())
}

/// Returns the namespaces that all containers have in common with the sandbox.
fn shared(job: &Job) -> Vec<String> {
    let inode = |pid, kind: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok();
    let is_shared = |kind: &&str| {
        let own = inode(job.sandbox.pid, kind);
        own.is_some() && job.subject.containers.iter().all(|one| inode(one.pid, kind) == own)
    };
    ["net", "ipc", "uts", "pid"].iter().filter(|kind| is_shared(kind)).map(|&k| k.into()).collect()
}

/// Program that writes the record.
const MADE_BY: &str = concat!("criu-cri ", env!("CARGO_PKG_VERSION"));

/// Largest specification, in bytes. The largest ones have some 100 KiB.
const MAX_SPEC: u64 = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_that_nobody_knows_are_named() {
        let config = json!({"hostname": "web", "newest_field": {"password": "hunter2"}});
        let mut notes = Vec::new();
        let bytes = wire::<PodSandboxConfig>(&config, "the sandbox", &mut notes).expect("read");
        assert_eq!(PodSandboxConfig::decode(&*bytes).expect("decoded").hostname, "web");
        assert_eq!(notes.len(), 1, "{notes:?}");
        assert!(notes[0].starts_with("the sandbox: ") && notes[0].ends_with(": newest_field"));
        assert!(!notes[0].contains("hunter2"), "{notes:?}");
    }
}
