//! A node: containerd, a registry with an image, and the client of this crate.

use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use criu_cri::client::Client;
use criu_cri::engine::{Criu, Engine};
use criu_cri::pod::{Pods, Refusal, Settings};
use criu_cri::proto::{
    CheckpointPodRequest, ContainerConfig, ContainerMetadata, ContainerState, ImageSpec, Kept,
    LinuxContainerConfig, LinuxContainerSecurityContext, LinuxPodSandboxConfig,
    LinuxSandboxSecurityContext, Mount, NamespaceMode, NamespaceOption, PodSandboxConfig,
    PodSandboxMetadata,
};
use criu_lab::engines::{Containerd, Podman};
use criu_lab::registry::Registry;
use criu_lab::soon;
use criu_rs::Cancel;
use tokio::runtime::Runtime;

use crate::Bed;

/// A node.
pub struct Scene<'b> {
    pub bed: &'b Bed,
    pub runtime: Runtime,
    pub engine: Containerd,
    pub client: Client,
    image: String,
    place: PathBuf,
    _registry: Registry,
}

/// A pod, and its containers by name.
pub struct Pod {
    pub id: String,
    pub config: Kept<PodSandboxConfig>,
    pub containers: Vec<(String, String)>,
    logs: PathBuf,
}

impl<'b> Scene<'b> {
    /// Starts a node.
    pub fn new(bed: &'b Bed) -> Self {
        let registry = Registry::start(&bed.dir("registry"));
        let podman = Podman::new(bed);
        let image = podman.push(&registry);
        let engine = Containerd::start(bed, &podman.push_pause(&registry));
        engine.pull(&image).unwrap();
        let place = bed.dir("place");
        fs::create_dir(place.join("lib64")).unwrap();
        criu_lab::rootfs::place_program(&place);
        let runtime = Runtime::new().unwrap();
        let client = runtime.block_on(Client::connect(engine.socket())).unwrap();
        Self { bed, runtime, engine, client, image, place, _registry: registry }
    }

    /// Waits for a future.
    pub fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// The checkpoints and restores, with their notes in a directory of this test.
    pub fn pods(&self) -> Pods {
        pods(&self.client, &self.bed.criu, self.state())
    }

    /// Makes pods with notes in this directory, whose networks are shut for this time.
    pub fn pods_with(&self, state: &Path, shut: Duration) -> Pods {
        let mut settings = settings(state.to_path_buf());
        settings.shut = shut;
        let tool: Arc<dyn Engine> = Arc::new(Criu::new(self.bed.criu.clone()));
        Pods::new(self.client.clone(), tool, settings).unwrap()
    }

    /// The directory of the notes.
    pub fn state(&self) -> PathBuf {
        self.bed.dir.join("state")
    }

    /// The notes.
    pub fn notes(&self) -> Vec<String> {
        let mut names: Vec<String> = names(&self.state());
        names.retain(|name| name != "lock");
        names
    }

    /// Starts a pod of containers, each with the words of its program.
    pub fn pod(&self, name: &str, containers: &[(&str, &[&str])]) -> Pod {
        let config = self.pod_config(name);
        let id = self.wait(self.client.run_sandbox(config.clone(), "")).unwrap();
        let logs = self.bed.dir.join(name);
        let mut pod = Pod { id, config, containers: Vec::new(), logs };
        for (name, words) in containers {
            let config = self.config(name, words);
            let made = self.client.create_container(&pod.id, config, pod.config.clone());
            let id = self.wait(made).unwrap();
            self.wait(self.client.start_container(&id)).unwrap();
            pod.containers.push(((*name).into(), id));
        }
        pod
    }

    /// Starts a pod of two containers that talk with each other, and waits until they do.
    pub fn talking(&self, name: &str) -> Pod {
        let pod = self.pod(name, TALKERS);
        self.goes_on(&pod, 0);
        pod
    }

    /// The configuration of a pod.
    pub fn pod_config(&self, name: &str) -> Kept<PodSandboxConfig> {
        let logs = self.bed.dir(name);
        let metadata = PodSandboxMetadata {
            name: name.into(),
            uid: format!("{name}-uid"),
            namespace: "tests".into(),
            attempt: 0,
        };
        let security = LinuxSandboxSecurityContext {
            namespace_options: Some(namespaces()),
            ..LinuxSandboxSecurityContext::default()
        };
        let linux = LinuxPodSandboxConfig {
            cgroup_parent: format!("/kubepods/{name}"),
            security_context: Some(security),
            ..LinuxPodSandboxConfig::default()
        };
        Kept::new(&PodSandboxConfig {
            metadata: Some(metadata),
            log_directory: logs.display().to_string(),
            linux: Some(linux),
            ..PodSandboxConfig::default()
        })
    }

    /// The configuration of a container that runs this program.
    pub fn config(&self, name: &str, words: &[&str]) -> Kept<ContainerConfig> {
        let mount = |from: &str, to: &str| Mount {
            host_path: self.place.join(from).display().to_string(),
            container_path: to.into(),
            ..Mount::default()
        };
        let security = LinuxContainerSecurityContext {
            namespace_options: Some(namespaces()),
            ..LinuxContainerSecurityContext::default()
        };
        Kept::new(&ContainerConfig {
            metadata: Some(ContainerMetadata { name: name.into(), attempt: 0 }),
            image: Some(ImageSpec { image: self.image.clone(), ..ImageSpec::default() }),
            command: words.iter().map(|&word| word.into()).collect(),
            mounts: vec![
                mount("payload", "/payload"),
                mount("lib64", "/lib64"),
                mount("lib64", "/lib/x86_64-linux-gnu"),
            ],
            log_path: format!("{name}.log"),
            linux: Some(LinuxContainerConfig {
                security_context: Some(security),
                ..LinuxContainerConfig::default()
            }),
            ..ContainerConfig::default()
        })
    }

