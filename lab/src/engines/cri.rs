//! The part of the container runtime interface (CRI, `runtime.v1`) that the tests use.
//!
//! Messages have only the fields that are used. The numbers are Kubernetes' own.

use std::collections::BTreeMap;
use std::path::Path;

use prost::{Enumeration, Message};

use super::grpc::{Connection, Refusal};

/// A client of a container engine.
#[derive(Debug)]
pub(super) struct Client(Connection);

/// The status of a container.
#[derive(Clone, PartialEq, Message)]
pub struct Container {
    /// The id, of 64 digits.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The state.
    #[prost(enumeration = "State", tag = "3")]
    pub state: i32,
    /// The exit code of a container that has ended.
    #[prost(int32, tag = "7")]
    pub exit_code: i32,
    /// The image.
    #[prost(string, tag = "9")]
    pub image: String,
    /// The reason of its state.
    #[prost(string, tag = "10")]
    pub reason: String,
    /// More about the reason.
    #[prost(string, tag = "11")]
    pub message: String,
}

/// The state of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum State {
    /// A container that was made, and not started.
    Created = 0,
    /// A container that runs.
    Running = 1,
    /// A container that has ended.
    Exited = 2,
    /// A state that the engine does not know.
    Unknown = 3,
}

impl Client {
    /// Connects to the engine at a socket.
    ///
    /// # Errors
    /// If the engine does not answer.
    pub(super) fn new(socket: &Path) -> Result<Self, String> {
        let client = Self(Connection::new(socket)?);
        client
            .runtime::<_, Empty>("Version", &Id { id: "v1".into() })
            .map_err(|error| error.to_string())?;
        Ok(client)
    }

    /// `RunPodSandbox`. Returns its id.
    pub(super) fn run_pod(&self, pod: &Pod) -> Result<String, Refusal> {
        self.runtime("RunPodSandbox", &RunPod { pod: Some(pod.clone()) }).map(|Id { id }| id)
    }

    /// `StopPodSandbox` and `RemovePodSandbox`.
    pub(super) fn remove_pod(&self, pod: &str) -> Result<(), Refusal> {
        self.runtime::<_, Empty>("StopPodSandbox", &Id { id: pod.into() })?;
        self.runtime::<_, Empty>("RemovePodSandbox", &Id { id: pod.into() })?;
        Ok(())
    }

    /// `PullImage`. Returns the engine's name for the image.
    pub(super) fn pull(&self, image: &str) -> Result<String, Refusal> {
        let question = Pull { image: Some(Image { name: image.into() }) };
        self.0.call(&format!("{IMAGES}PullImage"), &question).map(|Id { id }| id)
    }

    /// `CreateContainer`. Returns its id.
    pub(super) fn create(
        &self,
        (id, pod): (&str, &Pod),
        name: &str,
        (image, words): (&str, &[&str]),
        mounts: &[(&Path, &str)],
    ) -> Result<String, Refusal> {
        let mount =
            |&(from, to): &(&Path, &str)| Mount { to: to.into(), from: from.display().to_string() };
        let security = ContainerSecurity {
            namespaces: pod.namespaces(),
            masked: MASKED.map(str::to_owned).into(),
        };
        let config = Config {
            metadata: Some(ContainerName { name: name.into(), attempt: 0 }),
            image: Some(Image { name: image.into() }),
            command: words.iter().map(|&word| word.into()).collect(),
            mounts: mounts.iter().map(mount).collect(),
            log_path: format!("{name}.log"),
            linux: Some(LinuxContainer { security: Some(security) }),
        };
        let question = Create { pod: id.into(), config: Some(config), of_pod: Some(pod.clone()) };
        self.runtime("CreateContainer", &question).map(|Id { id }| id)
    }

    /// `StartContainer`.
    pub(super) fn start(&self, container: &str) -> Result<(), Refusal> {
        self.runtime::<_, Empty>("StartContainer", &Id { id: container.into() }).map(drop)
    }

    /// `RemoveContainer`, which ends a container that runs.
    pub(super) fn remove(&self, container: &str) -> Result<(), Refusal> {
        self.runtime::<_, Empty>("RemoveContainer", &Id { id: container.into() }).map(drop)
    }

    /// `ContainerStatus`.
    pub(super) fn status(&self, container: &str) -> Result<Container, Refusal> {
        let status: Status = self.runtime("ContainerStatus", &Id { id: container.into() })?;
        Ok(status.status.unwrap_or_default())
    }

    /// `CheckpointContainer` into an archive at `to`.
    pub(super) fn checkpoint(&self, container: &str, to: &Path) -> Result<(), Refusal> {
        let to = to.to_str().unwrap().into();
        let question = Checkpoint { container: container.into(), to, timeout: 0 };
        self.runtime::<_, Empty>("CheckpointContainer", &question).map(drop)
    }

    fn runtime<Q: Message, A: Message + Default>(
        &self,
        method: &str,
        question: &Q,
    ) -> Result<A, Refusal> {
        self.0.call(&format!("/runtime.v1.RuntimeService/{method}"), question)
    }
}

impl Pod {
    /// A pod whose containers log into `logs`, in the machine's network or in one of its own.
    pub(super) fn new(name: &str, logs: &Path, network: PodNetwork) -> Self {
        let metadata = PodName {
            name: name.into(),
            uid: format!("{name}-uid"),
            namespace: "tests".into(),
            attempt: 0,
        };
        let namespaces = Namespaces { network: network as i32, pid: CONTAINER };
        Self {
            metadata: Some(metadata),
            log_directory: logs.display().to_string(),
            labels: BTreeMap::from([("made-by".into(), "tests".into())]),
            linux: Some(LinuxPod { security: Some(Security { namespaces: Some(namespaces) }) }),
        }
    }

