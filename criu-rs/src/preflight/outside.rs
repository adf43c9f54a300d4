//! The descriptors of other processes: of those outside the tree, or of all on this host.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use procfs::process::Process;

use super::live::Tree;
use super::proc;
use crate::host::tree::descendants;
use crate::value::Pid;

/// Calls `each` with each descriptor of a process outside the tree, as [`descriptors`] does.
pub(super) fn each_descriptor(tree: &Tree, mut each: impl FnMut(Pid, i32, &Path)) {
    let mut inside: HashSet<Pid> = tree.tasks.iter().map(|task| task.pid).collect();
    // Children that were made since the look at the tree belong to it, too.
    inside.extend(tree.root().into_iter().flat_map(|root| descendants(root.pid)));
    // Some are made during the walk. The last process that was asked about, and the answer.
    let mut last = None;
    descriptors(&inside, |pid, number, link| {
        let known = last.filter(|(of, _)| *of == pid).map(|(_, is_child)| is_child);
        let is_child = known.unwrap_or_else(|| has_ancestor(pid, &inside));
        last = Some((pid, is_child));
        if !is_child {
            each(pid, number, link);
        }
    });
}

/// Returns true if one of the ancestors of a process, or the process, is in a set.
fn has_ancestor(pid: Pid, of: &HashSet<Pid>) -> bool {
    let parent = |pid: &Pid| {
        let process = Process::new(pid.as_raw()).ok()?;
        Pid::new(process.stat().ok()?.ppid)
    };
    std::iter::successors(Some(pid), parent).take(DEPTH).any(|pid| of.contains(&pid))
}

/// Most ancestors that are asked for. A young process has few below the tree that was seen.
const DEPTH: usize = 16;

/// Calls `each` with each descriptor of a process that is not in `but`: the process, the number and
/// the link. Processes whose descriptors this process may not read are left out. Returns false if
/// there are more descriptors than it looks at.
pub(super) fn descriptors(but: &HashSet<Pid>, mut each: impl FnMut(Pid, i32, &Path)) -> bool {
    let mut budget = MAX_LOOKED_AT;
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    for pid in pids.filter_map(Pid::new).filter(|pid| !but.contains(pid)) {
        for entry in fs::read_dir(proc::of(pid, "fd")).into_iter().flatten().flatten() {
            if budget == 0 {
                return false;
            }
            budget -= 1;
            let number = entry.file_name().to_str().and_then(|name| name.parse().ok());
            if let (Some(number), Ok(link)) = (number, fs::read_link(entry.path())) {
                each(pid, number, &link);
            }
        }
    }
    true
}

/// Most descriptors that are looked at. Each takes about 2 microseconds.
const MAX_LOOKED_AT: usize = 200_000;
