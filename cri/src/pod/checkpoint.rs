//! `CheckpointPod`.

use std::collections::{BTreeSet, HashSet};
use std::time::{Duration, Instant};

use criu_rs::Cancel;

use super::facts::{ContainerFacts, EngineFacts, SandboxFacts};
use super::output::{OpenOutput, archive_name};
use super::refusal::{Refusal, cancelled, go_on};
use super::save::Job;
use super::state_dir::is_id;
use super::{Pods, RUNC, Reserved, cgroups, parts};
use crate::engine::{Options, Phase, Running, Sandbox, Subject};
use crate::error::Code;
use crate::proto::CheckpointPodRequest;

impl Pods {
    /// Saves the containers of a pod at one moment into an empty directory: an archive of each
    /// container in containerd's form, and the record. The pod runs on. Returns notes that the
    /// caller may want to know of, in words.
    ///
    /// # Errors
    /// [`Refusal`]. The pod runs on, and the directory is empty as before.
    pub async fn checkpoint(
        &self,
        request: CheckpointPodRequest,
        deadline: Option<Instant>,
        cancel: &Cancel,
    ) -> Result<Vec<String>, Refusal> {
        let begun = Instant::now();
        let deadline = deadline.ok_or_else(|| {
            Refusal::invalid("a deadline is missing: set one on the call, as the CRI asks for")
        })?;
        let options = Options::parse(&request.options, &*self.tool, Phase::Checkpoint)?;
        // Time to thaw the pod and to remove the files comes out of the caller's.
        let left = deadline.saturating_duration_since(begun);
        let deadline = deadline.checked_sub((left / 2).min(TIME_TO_UNDO)).unwrap_or(deadline);
        let asked = tokio::select! {
            asked = self.ask(&request, deadline) => asked?,
            refusal = cancelled(cancel) => return Err(refusal),
        };
        go_on(cancel)?;

        let (pods, cancel) = (self.clone(), cancel.clone());
        let saved = tokio::task::spawn_blocking(move || {
            let Asked { engine, sandbox, containers, completed, names, reserved: _reserved } =
                asked;
            let subject = subject(&engine, &sandbox, &containers)?;
            let output = OpenOutput::check(&request.output_path, names)?;
            let job = Job { engine, sandbox, containers, completed, subject, options, deadline };
            pods.save(&job, output, &cancel)
        });
        saved.await.unwrap_or_else(|_| Err(Refusal::new(Code::Internal, "the work has panicked")))
    }

    /// Asks the engine about the pod of a request until a time, and checks the request.
    async fn ask(&self, request: &CheckpointPodRequest, end: Instant) -> Result<Asked, Refusal> {
        let wanted = ids(request)?;
        let client = self.client.until(end);
        let engine = EngineFacts::of(&client).await?;
        let sandbox = SandboxFacts::of(&client, &request.pod_sandbox_id).await?;
        // The engine may know the sandbox by a part of the id.
        let id = sandbox.status.id.clone();
        let reserved = self.reserve(&id)?;
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
        let completed = parts::completed(&client, &id).await?;
        Ok(Asked { engine, sandbox, containers, completed, names, reserved })
    }
}

/// The pod of a request, as the engine knows it.
struct Asked {
    engine: EngineFacts,
    sandbox: SandboxFacts,
    /// The containers, in the order in which they started.
    containers: Vec<ContainerFacts>,
    /// Names of init containers that have ended.
    completed: Vec<String>,
    /// Names of the files to come, the record's first.
    names: Vec<String>,
    reserved: Reserved,
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
        subject.cgroup = cgroups::above(&subject);
    }
    Ok(subject)
}

/// Longest part of the caller's time that is kept for undoing. A criu that does not answer takes
/// three seconds to end.
const TIME_TO_UNDO: Duration = Duration::from_secs(4);

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::sync::Arc;

    use super::*;
    use crate::client::Client;
    use crate::engine::Criu;
    use crate::pod::Settings;

    #[tokio::test]
    async fn an_engine_that_does_not_answer_is_waited_for_no_longer_than_the_caller_waits() {
        let dir = criu_lab::scratch("pod-silent");
        let short = criu_lab::place::Short::folder();
        let socket = short.join("engine.sock");
        let _silent = UnixListener::bind(&socket).expect("a socket");
        let client = Client::connect(&socket).await.expect("a client");
        let tool = Arc::new(Criu::new(criu_rs::Criu::at("/nonexistent-criu")));
        let settings = Settings { state: dir.join("state"), ..Settings::default() };
        let pods = Pods::new(client, tool, settings).expect("a state directory");
        let request = CheckpointPodRequest {
            pod_sandbox_id: "1".into(),
            container_ids: vec!["2".into()],
            ..CheckpointPodRequest::default()
        };
        let cancel = Cancel::new().expect("a handle");
        let end = Instant::now() + Duration::from_secs(4);
        let refusal = pods.checkpoint(request.clone(), Some(end), &cancel).await;
        assert_eq!(refusal.map_err(|refusal| refusal.code()), Err(Code::DeadlineExceeded));
        assert!(Instant::now() < end, "no time is left for the answer");

        let other = cancel.clone();
        tokio::spawn(async move { other.cancel() });
        let end = Instant::now() + Duration::from_secs(60);
        let refusal = pods.checkpoint(request, Some(end), &cancel).await;
        assert_eq!(refusal.map_err(|refusal| refusal.code()), Err(Code::Cancelled));
        assert!(Instant::now() + Duration::from_secs(30) < end, "the engine was waited for");
        std::fs::remove_dir_all(dir).expect("a directory");
    }
}
