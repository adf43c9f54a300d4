//! Pods and containers by the names that people have for them.

use std::collections::BTreeMap;

use criu_cri::client::Client;
use criu_cri::proto::{Container, ContainerState, PodSandbox, PodSandboxState};

use crate::fault::Fault;
use crate::shown::one_line;

/// The sandboxes of an engine, and their containers.
pub(super) struct Node {
    pub(super) pods: Vec<Pod>,
}

/// A sandbox, and its containers.
pub(super) struct Pod {
    pub(super) sandbox: PodSandbox,
    pub(super) containers: Vec<Container>,
}

/// A pod, or a container of a pod.
#[derive(Clone, Copy)]
pub(super) enum Found<'n> {
    Pod(&'n Pod),
    Container(&'n Pod, &'n Container),
}

impl Node {
    /// Asks the engine for all sandboxes and containers.
    pub(super) async fn ask(client: &Client) -> criu_cri::Result<Self> {
        let sandboxes = client.sandboxes(None).await?;
        let mut containers: BTreeMap<String, Vec<Container>> = BTreeMap::new();
        for container in client.containers(None).await? {
            containers.entry(container.pod_sandbox_id.clone()).or_default().push(container);
        }
        let mut pods: Vec<Pod> = sandboxes
            .into_iter()
            .map(|sandbox| {
                let mut containers = containers.remove(&sandbox.id).unwrap_or_default();
                containers.sort_by_key(|container| container.created_at);
                Pod { sandbox, containers }
            })
            .collect();
        pods.sort_by_key(|pod| (pod.namespace().to_owned(), pod.name().to_owned()));
        Ok(Self { pods })
    }

    /// Finds the pod or container that a name stands for. Those that run are preferred.
    ///
    /// # Errors
    /// If none has the name, or several have.
    pub(super) fn find(&self, name: &str) -> Result<Found<'_>, Fault> {
        let all: Vec<Found<'_>> = self.all().filter(|found| found.is_called(name)).collect();
        let running: Vec<Found<'_>> = all.iter().copied().filter(Found::runs).collect();
        let fit = if running.is_empty() { &all } else { &running };
        match fit.as_slice() {
            [found] => Ok(*found),
            [] => Err(Fault::Failed(format!(
                "no pod and no container is named {name}: `criu-rs cri list --all` shows all"
            ))),
            several => {
                let names: Vec<_> = several.iter().map(Found::title).collect();
                let names = names.join("\n  ");
                Err(Fault::usage(format!("{name} is the name of several:\n  {names}")))
            }
        }
    }

    /// Finds a pod.
    ///
    /// # Errors
    /// The errors of [`Node::find`], and if the name is that of a container.
    pub(super) fn find_pod(&self, name: &str) -> Result<&Pod, Fault> {
        let pods = self.pods.iter().filter(|pod| Found::Pod(pod).is_called(name));
        let pods: Vec<_> = pods.filter(|pod| pod.runs()).collect();
        match pods.as_slice() {
            [pod] => Ok(pod),
            [] => Err(Fault::Failed(format!("no pod that runs is named {name}"))),
            _ => Err(Fault::usage(format!("{name} is the name of several pods"))),
        }
    }

    fn all(&self) -> impl Iterator<Item = Found<'_>> {
        self.pods.iter().flat_map(|pod| {
            let containers =
                pod.containers.iter().map(|container| Found::Container(pod, container));
            [Found::Pod(pod)].into_iter().chain(containers)
        })
    }
}

impl Pod {
    pub(super) fn namespace(&self) -> &str {
        self.sandbox.metadata.as_ref().map_or("", |names| &names.namespace)
    }

    pub(super) fn name(&self) -> &str {
        self.sandbox.metadata.as_ref().map_or("", |names| &names.name)
    }

    /// `NAMESPACE/POD`, for a person: the engine chooses the names.
    pub(super) fn title(&self) -> String {
        one_line(&format!("{}/{}", self.namespace(), self.name()))
    }

    pub(super) fn runs(&self) -> bool {
        self.sandbox.state() == PodSandboxState::SandboxReady
    }

    /// The containers that run.
    pub(super) fn running(&self) -> impl Iterator<Item = &Container> {
        self.containers.iter().filter(|container| runs(container))
    }
}

