//! `cri restore`: brings a container or a pod back.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use criu_cri::proto::{ContainerConfig, ImageSpec, Kept, PodSandboxConfig, PullImageRequest};
use prost::Message;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::archives::{Place, Private, WayArgs, of_container};
use super::checkpoint::pair;
use super::derive::Told;
use super::engine::{Engine, EngineArgs};
use super::find::Node;
use super::steps::Steps;
use super::whole::Whole;
use crate::exit::Exit;
use crate::fault::Fault;
use crate::output::Output;
use crate::shown::one_line;
use crate::tool::Fallible;

/// Options of `cri restore`.
#[derive(Args)]
pub(super) struct Restore {
    /// The directory of a pod, an archive of a container or a pod, or an image of one:
    /// HOST[:PORT]/NAME[:TAG][@DIGEST], oci:DIR[:TAG] or oci-archive:FILE[:TAG]
    #[arg(value_name = "FROM")]
    from: PathBuf,
    /// A pod that runs, which gets the container: [NAMESPACE/]POD or the beginning of the sandbox's
    /// id. By default a new pod is made
    #[arg(long, value_name = "POD", requires = "pod_config")]
    pod: Option<String>,
    /// The pod's configuration as JSON, in the form of crictl. By default it is that of the record,
    /// or made of what the archive tells: names and namespaces
    #[arg(long, value_name = "FILE")]
    pod_config: Option<PathBuf>,
    /// A container's configuration as JSON, in the form of crictl; the image in it does not matter.
    /// For a pod there can be one for each container. By default it is that of the record, or made
    /// of what the archive tells: name, mounts and hidden paths
    #[arg(long = "container-config", value_name = "FILE", conflicts_with = "mounts")]
    container_configs: Vec<PathBuf>,
    /// A path of this node for a mount of a container that is not in a pod's record
    #[arg(long = "mount", value_name = "PATH:CONTAINER_PATH", value_parser = mount)]
    mounts: Vec<(String, String)>,
    /// The runtime of a new pod, by its name in the engine's configuration. By default that of the
    /// record, or the engine's own
    #[arg(long, value_name = "NAME", conflicts_with = "pod")]
    runtime_handler: Option<String>,
    /// An option for the engine that restores a pod. Engines refuse options that they do not know
    #[arg(long = "option", value_name = "NAME=VALUE", value_parser = pair)]
    options: Vec<(String, String)>,
    #[command(flatten)]
    way: WayArgs,
    /// Print one JSON object on standard output
    #[arg(long, help_heading = "This program")]
    json: bool,
}

impl Restore {
    pub(super) fn run(self, name: &str, args: &EngineArgs) -> Fallible<ExitCode> {
        let output = Output::new(name, "cri", self.json);
        let from = Place::of(&self.from);
        let mut steps = Steps::new();
        let engine = args.connect()?;
        let (archive, _private) = self.fetch(&engine, &from, &mut steps)?;
        let (new, pod) = match Whole::open(&archive, &self.way.beside(&from))? {
            Some(whole) => (self.start_pod(&engine, &whole, &mut steps)?, true),
            None => (self.start_container(&engine, &archive, &mut steps)?, false),
        };
        let New { sandbox, containers } = new;
        let show = self.from.display();
        let said = match &*containers {
            [(name, id)] if !pod => format!("{show} runs as {name}, {id}, in {sandbox}"),
            _ => format!("{show} runs as {sandbox}, {} containers", containers.len()),
        };
        let rows = containers.iter().map(|(name, id)| json!({ "name": name, "id": id }));
        let mut facts = json!({ "sandbox": sandbox, "containers": rows.collect::<Vec<_>>() });
        steps.add_to(&mut facts);
        output.done(format!("{said}: {steps}"), facts);
        Ok(Exit::Done.into())
    }

