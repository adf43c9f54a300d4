//! The containers that an engine saves, and the places into which it restores them.

use std::path::{Path, PathBuf};

use criu_rs::Pid;

/// The containers of a sandbox, as they run.
#[derive(Clone, Debug, Default)]
pub struct Subject {
    /// The sandbox that the containers share, if they are in one.
    pub sandbox: Option<Sandbox>,
    /// The path of the pod's cgroup from the root of its hierarchy, such as `/kubepods/pod7`. It
    /// holds all containers and nothing of others. Without it the containers are frozen one after
    /// another.
    pub cgroup: Option<PathBuf>,
    /// The containers to save.
    pub containers: Vec<Running>,
}

/// A sandbox: what the containers of a pod share.
#[derive(Clone, Debug)]
pub struct Sandbox {
    /// The runtime's id of the sandbox.
    pub id: String,
    /// The bundle of the sandbox's own container, if its runtime has one.
    pub bundle: Option<PathBuf>,
    /// The process that holds the namespaces of the sandbox, if there is one.
    pub pid: Option<Pid>,
}

/// A container that runs.
#[derive(Clone, Debug)]
pub struct Running {
    /// The name of the container in its pod: a folder of the checkpoint is called so.
    pub name: String,
    /// The runtime's id of the container.
    pub id: String,
    /// The bundle: the directory that holds `config.json`.
    pub bundle: PathBuf,
    /// The first process of the container.
    pub pid: Pid,
}

/// The place into which containers are restored.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// The sandbox that the containers are to share, if they are to be in one.
    pub sandbox: Option<Sandbox>,
    /// The containers, by the names in the checkpoint: all of it, and no others.
    pub containers: Vec<Target>,
    /// An existing directory for the state of a runtime.
    pub state: PathBuf,
}

/// A container to restore.
#[derive(Clone, Debug)]
pub struct Target {
    /// The name of the container in the checkpoint.
    pub name: String,
    /// The id that the container is to have.
    pub id: String,
    /// The bundle of the new container.
    pub bundle: PathBuf,
}

/// Says whether a name or an id can be the name of a folder.
pub(crate) fn is_folder(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    let is_normal = matches!(parts.next(), Some(std::path::Component::Normal(_)));
    let fits = name.len() <= MAX_NAME && !name.contains(['/', '\0']);
    is_normal && parts.next().is_none() && fits
}

/// Longest name of a container: the kernel's limit of a file name.
const MAX_NAME: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_out_of_the_directory_are_no_folders() {
        assert!(is_folder("web") && is_folder("web.1"));
        let long = "a".repeat(MAX_NAME + 1);
        for name in ["", ".", "..", "/", "a/b", "../a", "a/", "a\0b", &long] {
            assert!(!is_folder(name), "{name}");
        }
    }
}
