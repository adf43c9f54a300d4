//! `RestorePod`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use criu_archive::Archive;
use criu_archive::metadata::{Metadata, SpecDump, label_changes};
use criu_archive::record::{About, Container, Holder, Host, Program, Record, Role, Tool, ToolKind};
use criu_rs::Cancel;
use serde::Deserialize;

use super::Pods;
use super::compare::{Configs, paired};
use super::criu_options::{CRIU_CONFIG, CriuOptions, Way};
use super::facts::{ContainerFacts, EngineFacts, SandboxFacts};
use super::refusal::{Refusal, go_on};
use super::starts::NewPod;
use super::state_dir::{StateDir, is_clean};
use crate::client::Client;
use crate::engine::{Options, Phase};
use crate::error::{Code, Error};
use crate::proto::{
    ContainerConfig, ContainerState, ImageSpec, Kept, PodSandboxConfig, RestorePodRequest,
    RestorePodResponse, RestoredContainer,
};

/// A pod that was made of a checkpoint.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Restored {
    /// The answer to the request.
    pub response: RestorePodResponse,
    /// Differences to the checkpoint that the caller may want to know of, in words.
    pub notes: Vec<String>,
}

impl Pods {
    /// Makes a sandbox, and containers that go on from a checkpoint when they are started. The
    /// checkpoint is only read, and need not stay.
    ///
    /// # Errors
    /// [`Refusal`]. Nothing that was made is left.
    pub async fn restore(
        &self,
        request: RestorePodRequest,
        deadline: Option<Instant>,
        cancel: &Cancel,
    ) -> Result<Restored, Refusal> {
        let deadline = deadline.ok_or_else(|| {
            Refusal::invalid("a deadline is missing: set one on the call, as the CRI asks for")
        })?;
        let options = Options::parse(&request.options, &*self.tool, Phase::Restore)?;
        let from = PathBuf::from(&request.checkpoint_path);
        if !is_clean(&from) {
            return Err(Refusal::invalid("checkpoint_path: wanted an absolute path without `..`"));
        }
        let config = request.config.ok_or_else(|| Refusal::invalid("config is missing"))?;
        let client = self.client.within(left(deadline)?);
        let engine = EngineFacts::of(&client).await?;
        let handler = &request.runtime_handler;
        if engine.runtime(handler) != Some(RUNC) {
            let text = format!(
                "the runtime handler `{}` is {}, wanted one of {RUNC}, by which containers of this \
                 kind were saved",
                engine.handler(handler).escape_debug(),
                engine.runtime(handler).unwrap_or("none of the engine's"),
            );
            return Err(Refusal::invalid(text));
        }

        let Verified { record, archives, mut notes } = self.read(&from, cancel).await?;
        let (configs, differences) = paired(&record, &request.container_configs)?;
        notes.extend(differences);
        let wanted = CriuOptions::of(&record, &options);
        let way = wanted.way(&record, &engine, handler, &self.settings)?;
        let shuts = wanted.keep_connections() && record.containers.len() > 1;

        let mut made = Made {
            client: client.clone(),
            sandbox: None,
            options: None,
            state: Arc::clone(&self.state),
            done: false,
        };
        let result = self
            .make(
                &mut made,
                deadline,
                cancel,
                Plan {
                    config,
                    handler,
                    record: &record,
                    archives,
                    configs,
                    shuts,
                    options: &wanted,
                    way,
                },
            )
            .await;
        match result {
            Ok(response) => {
                made.done = true;
                Ok(Restored { response, notes })
            }
            Err(refusal) => match made.undo().await {
                Ok(()) => Err(refusal),
                Err(error) => Err(refusal.and(&format!("what was made is left: {error}"))),
            },
        }
    }