    /// Makes a pod of a directory with a record, and lets its containers run.
    fn start_pod(&self, engine: &Engine, whole: &Whole, steps: &mut Steps) -> Result<New, Fault> {
        if self.pod.is_some() || !self.mounts.is_empty() {
            let text = "--pod and --mount are for a container, and this is a pod";
            return Err(Fault::usage(text));
        }
        let pod = self.pod_config.as_deref().map(read).transpose()?;
        let mut containers = BTreeMap::new();
        for path in &self.container_configs {
            let config: Kept<ContainerConfig> = read(path)?;
            containers.insert(name_in(&config)?, config);
        }
        let handler = self.runtime_handler.as_deref();
        let request = whole.request(pod, containers, handler, &self.options)?;
        let config = request.config.clone().unwrap_or_default();
        steps.end("check");
        for image in whole.images() {
            fetch_base(engine, image, &config)?;
        }
        steps.end("image");
        let mut undo = Undo { engine, sandbox: None, container: None, logs: Vec::new() };
        make_logs(&config, &mut undo.logs)?;
        let made = engine.make("making the pod", engine.client.restore_pod(request))?;
        undo.sandbox = Some(made.pod_sandbox_id.clone());
        engine.stopped()?;
        steps.end("create");
        let containers = made.restored_containers.into_iter();
        let mut containers: Vec<_> = containers.map(|one| (one.name, one.container_id)).collect();
        containers.sort_by_key(|(name, _)| whole.place(name));
        for (name, id) in &containers {
            engine.make(&format!("restoring {name}"), engine.client.start_container(id))?;
            engine.stopped()?;
        }
        steps.end("start");
        undo.keep();
        Ok(New { sandbox: made.pod_sandbox_id, containers })
    }

    /// Makes a pod and a container of an archive, and lets the container run.
    fn start_container(
        &self,
        engine: &Engine,
        archive: &Path,
        steps: &mut Steps,
    ) -> Result<New, Fault> {
        if !self.options.is_empty() {
            let text = "--option: engines take options for pods, and not for containers";
            return Err(Fault::usage(text));
        }
        let told = Told::of(&of_container(archive)?)?;
        let (pod, container) = self.configs(&told)?;
        steps.end("check");
        match &*told.base {
            "" => {}
            base if base.starts_with("sha256:") => {
                return Err(Fault::Failed(format!(
                    "{}: the container's image has no name in a registry, only {}: containerd \
                     restores containers of images that it has pulled",
                    self.from.display(),
                    one_line(base)
                )));
            }
            base => fetch_base(engine, base, &pod)?,
        }
        steps.end("image");
        self.start(engine, archive, (pod, container), steps)
    }

    /// Returns the absolute path of the archive, and the directory that holds it if it was fetched.
    fn fetch(
        &self,
        engine: &Engine,
        from: &Place,
        steps: &mut Steps,
    ) -> Fallible<(PathBuf, Option<Private>)> {
        match from {
            Place::Image(named) => {
                let private = Private::new(&self.way.beside(from))?;
                let archive = private.path("checkpoint.tar");
                self.way.fetch(engine, named, &archive)?;
                steps.end("fetch");
                Ok((archive, Some(private)))
            }
            Place::File(path) | Place::Directory(path) => {
                let named = |error: std::io::Error| format!("{}: {error}", path.display());
                Ok((fs::canonicalize(path).map_err(named)?, None))
            }
        }
    }

    /// Makes or reads the configurations.
    fn configs(
        &self,
        told: &Told,
    ) -> Result<(Kept<PodSandboxConfig>, Kept<ContainerConfig>), Fault> {
        let pod = match &self.pod_config {
            Some(path) => read(path)?,
            None => Kept::new(&told.pod()),
        };
        let container = match &*self.container_configs {
            [path] => read(path)?,
            [] => {
                let given: BTreeMap<_, _> = self.mounts.iter().cloned().collect();
                Kept::new(&told.container(&given)?)
            }
            _ => return Err(Fault::usage("--container-config: there is one container")),
        };
        Ok((pod, container))
    }

    /// Makes the pod and the container, and lets the container run. After a failure there is
    /// neither.
    fn start(
        &self,
        engine: &Engine,
        archive: &Path,
        (pod, mut container): (Kept<PodSandboxConfig>, Kept<ContainerConfig>),
        steps: &mut Steps,
    ) -> Result<New, Fault> {
        let client = &engine.client;
        let handler = self.runtime_handler.as_deref().unwrap_or_default();
        let name = name_in(&container)?;
        let image = ImageSpec { image: archive.display().to_string(), ..ImageSpec::default() };
        container.overlay(&ContainerConfig { image: Some(image), ..ContainerConfig::default() });
        let mut undo = Undo { engine, sandbox: None, container: None, logs: Vec::new() };
        make_logs(&pod, &mut undo.logs)?;
        let sandbox = match &self.pod {
            Some(name) => {
                let node = engine.run("asking the engine", Node::ask(client))?;
                node.find_pod(name)?.sandbox.id.clone()
            }
            None => {
                let made = client.run_sandbox(pod.clone(), handler);
                let made = engine.make("making the pod", made)?;
                undo.sandbox = Some(made.clone());
                made
            }
        };
        engine.stopped()?;
        steps.end("pod");
        let made = client.create_container(&sandbox, container, pod);
        let made = engine.make("making the container", made)?;
        undo.container = Some(made.clone());
        engine.stopped()?;
        steps.end("create");
        engine.make("restoring the container", client.start_container(&made))?;
        engine.stopped()?;
        steps.end("start");
        undo.keep();
        Ok(New { sandbox, containers: vec![(name, made)] })
    }
}

