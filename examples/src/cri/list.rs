//! `cri list`: the pods and containers of an engine.

use std::collections::BTreeMap;
use std::fmt;
use std::process::ExitCode;

use clap::Args;
use criu_cri::Code;
use criu_cri::client::Client;
use criu_cri::proto::{CheckpointPodRequest, ContainerState, VersionResponse};
use serde::Serialize;

use super::engine::EngineArgs;
use super::find::{Node, Pod, name_of, runs, short};
use crate::exit::Exit;
use crate::images::show;
use crate::inspect::Table;
use crate::shown::one_line;
use crate::tool::Fallible;

/// Options of `cri list`.
#[derive(Args)]
pub(super) struct List {
    /// List pods and containers that have ended, too
    #[arg(long)]
    all: bool,
    /// Print one JSON object on standard output
    #[arg(long, help_heading = "This program")]
    json: bool,
}

impl List {
    pub(super) fn run(self, args: &EngineArgs) -> Fallible<ExitCode> {
        let engine = args.connect()?;
        let listing = engine.run("asking the engine", Listing::ask(&engine.client, self.all))?;
        show(&listing, self.json)?;
        Ok(Exit::Done.into())
    }
}

/// The pods of an engine. Displays as a table.
#[derive(Serialize)]
struct Listing {
    program: &'static str,
    outcome: &'static str,
    engine: String,
    version: String,
    endpoint: String,
    /// Tells if the endpoint answers `CheckpointPod`.
    checkpoints_pods: bool,
    pods: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    namespace: String,
    name: String,
    uid: String,
    id: String,
    state: &'static str,
    /// Name of the runtime in the engine's configuration; empty for the default one.
    handler: String,
    /// The runtime behind the name, if the engine tells.
    runtime: Option<String>,
    containers: Vec<ContainerRow>,
}

#[derive(Serialize)]
struct ContainerRow {
    name: String,
    id: String,
    state: &'static str,
    image: String,
}

impl Listing {
    async fn ask(client: &Client, all: bool) -> criu_cri::Result<Self> {
        let VersionResponse { runtime_name, runtime_version, .. } = client.version().await?;
        let node = Node::ask(client).await?;
        let mut pods = Vec::new();
        for pod in node.pods.iter().filter(|pod| all || pod.runs()) {
            let info = client.sandbox(&pod.sandbox.id, true).await.map(|answer| answer.info);
            let runtime = info.ok().and_then(|info| runtime_of(&info));
            pods.push(Row::new(pod, runtime, all));
        }
        Ok(Self {
            program: "cri",
            outcome: "done",
            engine: runtime_name,
            version: runtime_version,
            endpoint: client.socket().display().to_string(),
            checkpoints_pods: answers_for_pods(client).await?,
            pods,
        })
    }
}

/// Asks for the checkpoint of no pod, which engines that have the call refuse for another reason
/// than that they do not have it.
async fn answers_for_pods(client: &Client) -> criu_cri::Result<bool> {
    match client.checkpoint_pod(CheckpointPodRequest::default()).await {
        Ok(()) => Ok(true),
        Err(error) if error.code() == Code::Unimplemented => Ok(false),
        Err(error) if matches!(error.code(), Code::Unavailable | Code::DeadlineExceeded) => {
            Err(error)
        }
        Err(_) => Ok(true),
    }
}

/// Reads the runtime of a sandbox from containerd's own facts.
fn runtime_of(info: &BTreeMap<String, String>) -> Option<String> {
    let facts: serde_json::Value = serde_json::from_str(info.get("info")?).ok()?;
    let options = &facts["runtimeOptions"];
    let names = [&options["binary_name"], &options["BinaryName"], &facts["runtimeType"]];
    let name = names.into_iter().filter_map(serde_json::Value::as_str).find(|n| !n.is_empty())?;
    Some(name.to_owned())
}

impl Row {
    fn new(pod: &Pod, runtime: Option<String>, all: bool) -> Self {
        let containers = pod.containers.iter().filter(|container| all || runs(container));
        let containers = containers.map(|container| ContainerRow {
            name: name_of(container).to_owned(),
            id: container.id.clone(),
            state: word(container.state()),
            image: image_of(container),
        });
        let metadata = pod.sandbox.metadata.clone().unwrap_or_default();
        Self {
            namespace: metadata.namespace,
            name: metadata.name,
            uid: metadata.uid,
            id: pod.sandbox.id.clone(),
            state: if pod.runs() { "ready" } else { "not ready" },
            handler: pod.sandbox.runtime_handler.clone(),
            runtime,
            containers: containers.collect(),
        }
    }

    /// The runtime in one word.
    fn runtime(&self) -> String {
        let handler = if self.handler.is_empty() { "default" } else { &self.handler };
        match &self.runtime {
            Some(runtime) => {
                format!("{handler}: {}", runtime.rsplit('/').next().unwrap_or(runtime))
            }
            None => handler.to_owned(),
        }
    }
}

/// The image of a container, by the name that a user wrote if the engine knows it.
fn image_of(container: &criu_cri::proto::Container) -> String {
    let spec = container.image.clone().unwrap_or_default();
    let names = [spec.user_specified_image, spec.image, container.image_ref.clone()];
    names.into_iter().find(|name| !name.is_empty()).unwrap_or_default()
}

impl fmt::Display for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = ["NAMESPACE/POD", "SANDBOX", "RUNTIME", "CONTAINER", "ID", "STATE", "IMAGE"];
        let mut table = Table::new(head);
        for row in &self.pods {
            let pod = [format!("{}/{}", row.namespace, row.name), short(&row.id).to_owned()];
            let mut rows: Vec<[String; 4]> = Vec::new();
            for container in &row.containers {
                let ContainerRow { name, id, state, image } = container;
                rows.push([name.clone(), short(id).into(), (*state).into(), image.clone()]);
            }
            if rows.is_empty() {
                rows.push(["-".into(), "-".into(), row.state.into(), "-".into()]);
            }
            for [name, id, state, image] in rows {
                let [pod, sandbox] = pod.clone();
                table.row([pod, sandbox, row.runtime(), name, id, state, image]);
            }
        }
        let (engine, version) = (one_line(&self.engine), one_line(&self.version));
        let pods =
            if self.checkpoints_pods { "checkpoints pods" } else { "does not checkpoint pods" };
        write!(f, "{engine} {version} at {} {pods}", self.endpoint)?;
        if self.pods.is_empty() {
            return f.write_str("\nno pod runs");
        }
        write!(f, "\n{table}")
    }
}

/// The word for a state.
fn word(state: ContainerState) -> &'static str {
    match state {
        ContainerState::ContainerCreated => "created",
        ContainerState::ContainerRunning => "running",
        ContainerState::ContainerExited => "exited",
        ContainerState::ContainerUnknown => "unknown",
    }
}
