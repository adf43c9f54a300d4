//! `CheckpointPod`.

use std::collections::{BTreeSet, HashSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use criu_rs::Cancel;

use super::facts::{ContainerFacts, EngineFacts, SandboxFacts};
use super::output::{Output, archive_name};
use super::refusal::{Refusal, go_on};
use super::save::Job;
use super::state_dir::is_id;
use super::{Pods, parts};
use crate::engine::{Options, Phase, Running, Sandbox, Subject};
use crate::error::Code;
use crate::proto::CheckpointPodRequest;

impl Pods {
    /// Saves the containers of a pod at one moment into an empty directory: an archive of each
    /// container in containerd's form, and the record. The pod runs on.
    ///
    /// # Errors
    /// [`Refusal`]. The pod runs on, and the directory is empty as before.
    pub async fn checkpoint(
        &self,
        request: CheckpointPodRequest,
        deadline: Option<Instant>,
        cancel: &Cancel,
    ) -> Result<(), Refusal> {
        let begun = Instant::now();
        let deadline = deadline.ok_or_else(|| {
            Refusal::invalid("a deadline is missing: set one on the call, as the CRI asks for")
        })?;
        let wanted = ids(&request)?;
        let options = Options::parse(&request.options, &*self.tool, Phase::Checkpoint)?;
        let id = request.pod_sandbox_id;
        let reserved = self.reserve(&id)?;
        // Time to thaw the pod and to remove the files comes out of the caller's.
        let left = deadline.saturating_duration_since(begun);
        let deadline = deadline.checked_sub((left / 2).min(TIME_TO_UNDO)).unwrap_or(deadline);

        let client = self.client.within(left.max(Duration::from_millis(1)));
        let engine = EngineFacts::of(&client).await?;
        let sandbox = SandboxFacts::of(&client, &id).await?;
        let containers = ContainerFacts::running(&client, &id).await?;
        let running: BTreeSet<&str> = containers.iter().map(|one| &*one.status.id).collect();
        let asked: BTreeSet<&str> = wanted.iter().map(String::as_str).collect();
        if running != asked {
            let list = |ids: &BTreeSet<&str>| ids.iter().copied().collect::<Vec<_>>().join(", ");
            let text = format!(
                "the container_ids are not those of the containers that run: found {}, wanted {}",
                list(&asked),
                list(&running),
            );
            return Err(Refusal::invalid(text));
        }
        let mut names = vec![criu_archive::record::RECORD.to_owned()];
        for container in &containers {
            if container.runtime != RUNC {
                let text = format!(
                    "container {}: its runtime is {}, wanted {RUNC}",
                    container.name, container.runtime
                );
                return Err(Refusal::state(text));
            }
            if container.image_with_digest().is_none() {
                let text = format!(
                    "container {}: its image {} has no digest of a registry, and containerd \
                     restores none without: push the image to a registry, and pull it from there",
                    container.name,
                    container.image_name().escape_debug(),
                );
                return Err(Refusal::state(text));
            }
            names.push(archive_name(&container.name)?);
        }
        if names.iter().collect::<HashSet<_>>().len() != names.len() {
            return Err(Refusal::state("two containers that run have one name"));
        }
        let subject = subject(&engine, &sandbox, &containers)?;
        let completed = parts::completed(&client, &id).await?;
        go_on(cancel)?;

        let output = Output::check(&request.output_path, names)?;
        let (pods, cancel) = (self.clone(), cancel.clone());
        let job = Job { engine, sandbox, containers, completed, subject, options, deadline };
        let saved = tokio::task::spawn_blocking(move || {
            let _reserved = reserved;
            pods.save(&job, output, &cancel)
        });
        saved.await.unwrap_or_else(|_| Err(Refusal::new(Code::Internal, "the work has panicked")))
    }
}

/// Returns the ids of the containers, if the request makes sense.
fn ids(request: &CheckpointPodRequest) -> Result<Vec<String>, Refusal> {
    if !is_id(&request.pod_sandbox_id) {
        return Err(Refusal::invalid("pod_sandbox_id is not the id of a sandbox"));
    }
    if request.container_ids.is_empty() {
        return Err(Refusal::invalid("container_ids is empty, wanted those that run"));
    }
    let mut seen = HashSet::new();
    for id in &request.container_ids {
        if !is_id(id) {
            return Err(Refusal::invalid(
                "container_ids has one that is not the id of a container",
            ));
        }
        if !seen.insert(id) {
            return Err(Refusal::invalid(format!("container_ids has {id} twice")));
        }
    }
    Ok(request.container_ids.clone())
}

/// Returns the containers as the tool has to know them.
fn subject(
    engine: &EngineFacts,
    sandbox: &SandboxFacts,
    containers: &[ContainerFacts],
) -> Result<Subject, Refusal> {
    let mut subject = Subject {
        sandbox: Some(Sandbox {
            id: sandbox.status.id.clone(),
            bundle: Some(engine.bundle(&sandbox.status.id)),
            pid: Some(sandbox.pid),
        }),
        ..Subject::default()
    };
    for container in containers {
        let id = &container.status.id;
        let gone = || Refusal::state(format!("container {}: has no process", container.name));
        let (name, bundle) = (container.name.clone(), engine.bundle(id));
        let pid = container.pid.ok_or_else(gone)?;
        subject.containers.push(Running { name, id: id.clone(), bundle, pid });
    }
    // Without a cgroup of the pod's own the one above holds other pods, too.
    let parent = sandbox.config.pointer("/linux/cgroup_parent").and_then(|path| path.as_str());
    if parent.is_some_and(|path| !path.is_empty()) {
        subject.cgroup = above(&subject);
    }
    Ok(subject)
}

/// Returns the cgroup that holds the containers of the pod, the sandbox's own and nothing else, if
/// there is one. It freezes all at one stroke.
fn above(subject: &Subject) -> Option<PathBuf> {
    let sandbox = subject.sandbox.as_ref()?;
    let paths = |pid| -> Option<Vec<(String, PathBuf)>> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        let row = |line: &str| {
            let mut parts = line.splitn(3, ':').skip(1);
            Some((parts.next()?.to_owned(), PathBuf::from(parts.next()?)))
        };
        text.lines().map(row).collect()
    };
    let own = paths(sandbox.pid?)?;
    let (_, first) = own.iter().find(|(names, _)| names.is_empty() || names == "freezer")?;
    let above = first.parent()?.to_path_buf();
    // Others may have put something there.
    let mut all: Vec<&str> = subject.containers.iter().map(|one| &*one.id).collect();
    all.push(&sandbox.id);
    let cgroups = criu_rs::oci::Cgroups::at(&above).ok()?;
    let directory = cgroups.freezer().ok()??;
    for entry in std::fs::read_dir(directory).ok()? {
        let entry = entry.ok()?;
        let name = entry.file_name();
        let is_ours = name.to_str().is_some_and(|name| all.iter().any(|id| name.contains(id)));
        if entry.file_type().ok()?.is_dir() && !is_ours {
            return None;
        }
    }
    let is_below = |container: &Running| {
        let paths = paths(container.pid).unwrap_or_default();
        paths.iter().any(|(_, path)| path.starts_with(&above))
    };
    subject.containers.iter().all(is_below).then_some(above)
}

/// The runtime whose containers are saved.
const RUNC: &str = "io.containerd.runc.v2";

/// Longest part of the caller's time that is kept for undoing. A criu that does not answer takes
/// three seconds to end.
const TIME_TO_UNDO: Duration = Duration::from_secs(4);
