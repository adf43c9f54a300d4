//! Comparison of two checkpoints of one container or process tree.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use criu_images::view::{Process, Ps};
use criu_images::{Diff, TaskDiff};
use serde::Serialize;

use super::{Inspection, Origin, Part, Place};
use crate::error::{Error, ErrorKind, Result};

/// Differences between an older and a newer checkpoint of one container or process tree.
///
/// ```no_run
/// use criu_archive::Archive;
/// use criu_archive::inspection::{Comparison, Place};
///
/// let old = Place::archive(Archive::open("monday.tar")?, "checkpoint")?;
/// let new = Place::archive(Archive::open("tuesday.tar")?, "checkpoint")?;
/// for process in Comparison::new(&old, &new, false)?.processes {
///     println!("{} {} {}", process.change, process.pid, process.name);
/// }
/// # Ok::<(), criu_archive::Error>(())
/// ```
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Comparison {
    /// Version of the form of the JSON, as that of an [`Inspection`].
    pub schema: u32,
    /// Place of the older checkpoint.
    pub old: Origin,
    /// Place of the newer checkpoint.
    pub new: Origin,
    /// Facts about the container that differ.
    pub container: Vec<Change>,
    /// Processes of both checkpoints, as a tree: each is followed by its descendants.
    pub processes: Vec<ProcessChange>,
    /// Changed files of the container's root file system: files that only one checkpoint has in
    /// its list, or that differ in it.
    pub rootfs: Vec<Change>,
    /// Tasks, descriptors, mappings, pages and sockets that differ.
    pub diff: Diff,
}

/// Fact or file that differs. A side without it is `None`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Change {
    /// Name of the fact, or path of the file.
    pub what: String,
    /// Value in the older checkpoint.
    pub old: Option<String>,
    /// Value in the newer checkpoint.
    pub new: Option<String>,
}

/// A process of one or both checkpoints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ProcessChange {
    /// "added", "removed", "changed" or "unchanged".
    pub change: &'static str,
    /// Id of the process.
    pub pid: u32,
    /// Id of the parent; 0 for the root.
    pub ppid: u32,
    /// Distance from the root of the tree.
    pub depth: usize,
    /// Name in the newer checkpoint, or in the older one if the process is gone.
    pub name: String,
    /// Command line in the newer checkpoint, or in the older one if the process is gone.
    pub command: Option<Vec<String>>,
    /// Command line and environment variables that differ.
    pub changes: Vec<Change>,
    /// Pages of the memory that differ.
    pub pages: u64,
}

impl Comparison {
    /// Compares two checkpoints, the older first. With `environments`, environment variables are
    /// compared, too; they may hold secrets.
    ///
    /// # Errors
    /// The errors of reading the images and pages of both, as [`ErrorKind::Images`].
    pub fn new(old: &Place, new: &Place, environments: bool) -> Result<Self> {
        let parts = [Part::Processes, Part::Commands, Part::Environments, Part::Rootfs];
        let parts = parts.into_iter().filter(|part| environments || *part != Part::Environments);
        let parts: Vec<Part> = parts.collect();
        let (before, after) = (Inspection::new(old, &parts)?, Inspection::new(new, &parts)?);
        let tree = |place| super::checkpoint(place);
        let diff = Diff::new(tree(old)?, tree(new)?);
        let diff = diff.map_err(|error| Error::new(new.name(), ErrorKind::Images(error)))?;
        let processes = |inspection: &Inspection| match &inspection.ps {
            Some(Ps { processes, .. }) => processes.clone(),
            None => Vec::new(),
        };
        Ok(Self {
            schema: super::SCHEMA,
            container: changes(facts(&before), facts(&after)),
            processes: tree_of(&processes(&before), &processes(&after), &diff),
            rootfs: changes(files(&before), files(&after)),
            old: before.source,
            new: after.source,
            diff,
        })
    }

    /// Returns true if nothing has changed but the time of the checkpoint.
    pub fn is_empty(&self) -> bool {
        let same = |process: &ProcessChange| process.change == "unchanged";
        self.container.iter().all(|change| change.what == CHECKPOINTED)
            && self.diff.is_empty()
            && self.rootfs.is_empty()
            && self.processes.iter().all(same)
    }
}

/// Facts about the container, by name.
fn facts(inspection: &Inspection) -> BTreeMap<String, String> {
    let mut facts = BTreeMap::new();
    let Some(container) = &inspection.container else { return facts };
    let mut fact = |name: &str, value: &Option<String>| {
        if let Some(value) = value {
            facts.insert(name.to_owned(), value.clone());
        }
    };
    fact("name", &container.name);
    fact("id", &container.id);
    fact("image", &container.image);
    fact("image reference", &container.image_ref);
    fact("runtime", &container.runtime);
    fact("created", &container.created);
    fact(CHECKPOINTED, &container.checkpointed);
    fact("restored", &container.restored);
    fact("engine", &container.engine.map(|engine| engine.word().to_owned()));
    for network in &container.networks {
        let name = format!("address in {} {}", network.network, network.interface);
        fact(&name, &Some(network.addresses.join(", ")));
    }
    facts
}

