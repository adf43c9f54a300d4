//! Checks of the processes: whether they can be stopped and saved at all.

use std::collections::HashSet;

use super::finding::{Finding, Severity};
use super::live::{Task, Tree};
use super::look::Look;
use super::need::Need;
use super::proc;
use crate::diagnosis::Cause;
use crate::host::namespaces::number;
use crate::host::tree::threads;
use crate::value::{Pid, Version};

pub(super) fn look(tree: &Tree, root: Pid, look: &Look<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    let Some(task) = tree.root() else {
        return vec![Finding::blocks(Cause::NoSuchProcess).pid(root)];
    };
    if task.is_zombie() {
        let cause = if task.threads > 1 { Cause::DeadLeader } else { Cause::DeadRoot };
        return vec![Finding::blocks(cause).pid(root)];
    }
    let headless = tree.tasks.iter().filter(|task| task.is_zombie() && task.threads > 1);
    found.extend(headless.map(|task| Finding::blocks(Cause::DeadLeader).pid(task.pid)));
    if task.is_kernel {
        let what = Finding::new(Severity::Blocks, "a kernel thread cannot be saved");
        return vec![what.pid(root)];
    }
    if tree.is_cut {
        let what = "the tree is large, and only a part of it was checked";
        found.push(Finding::new(Severity::Loses, what));
    }
    if tree.has(Pid::this().as_raw()) {
        found.push(Finding::blocks(Cause::InsideTree).pid(Pid::this()));
    }
    sessions(tree, look, &mut found);
    namespaces(tree, look, &mut found);
    for task in tree.alive() {
        if let Some(tracer) = task.tracer() {
            let by = format!("by process {tracer}");
            found.push(Finding::blocks(Cause::Traced).pid(task.pid).detail(by));
        }
        if task.state == 'D' {
            let what = "a process waits in the kernel and cannot be stopped now";
            let hint = "wait until the process goes on: CRIU gives up after 10 s, or after the \
                        time limit of the dump";
            found.push(Finding::new(Severity::Loses, what).pid(task.pid).hint(hint));
        }
    }
    let ended = tree.tasks.len() - tree.alive().count();
    if ended > 0 {
        let what = "processes that have ended but were not reaped are saved as zombies";
        found.push(Finding::new(Severity::Info, what).detail(format!("{ended} of them")));
    }
    found
}

fn sessions(tree: &Tree, look: &Look<'_>, found: &mut Vec<Finding>) {
    let Some(root) = tree.root() else { return };
    for task in tree.tasks.iter().filter(|task| task.inner_session() == Some(0)) {
        let detail = "its session leader is outside the pid namespace";
        let hint = "start it with setsid in the pid namespace, or dump the leader's tree";
        let finding = Finding::blocks(Cause::ForeignSession).pid(task.pid).detail(detail);
        found.push(finding.hint(hint));
    }
    if root.session != root.pid.as_raw() && root.inner_session() != Some(0) {
        let is_set = look.opts.shell_job();
        let finding = Finding::needs(Cause::ForeignSession, vec![Need::ShellJob], is_set);
        let detail = format!("it is in the session of process {}", root.session);
        found.push(finding.pid(root.pid).detail(detail));
    }
}

fn namespaces(tree: &Tree, look: &Look<'_>, found: &mut Vec<Finding>) {
    let Some(root) = tree.root() else { return };
    let mut told = HashSet::new();
    for task in tree.alive() {
        for nested in task.namespaces.nested(task.pid, &root.namespaces, &tree.here) {
            // Children inherit the namespace: the first of them tells.
            if told.insert((nested.kind, nested.inode)) {
                let finding = Finding::blocks(Cause::NestedNamespace).pid(task.pid);
                let detail = format!("its {} namespace is {}", nested.kind, nested.whose());
                found.push(finding.inode(nested.inode).detail(detail));
            }
        }
    }
    for task in tree.alive().filter(|task| task.threads > 1) {
        found.extend(thread_apart(task));
    }
    let wants = tree.saves("user") && !tree.saves("mnt") && look.version >= Version::new(4, 3, 0);
    let kernel = proc::text("/proc/filesystems").unwrap_or_default();
    if wants && kernel.lines().any(|line| line.ends_with("binfmt_misc")) {
        found.push(Finding::blocks(Cause::NoBinfmtMisc).pid(root.pid));
    }
    if tree.saves("pid") && root.inner_pid().is_some_and(|pid| pid != 1) {
        found.push(Finding::blocks(Cause::NoInit).pid(root.pid));
    }
}

/// Checks for a thread in a namespace that its process is not in.
fn thread_apart(task: &Task) -> Option<Finding> {
    let threads = threads(task.pid).into_iter().take(MAX_THREADS);
    threads.filter(|&tid| tid != task.pid).find_map(|tid| {
        let own = |kind: &&str| {
            number(&format!("/proc/{}/task/{tid}/ns/{kind}", task.pid))
                .is_some_and(|inode| Some(inode) != task.namespaces.get(kind))
        };
        let kind = ["net", "mnt", "uts", "ipc", "cgroup"].into_iter().find(own)?;
        let what = "a thread in a namespace of its own comes back in that of its process";
        let finding = Finding::new(Severity::Loses, what).pid(task.pid);
        Some(finding.detail(format!("the {kind} namespace of thread {tid}")))
    })
}

/// Most threads of a process whose namespaces are compared.
const MAX_THREADS: usize = 1000;
