//! Facts about the container of a checkpoint, from the metadata of its engine.

use std::collections::BTreeMap;

use criu_images::Text;
use criu_images::source::Source;
use serde::Serialize;

use super::findings::{Finding, or_finding};
use crate::metadata::{ConfigDump, Engine, Identity, Metadata, Networks, SpecDump, Time};

/// Facts about the container of a checkpoint. Facts that the metadata does not have are `None`, or
/// empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Container {
    /// Engine; `None` if the metadata is of another one than those that are known.
    pub engine: Option<Engine>,
    /// Name of the container.
    pub name: Option<String>,
    /// Id of the container.
    pub id: Option<String>,
    /// Name of the image that the container was made from.
    pub image: Option<String>,
    /// Reference of the image, mostly with its digest.
    pub image_ref: Option<String>,
    /// Runtime, such as `runc`.
    pub runtime: Option<String>,
    /// Time when the container was made, in the form of RFC 3339.
    pub created: Option<String>,
    /// Time of the checkpoint.
    pub checkpointed: Option<String>,
    /// Time when the container was restored from an earlier checkpoint.
    pub restored: Option<String>,
    /// Pod of the container, under Kubernetes.
    pub pod: Option<Pod>,
    /// Networks of the container, and its addresses there.
    pub networks: Vec<Network>,
    /// Command of the container, as its specification has it.
    pub arguments: Vec<String>,
    /// Working directory of the command.
    pub directory: Option<String>,
    /// Name of the host that the container sees.
    pub hostname: Option<String>,
    /// Cgroup of the container.
    pub cgroup: Option<String>,
    /// AppArmor profile or SELinux context that the specification asks for.
    pub label: Option<String>,
    /// The specification makes the root file system read-only.
    pub read_only: bool,
    /// Mounts of the container, as its specification has them.
    pub mounts: Vec<ContainerMount>,
    /// Annotations of the specification.
    pub annotations: BTreeMap<String, String>,
}

/// Pod of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Pod {
    /// Name of the pod.
    pub name: Option<String>,
    /// Namespace of Kubernetes that the pod is in.
    pub namespace: Option<String>,
    /// Unique id that Kubernetes gave the pod.
    pub uid: Option<String>,
    /// Id of the pod's sandbox in the engine.
    pub sandbox: Option<String>,
}

/// Network of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Network {
    /// Name of the network.
    pub network: String,
    /// Name of the interface in the container.
    pub interface: String,
    /// Addresses, with the length of their prefix.
    pub addresses: Vec<String>,
    /// Gateways.
    pub gateways: Vec<String>,
    /// Hardware address.
    pub mac: Option<String>,
}

/// Mount of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ContainerMount {
    /// Path in the container.
    pub destination: String,
    /// Kind of file system, or `bind`.
    pub kind: String,
    /// Path on the host, or a name.
    pub source: String,
    /// Options of the mount.
    pub options: Vec<String>,
}

impl Container {
    /// Reads the metadata; `None` if there is none. Members that cannot be read are added to
    /// the findings.
    pub(crate) fn new(top: &dyn Source, findings: &mut Vec<Finding>) -> Option<Self> {
        let metadata = Metadata::of("", top);
        let config = or_finding(metadata.config(), findings);
        let spec = or_finding(metadata.spec(), findings);
        let networks = or_finding(metadata.networks(), findings);
        if config.is_none() && spec.is_none() {
            return None;
        }
        let engine = Engine::of(top, config.as_ref(), spec.as_ref()).unwrap_or(Engine::Unknown);
        let identity = Identity::of(engine, config.as_ref(), spec.as_ref());
        let mut container = Self {
            engine: (engine != Engine::Unknown).then_some(engine),
            name: text(&identity.container),
            image: text(&identity.image),
            pod: Pod::new(&identity),
            ..Self::default()
        };
        if let Some(config) = &config {
            container.take_config(config);
        }
        if let Some(spec) = &spec {
            container.take_spec(spec);
        }
        if let Some(address) = text(&identity.address) {
            let addresses = vec![address];
            container.networks.push(Network { addresses, ..Network::default() });
        }
        container.take_networks(&networks.unwrap_or_default());
        Some(container)
    }

    fn take_config(&mut self, config: &ConfigDump) {
        let time =
            |time: &Option<Time>| time.as_ref().filter(|time| !time.is_zero()).map(Time::to_string);
        self.id = text(&config.id);
        self.image_ref = text(&config.rootfs_image_ref).or_else(|| text(&config.rootfs_image_id));
        self.runtime = text(&config.runtime);
        self.created = time(&config.created);
        self.checkpointed = time(&config.checkpointed);
        self.restored = time(&config.restored_at);
    }

    fn take_spec(&mut self, spec: &SpecDump) {
        if let Some(process) = &spec.process {
            self.arguments = texts(&process.args);
            self.directory = text(&process.cwd);
            self.label = [&process.apparmor_profile, &process.selinux_label]
                .into_iter()
                .find_map(|label| text(label));
        }
        self.read_only = spec.root.as_ref().is_some_and(|root| root.readonly);
        self.hostname = text(&spec.hostname);
        self.cgroup = spec.linux.as_ref().and_then(|linux| text(&linux.cgroups_path));
        self.mounts.extend(spec.mounts.iter().map(|mount| ContainerMount {
            destination: shown(&mount.destination),
            kind: shown(&mount.kind),
            source: shown(&mount.source),
            options: texts(&mount.options),
        }));
        let annotations = spec.annotations.iter();
        self.annotations.extend(annotations.map(|(name, value)| (shown(name), shown(value))));
    }

    fn take_networks(&mut self, networks: &Networks) {
        for (network, value) in networks {
            for (interface, value) in &value.interfaces {
                let subnets = || value.subnets.iter();
                self.networks.push(Network {
                    network: shown(network),
                    interface: shown(interface),
                    addresses: subnets().filter_map(|subnet| text(&subnet.ipnet)).collect(),
                    gateways: subnets().filter_map(|subnet| text(&subnet.gateway)).collect(),
                    mac: text(&value.mac_address),
                });
            }
        }
    }
}

impl Pod {
    fn new(identity: &Identity) -> Option<Self> {
        let pod = Self {
            name: text(&identity.pod),
            namespace: text(&identity.namespace),
            uid: text(&identity.pod_uid),
            sandbox: text(&identity.sandbox),
        };
        (pod != Self::default()).then_some(pod)
    }
}

/// Makes a text harmless; `None` for an empty one.
fn text(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| shown(text))
}

fn shown(text: &str) -> String {
    Text(text.as_bytes()).to_string()
}

fn texts(all: &[String]) -> Vec<String> {
    all.iter().map(|text| shown(text)).collect()
}