    /// The namespaces that its containers share.
    fn namespaces(&self) -> Option<Namespaces> {
        self.linux.clone()?.security?.namespaces
    }
}

/// The network of a pod, with the numbers of `NamespaceMode`.
#[derive(Clone, Copy, Debug)]
pub enum PodNetwork {
    /// A network of the pod's own. Nobody else is in it.
    Own = 0,
    /// The network of the machine.
    Machine = 2,
}

/// `NamespaceMode`: a namespace of the container's own.
const CONTAINER: i32 = 1;

/// Some of the files that a kubelet hides from containers.
const MASKED: [&str; 3] = ["/proc/kcore", "/proc/keys", "/proc/timer_list"];

/// Begins the methods of images.
const IMAGES: &str = "/runtime.v1.ImageService/";

/// Messages whose first field is an id, a name or a version.
#[derive(Clone, PartialEq, Message)]
struct Id {
    #[prost(string, tag = "1")]
    id: String,
}

#[derive(Clone, PartialEq, Message)]
struct Empty {}

/// `PodSandboxConfig`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Pod {
    #[prost(message, optional, tag = "1")]
    metadata: Option<PodName>,
    #[prost(string, tag = "3")]
    log_directory: String,
    #[prost(btree_map = "string, string", tag = "6")]
    labels: BTreeMap<String, String>,
    #[prost(message, optional, tag = "8")]
    linux: Option<LinuxPod>,
}

/// `PodSandboxMetadata`.
#[derive(Clone, PartialEq, Message)]
struct PodName {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    uid: String,
    #[prost(string, tag = "3")]
    namespace: String,
    #[prost(uint32, tag = "4")]
    attempt: u32,
}

/// `LinuxPodSandboxConfig`.
#[derive(Clone, PartialEq, Message)]
struct LinuxPod {
    #[prost(message, optional, tag = "2")]
    security: Option<Security>,
}

/// `LinuxSandboxSecurityContext`.
#[derive(Clone, PartialEq, Message)]
struct Security {
    #[prost(message, optional, tag = "1")]
    namespaces: Option<Namespaces>,
}

/// `NamespaceOption`.
#[derive(Clone, PartialEq, Message)]
struct Namespaces {
    #[prost(int32, tag = "1")]
    network: i32,
    #[prost(int32, tag = "2")]
    pid: i32,
}

/// `RunPodSandboxRequest`.
#[derive(Clone, PartialEq, Message)]
struct RunPod {
    #[prost(message, optional, tag = "1")]
    pod: Option<Pod>,
}

/// `ImageSpec`.
#[derive(Clone, PartialEq, Message)]
struct Image {
    #[prost(string, tag = "1")]
    name: String,
}

/// `PullImageRequest`.
#[derive(Clone, PartialEq, Message)]
struct Pull {
    #[prost(message, optional, tag = "1")]
    image: Option<Image>,
}

/// `CreateContainerRequest`.
#[derive(Clone, PartialEq, Message)]
struct Create {
    #[prost(string, tag = "1")]
    pod: String,
    #[prost(message, optional, tag = "2")]
    config: Option<Config>,
    #[prost(message, optional, tag = "3")]
    of_pod: Option<Pod>,
}

/// `ContainerConfig`.
#[derive(Clone, PartialEq, Message)]
struct Config {
    #[prost(message, optional, tag = "1")]
    metadata: Option<ContainerName>,
    #[prost(message, optional, tag = "2")]
    image: Option<Image>,
    #[prost(string, repeated, tag = "3")]
    command: Vec<String>,
    #[prost(message, repeated, tag = "7")]
    mounts: Vec<Mount>,
    #[prost(string, tag = "11")]
    log_path: String,
    #[prost(message, optional, tag = "15")]
    linux: Option<LinuxContainer>,
}

/// `Mount`: a path of the machine that the container sees.
#[derive(Clone, PartialEq, Message)]
struct Mount {
    #[prost(string, tag = "1")]
    to: String,
    #[prost(string, tag = "2")]
    from: String,
}

/// `ContainerMetadata`.
#[derive(Clone, PartialEq, Message)]
struct ContainerName {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(uint32, tag = "2")]
    attempt: u32,
}

/// `LinuxContainerConfig`.
#[derive(Clone, PartialEq, Message)]
struct LinuxContainer {
    #[prost(message, optional, tag = "2")]
    security: Option<ContainerSecurity>,
}

/// `LinuxContainerSecurityContext`.
#[derive(Clone, PartialEq, Message)]
struct ContainerSecurity {
    #[prost(message, optional, tag = "3")]
    namespaces: Option<Namespaces>,
    #[prost(string, repeated, tag = "13")]
    masked: Vec<String>,
}

/// `ContainerStatusResponse`.
#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(message, optional, tag = "1")]
    status: Option<Container>,
}

/// `CheckpointContainerRequest`.
#[derive(Clone, PartialEq, Message)]
struct Checkpoint {
    #[prost(string, tag = "1")]
    container: String,
    #[prost(string, tag = "2")]
    to: String,
    /// Seconds; 0 for the engine's own.
    #[prost(int64, tag = "3")]
    timeout: i64,
}