    /// Makes the sandbox and its containers.
    async fn make(
        &self,
        made: &mut Made,
        deadline: Instant,
        cancel: &Cancel,
        plan: Plan<'_>,
    ) -> Result<RestorePodResponse, Refusal> {
        go_on(cancel)?;
        let client = self.client.within(left(deadline)?);
        let id = client.run_sandbox(plan.config.clone(), plan.handler).await?;
        made.sandbox = Some(id.clone());
        let sandbox = SandboxFacts::of(&client, &id).await?;
        let shuts = plan.shuts;
        if shuts && !sandbox.has_own_network() {
            let text = "the containers have connections, and the pod is in the machine's network, \
                        which cannot be shut while they start: restore with the option tcp=close, \
                        or into a pod with a network of its own";
            return Err(Refusal::state(text));
        }
        let mut options = None;
        if let Way::File(name) = &plan.way {
            plan.options.write(&self.state, name, &self.settings.runtime_config)?;
            made.options = Some(name.clone());
            options = Some(name.clone());
        }
        let file = options.as_deref().map(|name| self.state.place(name));
        let mut response =
            RestorePodResponse { pod_sandbox_id: id.clone(), ..RestorePodResponse::default() };
        for Container { name, .. } in &plan.record.containers {
            go_on(cancel)?;
            let (Some(config), Some(archive)) = (plan.configs.get(name), plan.archives.get(name))
            else {
                return Err(Refusal::new(Code::Internal, "a container has no archive"));
            };
            let mut config = config.clone();
            let image = ImageSpec { image: archive.path.clone(), ..ImageSpec::default() };
            config.overlay(&ContainerConfig { image: Some(image), ..ContainerConfig::default() });
            let client = self.client.within(left(deadline)?);
            let container =
                client.create_container(&id, config, plan.config.clone()).await.map_err(
                    |error| Refusal::new(error.code(), format!("container {name}: {error}")),
                )?;
            let saved = archive.spec.as_ref();
            check_created(&client, name, &container, saved, file.as_deref()).await?;
            let name = name.clone();
            let restored = RestoredContainer { name, container_id: container };
            response.restored_containers.push(restored);
        }
        go_on(cancel)?;
        let new = NewPod {
            sandbox: id,
            containers: response
                .restored_containers
                .iter()
                .map(|one| one.container_id.clone())
                .collect(),
            network: shuts.then_some(sandbox.pid),
            options,
        };
        self.starts.add(new)?;
        Ok(response)
    }

    /// Reads and verifies the record.
    async fn read(&self, from: &Path, cancel: &Cancel) -> Result<Verified, Refusal> {
        let (from, cancel, tool) = (from.to_path_buf(), cancel.clone(), Arc::clone(&self.tool));
        let work = tokio::task::spawn_blocking(move || verified(&from, &tool.tool()?, &cancel));
        work.await.unwrap_or_else(|_| Err(Refusal::new(Code::Internal, "the work has panicked")))
    }
}

/// A pod to make.
struct Plan<'a> {
    config: Kept<PodSandboxConfig>,
    handler: &'a str,
    record: &'a Record,
    /// The archives, by the names of the containers.
    archives: BTreeMap<String, Saved>,
    configs: Configs,
    /// Set if the network is shut while the containers start.
    shuts: bool,
    options: &'a CriuOptions,
    way: Way,
}

/// The archive of a container.
struct Saved {
    path: String,
    /// The runtime's specification at the checkpoint.
    spec: Option<SpecDump>,
}

/// A record whose files are as it says.
struct Verified {
    record: Record,
    /// The archives, by the names of the containers.
    archives: BTreeMap<String, Saved>,
    /// Findings that are no errors.
    notes: Vec<String>,
}

/// Things that were made, and are removed after a failure.
struct Made {
    client: Client,
    sandbox: Option<String>,
    /// The file of CRIU's options.
    options: Option<String>,
    state: Arc<StateDir>,
    done: bool,
}

impl Made {
    async fn undo(&mut self) -> Result<(), Error> {
        if let Some(options) = self.options.take().filter(|_| !self.done) {
            let _ = self.state.remove(&options);
        }
        let Some(sandbox) = self.sandbox.take().filter(|_| !self.done) else { return Ok(()) };
        let client = self.client.within(TIME_TO_UNDO);
        client.stop_sandbox(&sandbox).await?;
        // With its containers.
        client.remove_sandbox(&sandbox).await
    }
}