/// A pod, and containers in it with their names and ids.
struct New {
    sandbox: String,
    containers: Vec<(String, String)>,
}

/// Has the engine pull the image of a root file system.
///
/// containerd pulls the image itself when it restores, without its settings for registries. A pull
/// by the settings fails here, before there is a pod.
fn fetch_base(engine: &Engine, base: &str, pod: &Kept<PodSandboxConfig>) -> Result<(), Fault> {
    let image = ImageSpec { image: base.to_owned(), ..ImageSpec::default() };
    if engine.run("asking the engine", engine.client.image(image.clone()))?.is_some() {
        return Ok(());
    }
    let sandbox_config = Some(pod.clone());
    let request = PullImageRequest { image: Some(image), auth: None, sandbox_config };
    engine.run(&format!("pulling {base}"), engine.client.pull_image(request))?;
    Ok(())
}

/// The name in a container's configuration.
fn name_in(config: &Kept<ContainerConfig>) -> Result<String, Fault> {
    let read = config.read().map_err(|error| Fault::Failed(format!("the container: {error}")))?;
    let name = read.metadata.unwrap_or_default().name;
    if name.is_empty() {
        return Err(Fault::usage("--container-config: metadata.name is missing"));
    }
    Ok(name)
}

/// Removes what was made, unless it is kept.
struct Undo<'e> {
    engine: &'e Engine,
    sandbox: Option<String>,
    container: Option<String>,
    /// Directories that were made for logs, the lowest first.
    logs: Vec<PathBuf>,
}

impl Undo<'_> {
    fn keep(&mut self) {
        (self.sandbox, self.container, self.logs) = (None, None, Vec::new());
    }
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        let client = &self.engine.client;
        if let Some(container) = &self.container {
            let _ = self.engine.undo(client.remove_container(container));
        }
        if let Some(sandbox) = &self.sandbox {
            let _ = self.engine.undo(client.stop_sandbox(sandbox));
            let _ = self.engine.undo(client.remove_sandbox(sandbox));
        }
        if let Some((lowest, above)) = self.logs.split_first() {
            let _ = fs::remove_dir_all(lowest);
            for made in above {
                // Another pod may have its logs there by now.
                let _ = fs::remove_dir(made);
            }
        }
    }
}

/// Makes the directory for the pod's logs, as a kubelet does. Adds the directories that are new,
/// the lowest first.
fn make_logs(pod: &Kept<PodSandboxConfig>, new: &mut Vec<PathBuf>) -> Result<(), Fault> {
    let config = pod.read().map_err(|error| Fault::Failed(format!("the pod: {error}")))?;
    let path = Path::new(&config.log_directory);
    let missing = path.ancestors().take_while(|path| *path != Path::new("") && !path.exists());
    new.extend(missing.map(Path::to_owned));
    if new.is_empty() {
        return Ok(());
    }
    fs::create_dir_all(path)
        .map_err(|source| Fault::system(format!("make {}", path.display()), source))
}

/// Reads a configuration from a file.
fn read<T>(path: &Path) -> Result<Kept<T>, Fault>
where
    T: Message + Default + DeserializeOwned,
{
    let failed = |why: String| Fault::usage(format!("{}: {why}", path.display()));
    let size = fs::metadata(path).map_err(|error| failed(error.to_string()))?.len();
    if size > MAX_CONFIG {
        return Err(failed(format!("has {size} bytes, at most {MAX_CONFIG} are read")));
    }
    let text = fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    let read = Kept::from_json(&text).map_err(|error| failed(error.to_string()))?;
    match read.ignored.first() {
        Some(field) => Err(failed(format!("the field {field} is unknown"))),
        None => Ok(read.config),
    }
}

/// Reads `PATH:CONTAINER_PATH`. Returns the path in the container first.
fn mount(text: &str) -> Result<(String, String), String> {
    match text.rsplit_once(':') {
        Some((path, inside)) if path.starts_with('/') && inside.starts_with('/') => {
            Ok((inside.to_owned(), path.to_owned()))
        }
        _ => Err("PATH:CONTAINER_PATH is wanted, both absolute".into()),
    }
}

/// Largest configuration that is read, in bytes.
const MAX_CONFIG: u64 = 4 << 20;
