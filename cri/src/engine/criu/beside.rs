//! Processes in a container that are not of its tree.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use criu_rs::Pid;
use criu_rs::oci::ContainerCheckpoint;

use crate::engine::error::EngineError;

/// A container whose processes are looked at.
#[derive(Debug)]
pub(super) struct Looked {
    pub(super) name: String,
    pub(super) first: Pid,
    pub(super) checkpoint: ContainerCheckpoint,
}

impl Looked {
    /// Refuses a container in which processes run beside the tree of the first one, as an exec
    /// session adds them: in its cgroup, or in a pid namespace of its own. CRIU saves the tree.
    pub(super) fn check(&self) -> Result<(), EngineError> {
        let mut all = self.checkpoint.beside();
        if let Some(cgroup) = self.checkpoint.freezer() {
            let mut parents = HashMap::new();
            let members = members(cgroup, MAX_DEPTH).into_iter();
            all.extend(members.filter(|&pid| !is_below(pid, self.first, &mut parents)));
        }
        all.sort_unstable();
        all.dedup();
        let named = |pid: Pid| Some((pid, status(pid)?.name)).filter(|_| pid != self.first);
        let processes: Vec<_> = all.into_iter().filter_map(named).collect();
        if processes.is_empty() {
            return Ok(());
        }
        Err(EngineError::Beside { name: self.name.clone(), processes })
    }
}

/// Returns the processes in a cgroup and in those below.
fn members(cgroup: &Path, depth: usize) -> Vec<Pid> {
    let text = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    let mut all: Vec<Pid> = text.lines().filter_map(|line| line.trim().parse().ok()).collect();
    if let Some(depth) = depth.checked_sub(1) {
        for entry in fs::read_dir(cgroup).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                all.extend(members(&entry.path(), depth));
            }
        }
    }
    all
}

/// Says whether a process is another one's descendant, is the process itself, or has ended.
fn is_below(process: Pid, first: Pid, parents: &mut HashMap<Pid, Option<Pid>>) -> bool {
    let Some(found) = status(process) else { return true };
    let mut next = found.parent;
    let mut current = process;
    // Numbers that are used again could make a circle.
    for _ in 0..MAX_TREE {
        if current == first {
            return true;
        }
        let Some(parent) = next else { return false };
        current = parent;
        let of = |pid| status(pid).and_then(|found| found.parent);
        next = *parents.entry(parent).or_insert_with(|| of(parent));
    }
    false
}

/// Facts about a process that has not ended.
struct Status {
    name: String,
    /// `None` for a parent that is not seen from here.
    parent: Option<Pid>,
}

fn status(process: Pid) -> Option<Status> {
    let text = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let field = |name: &str| {
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
    };
    if field("State")?.starts_with(['Z', 'X']) {
        return None;
    }
    let parent = field("PPid")?.parse().ok();
    Some(Status { name: field("Name")?.to_owned(), parent })
}

/// Depth of cgroups below the container's.
const MAX_DEPTH: usize = 32;

/// Longest way up from a process: as many as the kernel has numbers for processes.
const MAX_TREE: usize = 4 << 20;
