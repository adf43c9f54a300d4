//! Configurations of a pod and a container, as far as an archive tells them.

use std::collections::BTreeMap;
use std::path::Path;

use criu_archive::Archive;
use criu_archive::metadata::{Identity, Metadata, Mount, SpecDump};
use criu_cri::proto::{
    self, ContainerConfig, ContainerMetadata, ImageSpec, LinuxContainerConfig,
    LinuxContainerSecurityContext, LinuxPodSandboxConfig, LinuxSandboxSecurityContext,
    NamespaceMode, NamespaceOption, PodSandboxConfig, PodSandboxMetadata,
};

use crate::fault::Fault;
use crate::shown::one_line;

/// The names in an archive of one container, and its runtime specification.
pub(super) struct Told {
    pub(super) identity: Identity,
    /// Name of the image that the container was made of, with its digest; empty if the archive
    /// does not tell.
    pub(super) base: String,
    spec: SpecDump,
    archive: String,
}

impl Told {
    /// Reads what an archive tells.
    pub(super) fn of(archive: &Archive) -> Result<Self, Fault> {
        let failed = |error: criu_archive::Error| Fault::Failed(error.to_string());
        let top = archive.folder("");
        let metadata = Metadata::of(archive.name(), &top);
        let identity = metadata.identity().map_err(failed)?;
        let spec = metadata.spec().map_err(failed)?.unwrap_or_default();
        let config = metadata.config().map_err(failed)?.unwrap_or_default();
        let archive = archive.name().to_owned();
        Ok(Self { identity, base: config.rootfs_image_ref, spec, archive })
    }

    /// The configuration of a pod with the same names and the same kind of namespaces.
    pub(super) fn pod(&self) -> PodSandboxConfig {
        let Identity { pod, namespace, pod_uid, .. } = &self.identity;
        let or =
            |text: &str, other: &str| if text.is_empty() { other.into() } else { text.to_owned() };
        let metadata = PodSandboxMetadata {
            name: or(pod, &self.name()),
            uid: or(pod_uid, &self.name()),
            namespace: or(namespace, "default"),
            attempt: 0,
        };
        let folder = format!("{}_{}_{}", metadata.namespace, metadata.name, metadata.uid);
        let context = LinuxSandboxSecurityContext {
            namespace_options: Some(self.namespaces()),
            ..LinuxSandboxSecurityContext::default()
        };
        PodSandboxConfig {
            labels: self.labels(&metadata),
            metadata: Some(metadata),
            hostname: self.spec.hostname.clone(),
            log_directory: format!("/var/log/pods/{}", folder.replace('/', "_")),
            linux: Some(LinuxPodSandboxConfig {
                security_context: Some(context),
                ..LinuxPodSandboxConfig::default()
            }),
            ..PodSandboxConfig::default()
        }
    }

    /// The configuration of a container with the same name, mounts and hidden paths. `given` has
    /// paths on this node for paths in the container.
    ///
    /// # Errors
    /// If a mount is of a path that this node does not have.
    pub(super) fn container(
        &self,
        given: &BTreeMap<String, String>,
    ) -> Result<ContainerConfig, Fault> {
        let paths = |key: &str| -> Vec<String> {
            let list = self.spec.linux.as_ref().and_then(|linux| linux.other.get(key)?.as_array());
            let paths = list.into_iter().flatten().filter_map(|path| path.as_str());
            paths.map(str::to_owned).collect()
        };
        let security = LinuxContainerSecurityContext {
            namespace_options: Some(self.namespaces()),
            masked_paths: paths("maskedPaths"),
            readonly_paths: paths("readonlyPaths"),
            ..LinuxContainerSecurityContext::default()
        };
        Ok(ContainerConfig {
            metadata: Some(ContainerMetadata { name: self.name(), attempt: 0 }),
            image: Some(ImageSpec {
                user_specified_image: self.identity.image.clone(),
                ..ImageSpec::default()
            }),
            mounts: self.mounts(given)?,
            labels: BTreeMap::from([(CONTAINER_NAME.to_owned(), self.name())]),
            log_path: format!("{}.log", self.name()),
            tty: self.spec.process.as_ref().is_some_and(|process| process.terminal),
            linux: Some(LinuxContainerConfig { security_context: Some(security), resources: None }),
            ..ContainerConfig::default()
        })
    }

    fn name(&self) -> String {
        let name = &self.identity.container;
        if name.is_empty() { "restored".into() } else { name.clone() }
    }

    fn labels(&self, pod: &PodSandboxMetadata) -> BTreeMap<String, String> {
        let rows = [(POD_NAME, &pod.name), (POD_NAMESPACE, &pod.namespace), (POD_UID, &pod.uid)];
        rows.map(|(key, value)| (key.to_owned(), value.clone())).into()
    }

    fn namespaces(&self) -> NamespaceOption {
        let found = self.spec.linux.iter().flat_map(|linux| &linux.namespaces);
        let found: BTreeMap<&str, &str> = found.map(|n| (&*n.kind, &*n.path)).collect();
        let mode = |kind: &str| match found.get(kind) {
            None => NamespaceMode::Node,
            Some(&"") => NamespaceMode::Container,
            Some(_) => NamespaceMode::Pod,
        };
        let mut options = NamespaceOption::default();
        options.set_network(mode("network"));
        options.set_pid(mode("pid"));
        options.set_ipc(mode("ipc"));
        options
    }

    fn mounts(&self, given: &BTreeMap<String, String>) -> Result<Vec<proto::Mount>, Fault> {
        let binds =
            self.spec.mounts.iter().filter(|mount| mount.kind == "bind" && !is_engine_s(mount));
        let mut mounts = Vec::new();
        for mount in binds {
            let host_path = given.get(&mount.destination).unwrap_or(&mount.source);
            if !Path::new(host_path).exists() {
                let archive = &self.archive;
                let (host_path, to) = (one_line(host_path), one_line(&mount.destination));
                return Err(Fault::Failed(format!(
                    "{archive}: the container has {host_path} mounted at {to}, and this node has \
                     no such path: name another one with --mount PATH:{to}"
                )));
            }
            mounts.push(proto::Mount {
                container_path: mount.destination.clone(),
                host_path: host_path.clone(),
                readonly: mount.options.iter().any(|option| option == "ro"),
                ..proto::Mount::default()
            });
        }
        let destinations: Vec<_> = mounts.iter().map(|mount| &mount.container_path).collect();
        match given.keys().find(|path| !destinations.contains(path)) {
            Some(path) => Err(Fault::usage(format!(
                "--mount: the container has no mount of a path at {path}"
            ))),
            None => Ok(mounts),
        }
    }
}

/// Tells if a mount is one that the engine makes for each container of a pod.
fn is_engine_s(mount: &Mount) -> bool {
    ENGINE_S.contains(&&*mount.destination)
        && (mount.source.contains("/sandboxes/") || mount.source.contains("/userdata/"))
}

/// Places of the mounts that engines make of files of the sandbox.
const ENGINE_S: [&str; 5] =
    ["/dev/shm", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/run/.containerenv"];

/// Labels by which a kubelet and crictl know pods and containers.
const POD_NAME: &str = "io.kubernetes.pod.name";
const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
const POD_UID: &str = "io.kubernetes.pod.uid";
const CONTAINER_NAME: &str = "io.kubernetes.container.name";
