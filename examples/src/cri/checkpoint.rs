//! `cri checkpoint`: saves a container or a pod.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use criu_archive::UNWATCHED;
use criu_archive::write::Options;
use criu_cri::proto::{CheckpointContainerRequest, CheckpointPodRequest, Container};
use serde_json::{Value, json};

use super::archives::{Place, Private, Sent, WayArgs, of_container, place};
use super::engine::{Engine, EngineArgs};
use super::find::{Found, Node, Pod, name_of, runs};
use super::steps::Steps;
use crate::exit::Exit;
use crate::fault::Fault;
use crate::output::Output;
use crate::packed::draft;
use crate::target;
use crate::tool::Fallible;

/// Options of `cri checkpoint`.
#[derive(Args)]
pub(super) struct Checkpoint {
    /// The pod or the container: [NAMESPACE/]POD, [[NAMESPACE/]POD/]CONTAINER, or the beginning of
    /// an id
    #[arg(value_name = "POD|CONTAINER")]
    what: String,
    /// An archive, an image (HOST[:PORT]/NAME[:TAG], oci:DIR[:TAG], oci-archive:FILE[:TAG]), or for
    /// a pod a new or empty directory, with a slash at its end
    #[arg(value_name = "TO")]
    to: PathBuf,
    /// An option for the engine that saves the pod. Engines refuse options that they do not know
    #[arg(long = "option", value_name = "NAME=VALUE", value_parser = pair)]
    options: Vec<(String, String)>,
    #[command(flatten)]
    way: WayArgs,
    /// Print one JSON object on standard output
    #[arg(long, help_heading = "This program")]
    json: bool,
}

impl Checkpoint {
    pub(super) fn run(self, name: &str, args: &EngineArgs) -> Fallible<ExitCode> {
        let output = Output::new(name, "cri", self.json);
        let to = Place::of(&self.to);
        let mut steps = Steps::new();
        let engine = args.connect()?;
        let node = engine.run("asking the engine", Node::ask(&engine.client))?;
        let found = node.find(&self.what)?;
        steps.end("find");
        let beside = Private::new(&self.way.beside(&to))?;
        let (title, mut facts) = match found {
            Found::Container(pod, container) => {
                self.refuse(&to)?;
                let title = format!("{}/{}", pod.title(), name_of(container));
                let facts = json!({
                    "namespace": pod.namespace(), "pod": pod.name(), "sandbox": pod.sandbox.id,
                    "container": name_of(container), "id": container.id,
                });
                let archive = beside.path("checkpoint.tar");
                save_container(&engine, args, container, &title, &archive)?;
                steps.end("save");
                of_container(&archive)?;
                steps.end("check");
                (title, facts)
            }
            Found::Pod(pod) => {
                let names: Vec<_> = pod.running().map(name_of).collect();
                let facts = json!({
                    "namespace": pod.namespace(), "pod": pod.name(), "sandbox": pod.sandbox.id,
                    "containers": names,
                });
                let directory = beside.path("pod");
                self.save_pod(&engine, pod, &directory)?;
                steps.end("save");
                if !matches!(to, Place::Directory(_)) {
                    let archive = beside.path("checkpoint.tar");
                    draft(&directory)?.save(&archive, &Options::default(), UNWATCHED)?;
                    steps.end("pack");
                }
                (pod.title(), facts)
            }
        };
        let said = self.keep(&engine, &beside, &to, &mut facts)?;
        steps.end(if let Place::Image(_) = to { "send" } else { "keep" });
        steps.add_to(&mut facts);
        output.done(format!("{title} is in {said}: {steps}"), facts);
        Ok(Exit::Done.into())
    }

    /// Refuses a place that a container cannot go to.
    fn refuse(&self, to: &Place) -> Result<(), Fault> {
        if !self.options.is_empty() {
            return Err(Fault::usage(
                "--option: engines take options for pods, and not for containers",
            ));
        }
        match to {
            Place::Directory(path) => Err(Fault::usage(format!(
                "{}: is a directory: name the archive that the container goes to",
                path.display()
            ))),
            _ => Ok(()),
        }
    }

    /// Has the engine save a pod into a new directory.
    fn save_pod(&self, engine: &Engine, pod: &Pod, directory: &Path) -> Result<(), Fault> {
        if !pod.runs() {
            return Err(Fault::Failed(format!("{}: the pod does not run", pod.title())));
        }
        let ids: Vec<String> = pod.running().map(|container| container.id.clone()).collect();
        if ids.is_empty() {
            return Err(Fault::Failed(format!("{}: no container of the pod runs", pod.title())));
        }
        fs::create_dir(directory)
            .map_err(|source| Fault::system(format!("make {}", directory.display()), source))?;
        let request = CheckpointPodRequest {
            pod_sandbox_id: pod.sandbox.id.clone(),
            output_path: directory.display().to_string(),
            container_ids: ids,
            options: self.options.iter().cloned().collect(),
        };
        let what = format!("saving {}", pod.title());
        engine.run(&what, engine.client.checkpoint_pod(request))
    }

    /// Moves the checkpoint to its place. Returns the place for a person.
    fn keep(
        &self,
        engine: &Engine,
        beside: &Private,
        to: &Place,
        facts: &mut Value,
    ) -> Fallible<String> {
        engine.stopped()?;
        let archive = beside.path("checkpoint.tar");
        match to {
            Place::Image(named) => {
                let Sent { reference, digest, bytes } = self.way.send(engine, &archive, named)?;
                facts["reference"] = reference.clone().into();
                facts["digest"] = digest.into();
                facts["bytes"] = bytes.into();
                Ok(reference)
            }
            Place::File(path) => {
                let size = fs::metadata(&archive).map(|meta| meta.len());
                let size = size.map_err(|error| target::named(&archive.display(), error))?;
                place(&archive, path)?;
                facts["path"] = path.to_string_lossy().into();
                facts["bytes"] = size.into();
                Ok(format!("{}, {size} bytes", path.display()))
            }
            Place::Directory(path) => {
                place(&beside.path("pod"), path)?;
                facts["path"] = path.to_string_lossy().into();
                Ok(path.display().to_string())
            }
        }
    }
}

/// Has the engine save a container into an archive.
fn save_container(
    engine: &Engine,
    args: &EngineArgs,
    container: &Container,
    title: &str,
    archive: &Path,
) -> Result<(), Fault> {
    if !runs(container) {
        return Err(Fault::Failed(format!("{title}: the container does not run")));
    }
    let request = CheckpointContainerRequest {
        container_id: container.id.clone(),
        location: archive.display().to_string(),
        timeout: args.seconds(),
    };
    engine.make(&format!("saving {title}"), engine.client.checkpoint_container(request))?;
    engine.stopped()
}

/// Reads `NAME=VALUE`.
pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(name, _)| !name.is_empty());
    let (name, value) = pair.ok_or("NAME=VALUE is wanted")?;
    Ok((name.to_owned(), value.to_owned()))
}
