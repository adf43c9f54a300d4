//! Configurations as JSON, in the form in which Go programs write them.
//!
//! containerd shows its configurations so in verbose answers, crictl reads its files so, and both
//! engines keep `pod-config.json` so. Names are those of the interface, and enums are numbers.

use prost::Message;
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer};

use super::kept::Kept;

/// A configuration that was read from JSON.
#[derive(Clone, Debug, PartialEq)]
pub struct FromJson<T> {
    /// The configuration.
    pub config: Kept<T>,
    /// Paths of fields that the interface does not have, which are lost.
    pub ignored: Vec<String>,
}

impl<T: Message + Default + DeserializeOwned> Kept<T> {
    /// Reads a configuration from JSON.
    ///
    /// # Errors
    /// If the text is not JSON, or a field has a value of another type.
    pub fn from_json(text: &str) -> serde_json::Result<FromJson<T>> {
        let mut ignored = Vec::new();
        let mut from = serde_json::Deserializer::from_str(text);
        let read = serde_ignored::deserialize(&mut from, |path| ignored.push(path.to_string()));
        let message: T = read?;
        from.end()?;
        Ok(FromJson { config: Self::new(&message), ignored })
    }
}

/// Reads bytes, which Kubernetes writes as a string.
pub(super) fn bytes<'d, D: Deserializer<'d>>(from: D) -> Result<Vec<u8>, D::Error> {
    String::deserialize(from).map(String::into_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{ContainerConfig, NamespaceMode, PodSandboxConfig, Signal};

    #[test]
    fn a_pod_of_crictl_is_read() {
        let text = r#"{
            "metadata": {"name": "web", "namespace": "shop", "uid": "u", "attempt": 1},
            "log_directory": "/var/log/pods/web",
            "port_mappings": [{"protocol": 1, "container_port": 53}],
            "labels": {"a": "b"},
            "linux": {
                "cgroup_parent": "/kubepods/u",
                "security_context": {"namespace_options": {"network": 2, "pid": 1}, "sysctls": {}}
            },
            "windows": {"security_context": {}}
        }"#;
        let FromJson { config, ignored } =
            Kept::<PodSandboxConfig>::from_json(text).expect("a configuration");
        assert_eq!(ignored, ["linux.?.security_context.?.sysctls", "windows"]);
        let pod = config.read().expect("a configuration");
        let metadata = pod.metadata.expect("metadata");
        assert_eq!((metadata.name.as_str(), metadata.attempt), ("web", 1));
        assert_eq!((&*pod.log_directory, &*pod.labels["a"]), ("/var/log/pods/web", "b"));
        let security = pod.linux.expect("linux").security_context.expect("a context");
        let namespaces = security.namespace_options.expect("namespaces");
        assert_eq!(namespaces.network(), NamespaceMode::Node);
    }

    #[test]
    fn a_container_of_containerd_is_read() {
        let text = r#"{
            "metadata": {"name": "c"},
            "image": {"image": "sha256:0123", "user_specified_image": "registry.example/c:1"},
            "envs": [{"key": "A", "value": "1"}, {"key": "B"}],
            "mounts": [{"container_path": "/a", "host_path": "/b", "uidMappings": [{"length": 1}]}],
            "CDI_devices": [{"name": "vendor.com/gpu=0"}],
            "linux": {"resources": {"cpu_quota": -1}, "security_context": {"apparmor_profile": "p"}},
            "stop_signal": 10
        }"#;
        let FromJson { config, ignored } =
            Kept::<ContainerConfig>::from_json(text).expect("a configuration");
        assert_eq!(ignored, [""; 0]);
        let container = config.read().expect("a configuration");
        assert_eq!(container.envs[0].value, b"1");
        assert_eq!(container.mounts[0].uid_mappings[0].length, 1);
        assert_eq!(container.cdi_devices[0].name, "vendor.com/gpu=0");
        assert_eq!(container.stop_signal(), Signal::Sigint);
        assert_eq!(container.linux.expect("linux").resources.expect("resources").cpu_quota, -1);
    }

    #[test]
    fn wrong_json_is_refused() {
        for text in ["", "[1]", "{} {}", r#"{"hostname": 1}"#, r#"{"linux": []"#] {
            assert!(Kept::<PodSandboxConfig>::from_json(text).is_err(), "{text}");
        }
        let deep = "[".repeat(100_000);
        let text = format!(r#"{{"more": {deep}"#);
        assert!(Kept::<PodSandboxConfig>::from_json(&text).is_err());
    }
}
