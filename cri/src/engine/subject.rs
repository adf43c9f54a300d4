//! The containers that an engine saves, and the places into which it restores them.

use std::collections::{BTreeSet, HashSet};
use std::path::{Component, Path, PathBuf};

use criu_archive::record::Record;
use criu_rs::Pid;

use super::error::EngineError;

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

impl Subject {
    /// Refuses a subject that is no pod.
    pub(super) fn check(&self) -> Result<(), EngineError> {
        if self.containers.is_empty() {
            return Err(EngineError::invalid("a checkpoint", "no container, wanted one or more"));
        }
        let mut names = HashSet::new();
        for Running { name, .. } in &self.containers {
            let of = || format!("the container `{}`", name.escape_debug());
            if !is_folder(name) {
                return Err(EngineError::invalid(of(), "wanted a name that a folder can have"));
            }
            if !names.insert(name) {
                return Err(EngineError::invalid(of(), "another container has this name, too"));
            }
        }
        Ok(())
    }
}

impl Place {
    /// Refuses a place that does not name exactly the containers of the record.
    pub(super) fn check(&self, record: &Record) -> Result<(), EngineError> {
        let saved: BTreeSet<&str> = record.containers.iter().map(|one| one.name.as_str()).collect();
        let wanted: BTreeSet<&str> = self.containers.iter().map(|one| one.name.as_str()).collect();
        let names = |names: &BTreeSet<&str>| {
            let shown: Vec<_> = names.iter().map(|name| name.escape_debug().to_string()).collect();
            if shown.is_empty() { "none".into() } else { shown.join(", ") }
        };
        if saved != wanted || wanted.len() != self.containers.len() || saved.is_empty() {
            let why = format!("found {}, wanted {}", names(&wanted), names(&saved));
            return Err(EngineError::invalid("the containers to restore", why));
        }
        match wanted.iter().find(|name| !is_folder(name)) {
            Some(name) => {
                let what = format!("the container `{}`", name.escape_debug());
                Err(EngineError::invalid(what, "wanted a name that a folder can have"))
            }
            None => Ok(()),
        }
    }
}

/// Says whether a name or an id can be the name of a folder.
pub(crate) fn is_folder(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    let is_normal = matches!(parts.next(), Some(Component::Normal(_)));
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