    /// Checks that each container runs, counts on, and comes beyond a number. Returns the smallest
    /// number.
    #[track_caller]
    pub fn goes_on(&self, pod: &Pod, least: u64) -> u64 {
        let mut all = Vec::new();
        for (name, id) in &pod.containers {
            let before = pod.last(name).unwrap_or(0).max(least);
            let counted = soon(|| pod.last(name).is_some_and(|last| last > before));
            let status = self.wait(self.client.container(id, false)).unwrap().status.unwrap();
            assert!(
                counted && status.state() == ContainerState::ContainerRunning,
                "{name} has not counted beyond {before}: {:?} {}",
                status.state(),
                pod.log(name)
            );
            all.push(pod.last(name).unwrap());
        }
        all.into_iter().min().unwrap()
    }

    /// The first process of a container.
    pub fn process(&self, container: &str) -> i32 {
        let answer = self.wait(self.client.container(container, true)).unwrap();
        let info: serde_json::Value = serde_json::from_str(&answer.info["info"]).unwrap();
        info["pid"].as_i64().unwrap().try_into().unwrap()
    }

    /// Removes a pod. As a kubelet does, it asks again after a failure: containerd fails to kill a
    /// container that ends at this moment, because its peer has ended (`ttrpc: closed`).
    #[track_caller]
    pub fn remove(&self, pod: &Pod) {
        let mut stopped = self.wait(self.client.stop_sandbox(&pod.id));
        soon(|| {
            if stopped.is_err() {
                stopped = self.wait(self.client.stop_sandbox(&pod.id));
            }
            stopped.is_ok()
        });
        stopped.unwrap();
        self.wait(self.client.remove_sandbox(&pod.id)).unwrap();
    }

    /// Asks for a checkpoint within a time.
    pub fn save(
        &self,
        pods: &Pods,
        request: CheckpointPodRequest,
        time: Duration,
    ) -> Result<(), Refusal> {
        let cancel = Cancel::new().unwrap();
        let notes = self.wait(pods.checkpoint(request, Some(Instant::now() + time), &cancel))?;
        assert_eq!(notes, [""; 0]);
        Ok(())
    }
}

impl Pod {
    /// A request to save all containers of the pod.
    pub fn request(&self, to: &Path, options: &[(&str, &str)]) -> CheckpointPodRequest {
        let text = |(name, value): &(&str, &str)| ((*name).into(), (*value).into());
        CheckpointPodRequest {
            pod_sandbox_id: self.id.clone(),
            output_path: to.to_str().unwrap().into(),
            container_ids: self.containers.iter().map(|(_, id)| id.clone()).collect(),
            options: options.iter().map(text).collect(),
        }
    }

    /// The log of a container.
    pub fn log(&self, name: &str) -> String {
        fs::read_to_string(self.logs.join(format!("{name}.log"))).unwrap_or_default()
    }

    /// The last number of a container.
    fn last(&self, name: &str) -> Option<u64> {
        self.log(name).lines().filter_map(|line| line.rsplit(' ').next()?.parse().ok()).next_back()
    }

    /// A pod of the same names in another place.
    pub fn restored(
        id: &str,
        config: Kept<PodSandboxConfig>,
        containers: Vec<(String, String)>,
    ) -> Self {
        let logs = config.read().unwrap().log_directory.into();
        Self { id: id.into(), config, containers, logs }
    }
}

/// The checkpoints and restores of a client.
pub fn pods(client: &Client, criu: &criu_rs::Criu, state: PathBuf) -> Pods {
    let tool: Arc<dyn Engine> = Arc::new(Criu::new(criu.clone()));
    Pods::new(client.clone(), tool, settings(state)).unwrap()
}

fn settings(state: PathBuf) -> Settings {
    let mut settings = Settings::default();
    settings.state = state;
    settings
}

/// The names in a directory.
pub fn names(directory: &Path) -> Vec<String> {
    let name = |entry: fs::DirEntry| entry.file_name().into_string().unwrap();
    let mut names: Vec<String> =
        fs::read_dir(directory).unwrap().map(|entry| name(entry.unwrap())).collect();
    names.sort();
    names
}

/// A shared network and shared IPC, and pid namespaces of the containers' own.
fn namespaces() -> NamespaceOption {
    let mut namespaces = NamespaceOption::default();
    namespaces.set_pid(NamespaceMode::Container);
    namespaces
}

/// The words of two containers that talk with each other.
pub const TALKERS: &[(&str, &[&str])] = &[
    ("a", &["/payload", "--payload", "talk", "/count", "serve", "7100"]),
    ("b", &["/payload", "--payload", "talk", "/count", "ask", "7100"]),
];

/// A time that is enough for a checkpoint.
pub const ENOUGH: Duration = Duration::from_secs(60);