/// Checks that a container waits for its start, and that the runtime will find CRIU's options.
async fn check_created(
    client: &Client,
    name: &str,
    id: &str,
    saved: Option<&SpecDump>,
    options: Option<&Path>,
) -> Result<(), Refusal> {
    let facts = ContainerFacts::of(client, id).await?;
    if facts.status.state() != ContainerState::ContainerCreated {
        return Err(Refusal::state(format!("container {name}: is not in the state CREATED")));
    }
    // The processes get the labels of the checkpoint, whatever the specification asks for.
    let new = SpecDump::deserialize(&facts.spec);
    let new = new.map_err(|_| Refusal::state(format!("container {name}: no specification")))?;
    let changes = saved.map(|saved| label_changes(saved, &new)).unwrap_or_default();
    if let Some(change) = changes.first() {
        let text = format!("container {name}: the engine cannot restore another label: {change}");
        return Err(Refusal::state(text));
    }
    let Some(wanted) = options else { return Ok(()) };
    let found = facts.spec.get("annotations").and_then(|all| all.get(CRIU_CONFIG)?.as_str());
    if found.map(Path::new) != Some(wanted) {
        let text = format!(
            "container {name}: the engine hands {CRIU_CONFIG} = {} on to the runtime, wanted {}",
            found.unwrap_or("nothing").escape_debug(),
            wanted.display()
        );
        return Err(Refusal::state(text));
    }
    Ok(())
}

/// Reads a record, and verifies its files.
fn verified(from: &Path, tool: &Tool, cancel: &Cancel) -> Result<Verified, Refusal> {
    let wrong = |text: String| Refusal::invalid(format!("{}: {text}", from.display()));
    let holder = Holder::open(from).map_err(|error| wrong(error.to_string()))?;
    if holder.in_archive().is_some() {
        return Err(wrong("is no directory".into()));
    }
    let record = Record::read(&holder).map_err(|error| wrong(error.to_string()))?;
    if !record.state.is_usable() {
        return Err(wrong(format!("the checkpoint is in the state {}", record.state)));
    }
    let watch = |_| {
        if cancel.is_cancelled() {
            std::ops::ControlFlow::Break(())
        } else {
            std::ops::ControlFlow::Continue(())
        }
    };
    let mut host = Host::here();
    host.programs = Some(vec![Program::new(tool.kind.clone(), &tool.version, "")]);
    let findings = record.verify(&host, &holder, &watch)?;
    let (errors, others): (Vec<_>, Vec<_>) = findings.iter().partition(|found| found.is_error());
    if let Some(first) = errors.first() {
        let is_lost = first.about == About::Files;
        let code = if is_lost { Code::DataLoss } else { Code::FailedPrecondition };
        let all: Vec<String> = errors.iter().map(ToString::to_string).collect();
        return Err(Refusal::new(code, format!("{}: {}", from.display(), all.join("; "))));
    }
    let notes = others.iter().map(ToString::to_string).collect();
    let mut archives = BTreeMap::new();
    for container in &record.containers {
        let name = &container.name;
        if container.tool.kind != ToolKind::Criu {
            let text = format!("container {name} was saved by {}", container.tool.kind);
            return Err(wrong(format!("{text}, wanted {}", ToolKind::Criu)));
        }
        let mut found = container.files.iter().filter(|file| file.role == Role::Archive);
        let (Some(file), None) = (found.next(), found.next()) else {
            return Err(wrong(format!("container {name}: wanted one archive in the record")));
        };
        let path = from.join(&file.path).into_os_string().into_string();
        let path = path.map_err(|_| wrong("the path is not UTF-8".into()))?;
        let archive = Archive::open(&path).map_err(|error| wrong(error.to_string()))?;
        let spec = Metadata::of(archive.name(), &archive.folder("")).spec();
        let spec = spec.map_err(|error| wrong(error.to_string()))?;
        archives.insert(name.clone(), Saved { path, spec });
    }
    Ok(Verified { record, archives, notes })
}

/// Returns the time until a deadline.
fn left(deadline: Instant) -> Result<Duration, Refusal> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(Refusal::new(Code::DeadlineExceeded, "the deadline has passed"));
    }
    Ok(left)
}

/// The runtime whose containers are restored.
const RUNC: &str = "io.containerd.runc.v2";

/// Time for removing what was made.
const TIME_TO_UNDO: Duration = Duration::from_secs(30);
