//! Facts about the container of a checkpoint, from the metadata of its engine.

use std::collections::BTreeMap;

use criu_images::Text;
use criu_images::source::Source;
use serde::Serialize;
use serde_json::Value;

use super::read;

/// Facts about the container of a checkpoint. Facts that the metadata does not have are `None`, or
/// empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Container {
    /// Engine: "podman", "cri-o" or "containerd"; `None` if the metadata is of another one.
    pub engine: Option<&'static str>,
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
    /// `faults`.
    pub(crate) fn new(top: &dyn Source, faults: &mut Vec<String>) -> Option<Self> {
        let mut value = |name: &str| -> Option<Value> {
            top.size(name).ok().flatten()?;
            let read = read(top, name).and_then(|bytes| {
                serde_json::from_slice(&bytes).map_err(|error| format!("{name}: {error}"))
            });
            read.map_err(|fault| faults.push(fault)).ok()
        };
        let (config, spec) = (value("config.dump"), value("spec.dump"));
        let (networks, status) = (value("network.status"), value("status.dump"));
        if config.is_none() && spec.is_none() && status.is_none() {
            return None;
        }
        let mut container = Self::default();
        container.take_config(&config.unwrap_or_default());
        container.take_spec(&spec.unwrap_or_default());
        container.take_networks(&networks.unwrap_or_default());
        Some(container)
    }

    fn take_config(&mut self, config: &Value) {
        let text = |name: &str| text(config, name);
        let time = |name: &str| text(name).filter(|time| !time.starts_with("0001-"));
        self.name = text("name");
        self.id = text("id");
        self.image = text("rootfsImageName").or_else(|| text("rootfsImage"));
        self.image_ref = text("rootfsImageRef").or_else(|| text("rootfsImageID"));
        self.runtime = text("runtime");
        self.created = time("createdTime");
        self.checkpointed = time("checkpointedTime");
        self.restored = time("restoredTime");
    }

    fn take_spec(&mut self, spec: &Value) {
        let process = &spec["process"];
        self.arguments = texts(&process["args"]);
        self.directory = text(process, "cwd");
        self.hostname = text(spec, "hostname");
        self.cgroup = text(&spec["linux"], "cgroupsPath");
        for mount in spec["mounts"].as_array().into_iter().flatten() {
            self.mounts.push(ContainerMount {
                destination: text(mount, "destination").unwrap_or_default(),
                kind: text(mount, "type").unwrap_or_default(),
                source: text(mount, "source").unwrap_or_default(),
                options: texts(&mount["options"]),
            });
        }
        for (name, value) in spec["annotations"].as_object().into_iter().flatten() {
            let name = Text(name.as_bytes()).to_string();
            self.annotations.insert(name, shown(value).unwrap_or_default());
        }
        let has = |start: &str| self.annotations.keys().any(|name| name.starts_with(start));
        let note = |name: &str| self.annotations.get(name).cloned();
        self.engine = if has("io.kubernetes.cri-o.") {
            Some("cri-o")
        } else if has("io.kubernetes.cri.") {
            Some("containerd")
        } else if note("io.container.manager").as_deref() == Some("libpod") || has("io.podman.") {
            Some("podman")
        } else {
            None
        };
        let first = |names: &[&str]| names.iter().find_map(|name| note(name));
        let pod = Pod {
            name: first(&["io.kubernetes.cri.sandbox-name", "io.kubernetes.pod.name"]),
            namespace: first(&[
                "io.kubernetes.cri.sandbox-namespace",
                "io.kubernetes.pod.namespace",
            ]),
            uid: first(&["io.kubernetes.cri.sandbox-uid", "io.kubernetes.pod.uid"]),
            sandbox: first(&["io.kubernetes.cri.sandbox-id", "io.kubernetes.cri-o.SandboxID"]),
        };
        let address = note("io.kubernetes.cri-o.IP.0");
        let name = first(&["io.kubernetes.cri.container-name", "io.kubernetes.container.name"]);
        self.pod = (pod != Pod::default()).then_some(pod);
        self.name = name.or_else(|| self.name.take());
        if let Some(address) = address {
            let addresses = vec![address];
            self.networks.push(Network { addresses, ..Network::default() });
        }
    }

    fn take_networks(&mut self, networks: &Value) {
        for (network, value) in networks.as_object().into_iter().flatten() {
            for (interface, value) in value["interfaces"].as_object().into_iter().flatten() {
                let subnets = value["subnets"].as_array();
                let subnets = || subnets.into_iter().flatten();
                self.networks.push(Network {
                    network: Text(network.as_bytes()).to_string(),
                    interface: Text(interface.as_bytes()).to_string(),
                    addresses: subnets().filter_map(|subnet| text(subnet, "ipnet")).collect(),
                    gateways: subnets().filter_map(|subnet| text(subnet, "gateway")).collect(),
                    mac: text(value, "mac_address"),
                });
            }
        }
    }
}

fn text(value: &Value, name: &str) -> Option<String> {
    shown(value.get(name)?).filter(|text| !text.is_empty())
}

fn shown(value: &Value) -> Option<String> {
    value.as_str().map(|text| Text(text.as_bytes()).to_string())
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(shown).collect()
}