/// Changed files of the root file system, with what the list says of each.
fn files(inspection: &Inspection) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    if let Some(rootfs) = &inspection.rootfs {
        for file in rootfs.changed.iter().filter(|file| file.kind != "directory") {
            let facts = format!(
                "{} of {} bytes, mode {:o}, changed at {}",
                file.kind, file.bytes, file.mode, file.modified
            );
            files.insert(file.path.clone(), facts);
        }
        let deleted = rootfs.deleted.iter();
        files.extend(deleted.map(|path| (path.clone(), "deleted".to_owned())));
    }
    files
}

/// Compares values with the same name.
fn changes(old: BTreeMap<String, String>, new: BTreeMap<String, String>) -> Vec<Change> {
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let change = |name: &String| {
        let (old, new) = (old.get(name).cloned(), new.get(name).cloned());
        (old != new).then(|| Change { what: name.clone(), old, new })
    };
    names.into_iter().filter_map(change).collect()
}

/// Merges the processes of both into one tree.
fn tree_of(old: &[Process], new: &[Process], diff: &Diff) -> Vec<ProcessChange> {
    let before: HashMap<u32, &Process> = old.iter().map(|process| (process.pid, process)).collect();
    let after: HashMap<u32, &Process> = new.iter().map(|process| (process.pid, process)).collect();
    let diffs: HashMap<u32, &TaskDiff> = diff.changed.iter().map(|task| (task.pid, task)).collect();
    let gone = old.iter().filter(|process| !after.contains_key(&process.pid));
    let all: Vec<&Process> = new.iter().chain(gone).collect();
    let known: BTreeSet<u32> = all.iter().map(|process| process.pid).collect();
    let mut children: HashMap<u32, Vec<&Process>> = HashMap::new();
    let mut waiting: Vec<(usize, &Process)> = Vec::new();
    for process in all.iter().rev() {
        // The root has no parent, and a root that is gone stands beside the new one.
        if known.contains(&process.ppid) && process.ppid != process.pid {
            children.entry(process.ppid).or_default().push(process);
        } else {
            waiting.push((0, process));
        }
    }
    let mut tree = Vec::with_capacity(all.len());
    while let Some((depth, process)) = waiting.pop() {
        let pid = process.pid;
        let below = children.remove(&pid).unwrap_or_default();
        waiting.extend(below.into_iter().map(|child| (depth + 1, child)));
        let changes = match (before.get(&pid), after.get(&pid)) {
            (Some(old), Some(new)) => words(old, new),
            _ => Vec::new(),
        };
        let task = diffs.get(&pid);
        let change = match (before.contains_key(&pid), after.contains_key(&pid)) {
            (false, _) => "added",
            (_, false) => "removed",
            _ if task.is_some() || !changes.is_empty() => "changed",
            _ => "unchanged",
        };
        let dirty = task.iter().flat_map(|task| &task.dirty).map(|mapping| mapping.dirty);
        tree.push(ProcessChange {
            change,
            pid,
            ppid: process.ppid,
            depth,
            name: process.name.clone(),
            command: process.arguments.clone(),
            changes,
            pages: dirty.fold(0, u64::saturating_add),
        });
    }
    tree
}

/// Compares command lines and environments.
fn words(old: &Process, new: &Process) -> Vec<Change> {
    let facts = |process: &Process| -> BTreeMap<String, String> {
        let mut facts = BTreeMap::new();
        if let Some(words) = &process.arguments {
            facts.insert("command".to_owned(), words.join(" "));
        }
        for word in process.environment.iter().flatten() {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            facts.insert(format!("environment {name}"), value.to_owned());
        }
        facts
    };
    changes(facts(old), facts(new))
}

/// Name of the fact that differs between any two checkpoints.
const CHECKPOINTED: &str = "checkpointed";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inspection::Container;

    #[test]
    fn a_container_that_differs_in_more_than_the_time_of_its_checkpoint_has_changed() {
        let place = Place::directory("../images/tests/data/pipeline", "").unwrap();
        let comparison = |image: &str| {
            let inspection = |image: &str, time: &str| {
                let mut found = Inspection::new(&place, &[]).unwrap();
                let (image, checkpointed) = (Some(image.to_owned()), Some(time.to_owned()));
                found.container = Some(Container { image, checkpointed, ..Container::default() });
                found
            };
            let old = inspection("redis:7", "2024-05-01T12:30:00Z");
            let new = inspection(image, "2024-05-02T12:30:00Z");
            Comparison {
                schema: 1,
                container: changes(facts(&old), facts(&new)),
                processes: Vec::new(),
                rootfs: Vec::new(),
                old: old.source,
                new: new.source,
                diff: Diff::default(),
            }
        };
        let (same, other) = (comparison("redis:7"), comparison("redis:8"));
        assert_eq!((same.container.len(), other.container.len()), (1, 2));
        assert!(same.is_empty() && !other.is_empty());
    }
}
