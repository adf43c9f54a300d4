//! `RestorePod`.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use criu_archive::Archive;
use criu_archive::metadata::{Metadata, SpecDump, label_changes};
use criu_archive::record::{About, Container, Holder, Host, Program, Record, Role, Tool, ToolKind};
use criu_rs::Cancel;
use serde::Deserialize;
use tokio::time::sleep;

use super::begun::Begun;
use super::compare::{Configs, paired};
use super::criu_options::{CRIU_CONFIG, CriuOptions, Way};
use super::facts::{ContainerFacts, EngineFacts, SandboxFacts};
use super::refusal::{Refusal, cancelled, go_on};
use super::starts::NewPod;
use super::state_dir::is_clean;
use super::{Pods, RUNC};
use crate::client::Client;
use crate::engine::{Options, Phase};
use crate::error::{Code, Error, ErrorKind};
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
        let begun = Instant::now();
        let deadline = deadline.ok_or_else(|| {
            Refusal::invalid("a deadline is missing: set one on the call, as the CRI asks for")
        })?;
        // Time to remove what was made comes out of the caller's.
        let left = deadline.saturating_duration_since(begun);
        let deadline = deadline.checked_sub((left / 2).min(TIME_TO_UNDO)).unwrap_or(deadline);
        let client = self.client.until(deadline);
        let options = Options::parse(&request.options, &*self.tool, Phase::Restore)?;
        let from = PathBuf::from(&request.checkpoint_path);
        if !is_clean(&from) {
            let found = request.checkpoint_path.escape_debug();
            let why = format!("checkpoint_path `{found}`: wanted an absolute path without `..`");
            return Err(Refusal::invalid(why));
        }
        let config = request.config.ok_or_else(|| Refusal::invalid("config is missing"))?;
        let engine = unless(cancel, EngineFacts::of(&client)).await?;
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

        let Verified { record, archives, mut notes } = self.read(&from, deadline, cancel).await?;
        let (configs, differences) = paired(&record, &request.container_configs)?;
        notes.extend(differences);
        let wanted = CriuOptions::of(&record, &options);
        let way = wanted.way(&record, &engine, handler, &self.settings)?;
        let shuts = wanted.keep_connections() && record.containers.len() > 1;
        let plan = Plan {
            config,
            handler,
            record: &record,
            archives,
            configs,
            shuts,
            way,
            bundles: engine.bundles().to_path_buf(),
        };

        // The names of a pod that was not finished may be the names of this one.
        notes.extend(unless(cancel, async { Ok(self.remove_begun(&client).await) }).await?);
        let mut begun = self.noted(Begun::new(left)).await?;
        match self.make(&client, &mut begun, deadline, cancel, plan).await {
            Ok(response) => {
                self.blocking(move |pods| pods.unnote(&begun, true)).await?;
                Ok(Restored { response, notes })
            }
            Err(refusal) => match self.undo(begun).await {
                Ok(()) => Err(refusal),
                Err(error) => Err(refusal.and(&format!("what was made is left: {error}"))),
            },
        }
    }

    /// Makes the sandbox and its containers.
    async fn make(
        &self,
        client: &Client,
        begun: &mut Begun,
        deadline: Instant,
        cancel: &Cancel,
        plan: Plan<'_>,
    ) -> Result<RestorePodResponse, Refusal> {
        go_on(cancel)?;
        let config = begun.marked(&plan.config);
        begun.asked();
        let made = {
            let made = client.run_sandbox(config.clone(), plan.handler);
            // The engine has a while to tell the id.
            let over = async {
                let refusal = cancelled(cancel).await;
                sleep(TIME_TO_TELL).await;
                refusal
            };
            tokio::select! {
                biased;
                made = made => made,
                refusal = over => return Err(refusal),
            }
        };
        if let Err(ErrorKind::Refused { .. }) = made.as_ref().map_err(Error::kind) {
            begun.refused();
        }
        let id = made?;
        begun.made(&id);
        *begun = self.noted(begun.clone()).await?;
        let sandbox = unless(cancel, SandboxFacts::of(client, &id)).await?;
        let shuts = plan.shuts;
        if shuts && !sandbox.has_own_network() {
            let text = "the containers have connections, and the pod is in the machine's network, \
                        which cannot be shut while they start: restore with the option tcp=close, \
                        or into a pod with a network of its own";
            return Err(Refusal::state(text));
        }
        let options = match plan.way {
            Way::File(file) => Some(file),
            Way::Machine => None,
        };
        if let Some(file) = options.clone() {
            begun.options(&file);
            *begun = self.noted(begun.clone()).await?;
            self.blocking(move |pods| file.write(&pods.settings.options)).await??;
        }
        let file = options.as_ref().map(|file| self.settings.options.join(&file.name));
        let mut response =
            RestorePodResponse { pod_sandbox_id: id.clone(), ..RestorePodResponse::default() };
        for Container { name, .. } in &plan.record.containers {
            let (Some(own), Some(archive)) = (plan.configs.get(name), plan.archives.get(name))
            else {
                return Err(Refusal::new(Code::Internal, "a container has no archive"));
            };
            let mut own = own.clone();
            let image = ImageSpec { image: archive.path.clone(), ..ImageSpec::default() };
            own.overlay(&ContainerConfig { image: Some(image), ..ContainerConfig::default() });
            let saved = archive.spec.as_ref();
            let created = async {
                let created = client.create_container(&id, own, config.clone()).await;
                let created = created.map_err(|error| {
                    Refusal::new(error.code(), format!("container {name}: {error}"))
                })?;
                check_created(client, name, &created, saved, file.as_deref()).await?;
                Ok(created)
            };
            let created = unless(cancel, created).await?;
            let restored = RestoredContainer { name: name.clone(), container_id: created };
            response.restored_containers.push(restored);
        }
        go_on(cancel)?;
        in_time(deadline)?;
        let new = NewPod {
            sandbox: id,
            containers: response
                .restored_containers
                .iter()
                .map(|one| one.container_id.clone())
                .collect(),
            network: shuts.then_some(sandbox.pid),
            options,
            bundles: plan.bundles,
        };
        self.blocking(move |pods| pods.starts.add(new)).await??;
        Ok(response)
    }

    /// Removes what was made. What is left is for [`tidy`](Self::tidy).
    async fn undo(&self, begun: Begun) -> Result<(), Error> {
        let client = self.client.until(Instant::now() + TIME_TO_REMOVE);
        let removed = begun.remove(&client).await;
        self.blocking(move |pods| pods.undone(begun, removed)).await.unwrap_or(Ok(()))
    }

    /// Writes a note, and returns it.
    async fn noted(&self, begun: Begun) -> Result<Begun, Refusal> {
        self.blocking(move |pods| pods.note(&begun).map(|()| begun)).await?
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let pods = self.clone();
        let done = tokio::task::spawn_blocking(move || work(&pods)).await;
        done.map_err(|_| Refusal::new(Code::Internal, "the work has panicked"))
    }

    /// Reads and verifies the record.
    async fn read(
        &self,
        from: &Path,
        deadline: Instant,
        cancel: &Cancel,
    ) -> Result<Verified, Refusal> {
        let (from, cancel) = (from.to_path_buf(), cancel.clone());
        let verified = self.blocking(move |pods| {
            let is_over = || cancel.is_cancelled() || Instant::now() >= deadline;
            verified(&from, &pods.tool.tool()?, &is_over)
        });
        let verified = verified.await?;
        // It ends early in time, too.
        in_time(deadline)?;
        verified
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
    way: Way,
    /// The folder of the engine's bundles.
    bundles: PathBuf,
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
fn verified(
    from: &Path,
    tool: &Tool,
    is_over: &(dyn Fn() -> bool + Sync),
) -> Result<Verified, Refusal> {
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
        if is_over() {
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

/// Waits for work, unless the operation is cancelled.
async fn unless<T>(
    cancel: &Cancel,
    work: impl Future<Output = Result<T, Refusal>>,
) -> Result<T, Refusal> {
    tokio::select! {
        biased;
        refusal = cancelled(cancel) => Err(refusal),
        done = work => done,
    }
}

fn in_time(deadline: Instant) -> Result<(), Refusal> {
    if Instant::now() < deadline {
        return Ok(());
    }
    Err(Refusal::new(Code::DeadlineExceeded, "the time for the restore is over"))
}

/// Longest part of the caller's time that is kept for removing what was made.
const TIME_TO_UNDO: Duration = Duration::from_secs(5);

/// Time for removing what was made, also after the caller's time. A container may take long to
/// stop.
const TIME_TO_REMOVE: Duration = Duration::from_secs(30);

/// Time for the engine to tell the id of a sandbox after the operation was cancelled.
const TIME_TO_TELL: Duration = Duration::from_secs(5);