impl Found<'_> {
    fn runs(&self) -> bool {
        match self {
            Self::Pod(pod) => pod.runs(),
            Self::Container(_, container) => runs(container),
        }
    }

    /// `NAMESPACE/POD` or `NAMESPACE/POD/CONTAINER`, and the beginning of the id, for a person.
    fn title(&self) -> String {
        let (title, id) = match self {
            Self::Pod(pod) => (pod.title(), &pod.sandbox.id),
            Self::Container(pod, container) => {
                (format!("{}/{}", pod.title(), name_of(container)), &container.id)
            }
        };
        one_line(&format!("{title} ({})", short(id)))
    }

    fn is_called(&self, name: &str) -> bool {
        let (id, pod, last) = match self {
            Self::Pod(pod) => (&pod.sandbox.id, pod, None),
            Self::Container(pod, container) => (&container.id, pod, Some(name_of(container))),
        };
        let parts: Vec<&str> = [pod.namespace(), pod.name()].into_iter().chain(last).collect();
        let asked: Vec<&str> = name.split('/').collect();
        parts.ends_with(&asked) || (name.len() >= SHORTEST && id.starts_with(name))
    }
}

/// Tells if a container runs.
pub(super) fn runs(container: &Container) -> bool {
    container.state() == ContainerState::ContainerRunning
}

/// The name of a container in its pod.
pub(super) fn name_of(container: &Container) -> &str {
    container.metadata.as_ref().map_or("", |metadata| &metadata.name)
}

/// The beginning of an id, as crictl shows ids.
pub(super) fn short(id: &str) -> &str {
    id.get(..13).unwrap_or(id)
}

/// Fewest digits that stand for an id.
const SHORTEST: usize = 4;

#[cfg(test)]
mod tests {
    use criu_cri::proto::{ContainerMetadata, PodSandboxMetadata};

    use super::*;

    fn node() -> Node {
        let pod = |namespace: &str, name: &str, id: &str, state: PodSandboxState| {
            let metadata = PodSandboxMetadata {
                name: name.into(),
                namespace: namespace.into(),
                ..PodSandboxMetadata::default()
            };
            let sandbox = PodSandbox {
                id: id.into(),
                metadata: Some(metadata),
                state: state.into(),
                ..PodSandbox::default()
            };
            let container = |name: &str, id: &str| Container {
                id: id.into(),
                metadata: Some(ContainerMetadata { name: name.into(), attempt: 0 }),
                state: ContainerState::ContainerRunning.into(),
                ..Container::default()
            };
            let containers =
                vec![container("nginx", &format!("c{id}")), container("log", &format!("l{id}"))];
            Pod { sandbox, containers }
        };
        let (ready, over) = (PodSandboxState::SandboxReady, PodSandboxState::SandboxNotready);
        let pods = vec![
            pod("shop", "web", "aaaa1", ready),
            pod("shop", "db", "aaaa2", ready),
            pod("test", "web", "bbbb1", ready),
            pod("test", "web", "bbbb2", over),
        ];
        Node { pods }
    }

    #[test]
    fn a_name_of_the_engine_makes_no_lines_of_its_own() {
        let mut node = node();
        for pod in &mut node.pods {
            pod.sandbox.metadata.as_mut().unwrap().namespace = "a\ndo: x\x1b[8m".into();
        }
        let said = node.find("web").err().unwrap().to_string();
        assert_eq!(said.lines().count(), 3, "{said}");
        assert!(said.contains("\n  a\\ndo: x\\u{1b}[8m/web (aaaa1)"), "{said}");
    }

    #[test]
    fn names_stand_for_pods_and_containers() {
        let node = node();
        let id = |name: &str| match node.find(name) {
            Ok(Found::Pod(pod)) => pod.sandbox.id.clone(),
            Ok(Found::Container(_, container)) => container.id.clone(),
            Err(fault) => fault.to_string(),
        };
        for (name, wanted) in [
            ("db", "aaaa2"),
            ("shop/web", "aaaa1"),
            ("aaaa2", "aaaa2"),
            ("bbbb1", "bbbb1"),
            ("bbbb2", "bbbb2"),
            ("db/log", "laaaa2"),
            ("shop/web/nginx", "caaaa1"),
        ] {
            assert_eq!(id(name), wanted, "{name}");
        }
        // Of two sandboxes of one pod the one that runs is meant.
        assert_eq!(id("test/web"), "bbbb1");
        for name in ["web", "nginx", "web/nginx", "aaaa"] {
            assert!(id(name).contains("is the name of several:\n  "), "{name}: {}", id(name));
        }
        for name in ["", "aaa", "other", "shop", "shop/web/", "/db", "shop/db/nginx/x"] {
            assert!(id(name).starts_with("no pod and no container"), "{name}: {}", id(name));
        }
    }
}
