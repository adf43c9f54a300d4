//! The engine, a sandbox and its containers, as the engine shows them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use criu_rs::Pid;
use serde_json::Value;

use super::refusal::Refusal;
use crate::client::Client;
use crate::proto::{
    ContainerFilter, ContainerState, ContainerStatus, PodSandboxState, PodSandboxStatus,
};

/// The engine: containerd, whose own facts tell where its runtimes keep their bundles.
#[derive(Debug)]
pub(super) struct EngineFacts {
    /// Name and version.
    pub(super) name: String,
    /// The folder of the bundles.
    tasks: PathBuf,
    config: Value,
}

/// A sandbox.
#[derive(Debug)]
pub(super) struct SandboxFacts {
    pub(super) status: PodSandboxStatus,
    /// The process that holds the namespaces.
    pub(super) pid: Pid,
    /// The configuration.
    pub(super) config: Value,
}

/// A container.
#[derive(Debug)]
pub(super) struct ContainerFacts {
    pub(super) name: String,
    pub(super) status: ContainerStatus,
    /// The first process; `None` of a container that does not run.
    pub(super) pid: Option<Pid>,
    /// The configuration.
    pub(super) config: Value,
    /// The runtime's specification.
    pub(super) spec: Value,
    /// The kind of the runtime, such as `io.containerd.runc.v2`.
    pub(super) runtime: String,
}

impl EngineFacts {
    /// Asks the engine.
    pub(super) async fn of(client: &Client) -> Result<Self, Refusal> {
        let version = client.version().await?;
        let name = format!("{} {}", version.runtime_name, version.runtime_version);
        if version.runtime_name != CONTAINERD {
            let text = format!("pods of the engine {name} cannot be saved here, only containerd's");
            return Err(Refusal::state(text));
        }
        let status = client.status(true).await?;
        let config = object(&status.info, "config", "the engine")?;
        let state = config.get("stateDir").and_then(Value::as_str).map(Path::new);
        let above = state.filter(|path| path.is_absolute()).and_then(Path::parent);
        let above = above.ok_or_else(|| Refusal::state("containerd does not tell its stateDir"))?;
        Ok(Self { name, tasks: above.join(TASKS), config })
    }

    /// The folder of the bundles of containers.
    pub(super) fn bundles(&self) -> &Path {
        &self.tasks
    }

    /// The bundle of a container.
    pub(super) fn bundle(&self, container: &str) -> PathBuf {
        self.tasks.join(container)
    }

    /// The name of a handler in the engine's configuration: an empty one is the default.
    pub(super) fn handler<'a>(&'a self, handler: &'a str) -> &'a str {
        let default = || self.config.pointer("/containerd/defaultRuntimeName")?.as_str();
        if handler.is_empty() { default().unwrap_or_default() } else { handler }
    }

    /// The kind of the runtime of a handler, such as `io.containerd.runc.v2`.
    pub(super) fn runtime(&self, handler: &str) -> Option<&str> {
        self.runtimes()?.get(self.handler(handler))?.get("runtimeType")?.as_str()
    }

    /// Says whether the engine hands an annotation of a container on to the runtime.
    pub(super) fn passes(&self, handler: &str, annotation: &str) -> bool {
        let patterns = || {
            let runtime = self.runtimes()?.get(self.handler(handler))?;
            runtime.get("ContainerAnnotations")?.as_array()
        };
        patterns().into_iter().flatten().filter_map(Value::as_str).any(|pattern| {
            match pattern.strip_suffix('*') {
                Some(begin) => annotation.starts_with(begin),
                None => annotation == pattern,
            }
        })
    }

    fn runtimes(&self) -> Option<&Value> {
        self.config.pointer("/containerd/runtimes")
    }
}

impl SandboxFacts {
    /// Asks the engine about a sandbox, which has to be ready.
    pub(super) async fn of(client: &Client, id: &str) -> Result<Self, Refusal> {
        let answer = client.sandbox(id, true).await?;
        let status = answer.status.unwrap_or_default();
        if status.state() != PodSandboxState::SandboxReady {
            return Err(Refusal::state(format!("the sandbox {id} does not run")));
        }
        let what = format!("the sandbox {id}");
        let mut info = object(&answer.info, "info", &what)?;
        let pid = pid(&info).ok_or_else(|| {
            Refusal::state(format!("{what} has no process that holds its namespaces"))
        })?;
        Ok(Self { status, pid, config: info["config"].take() })
    }

    /// Says whether the pod has a network of its own.
    pub(super) fn has_own_network(&self) -> bool {
        let security = self.config.pointer("/linux/security_context/namespace_options");
        let network = security.and_then(|options| options.get("network"));
        // NODE is 2; POD, which is 0, is left out.
        network.and_then(Value::as_i64).unwrap_or_default() == 0
    }
}

impl ContainerFacts {
    /// Asks the engine about a container.
    pub(super) async fn of(client: &Client, id: &str) -> Result<Self, Refusal> {
        let answer = client.container(id, true).await?;
        let status = answer.status.unwrap_or_default();
        let mut info = object(&answer.info, "info", &format!("the container {id}"))?;
        let name = status.metadata.as_ref().map(|name| name.name.clone()).unwrap_or_default();
        let is_running = status.state() == ContainerState::ContainerRunning;
        Ok(Self {
            name,
            pid: pid(&info).filter(|_| is_running),
            config: info["config"].take(),
            spec: info["runtimeSpec"].take(),
            runtime: info["runtimeType"].as_str().unwrap_or_default().to_owned(),
            status,
        })
    }

    /// The containers that run in a sandbox, in the order in which they started.
    pub(super) async fn running(client: &Client, sandbox: &str) -> Result<Vec<Self>, Refusal> {
        let filter =
            ContainerFilter { pod_sandbox_id: sandbox.into(), ..ContainerFilter::default() };
        let mut all = Vec::new();
        for container in client.containers(Some(filter)).await? {
            if container.state() == ContainerState::ContainerRunning {
                all.push(Self::of(client, &container.id).await?);
            }
        }
        all.retain(|container| container.pid.is_some());
        all.sort_by_key(|container| container.status.started_at);
        Ok(all)
    }

    /// The name of the image with its digest, if the engine has one from a registry.
    pub(super) fn image_with_digest(&self) -> Option<&str> {
        Some(&*self.status.image_ref).filter(|image| image.contains('@'))
    }

    /// The name of the image as the caller named it.
    pub(super) fn image_name(&self) -> &str {
        let image = self.status.image.as_ref();
        let names = image.map(|image| [&*image.user_specified_image, &*image.image]);
        names.into_iter().flatten().find(|name| !name.is_empty()).unwrap_or_default()
    }
}

/// Reads a text of JSON among the engine's own facts.
fn object(info: &BTreeMap<String, String>, key: &str, what: &str) -> Result<Value, Refusal> {
    let text = info.get(key).ok_or_else(|| {
        Refusal::state(format!("the engine tells nothing of its own about {what}"))
    })?;
    let value: Option<Value> = serde_json::from_str(text).ok();
    value.filter(Value::is_object).ok_or_else(|| {
        Refusal::state(format!("the engine's own facts about {what} are no object of JSON"))
    })
}

fn pid(info: &Value) -> Option<Pid> {
    let number = i32::try_from(info.get("pid")?.as_i64()?).ok()?;
    Pid::new(number)
}

/// The engine whose bundles are known.
const CONTAINERD: &str = "containerd";

/// The folder of the bundles of Kubernetes' containers, from containerd's state directory.
const TASKS: &str = "io.containerd.runtime.v2.task/k8s.io";
